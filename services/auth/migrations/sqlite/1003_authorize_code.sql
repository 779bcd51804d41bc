-- Codes by SHA-256, with the challenge their taker must answer. A code is taken by deleting its row.
CREATE TABLE authorize_code (
    digest BLOB NOT NULL PRIMARY KEY,
    method TEXT NOT NULL,
    challenge TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX authorize_code_expires_at ON authorize_code (expires_at);
