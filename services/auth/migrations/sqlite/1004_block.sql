-- `account` wants nothing to do with `other`.
CREATE TABLE block (
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    other TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    since INTEGER NOT NULL,
    PRIMARY KEY (account, other)
) STRICT, WITHOUT ROWID;

CREATE INDEX block_other ON block (other);
