-- Accounts that may not come in; `ends_at` is null where only a moderator ends it. The row goes with the account.
CREATE TABLE suspension (
    account TEXT NOT NULL PRIMARY KEY REFERENCES account (account) ON DELETE CASCADE,
    reason TEXT NOT NULL,
    suspended_at INTEGER NOT NULL,
    ends_at INTEGER
) STRICT, WITHOUT ROWID;
