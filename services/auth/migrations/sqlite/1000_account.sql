-- A person by `email+provider`. `changed_at` is the time of the account's last event: the next one is later, whatever the clock says.
-- `subject` is null for an account taken over from a fleet that did not keep it, until its next sign-in.
CREATE TABLE account (
    account TEXT NOT NULL PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT,
    nickname TEXT NOT NULL,
    profile_set INTEGER NOT NULL,
    introduction TEXT NOT NULL,
    image INTEGER,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    CONSTRAINT account_nickname UNIQUE (nickname)
) STRICT, WITHOUT ROWID;
