-- Push tokens of an account (by its SHA-256), as JSON, for records toward a Spring notice.
CREATE TABLE device (
    account TEXT NOT NULL PRIMARY KEY,
    tokens TEXT NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
