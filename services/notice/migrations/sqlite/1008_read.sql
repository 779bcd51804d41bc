-- Up to which number an account has read its notices.
CREATE TABLE inbox_read (
    account TEXT NOT NULL PRIMARY KEY,
    read_seq INTEGER NOT NULL,
    read_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
