-- Accounts whose introduction and photo nobody else sees: a moderator hid them, or a report of unlawful imagery did at once. The row goes with the
-- account.
CREATE TABLE hidden_profile (
    account TEXT NOT NULL PRIMARY KEY REFERENCES account (account) ON DELETE CASCADE,
    hidden_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
