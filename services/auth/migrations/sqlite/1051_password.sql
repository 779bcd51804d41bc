-- Passwords of e-mail accounts, in the PHC string format of argon2id.
CREATE TABLE password (
    account TEXT NOT NULL PRIMARY KEY REFERENCES account (account) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
