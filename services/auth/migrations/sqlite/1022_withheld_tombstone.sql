-- Records with a null value that are published once no service of the legacy Spring fleet reads their topic any more.
CREATE TABLE withheld_tombstone (
    topic TEXT NOT NULL,
    account TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    PRIMARY KEY (topic, account)
) STRICT, WITHOUT ROWID;
