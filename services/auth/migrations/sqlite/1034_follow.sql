-- `account` follows `other`. Two who follow each other are friends.
CREATE TABLE follow (
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    other TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    since INTEGER NOT NULL,
    PRIMARY KEY (account, other)
) STRICT, WITHOUT ROWID;

CREATE INDEX follow_newest ON follow (account, since);

CREATE INDEX follow_other ON follow (other, since);
