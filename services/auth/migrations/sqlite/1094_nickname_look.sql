-- The looks of each nickname: names that look alike have one in common. Several accounts may have a look, those whose names are older than this
-- table; a name that is chosen needs looks that no other account has.
CREATE TABLE nickname_look (
    look BLOB NOT NULL,
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    PRIMARY KEY (look, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX nickname_look_account ON nickname_look (account);
