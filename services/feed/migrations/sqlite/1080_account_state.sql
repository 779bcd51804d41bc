-- The last known state of accounts that were suspended or restored: nothing that suspended accounts do is in a count. `counted` is 0 until the
-- counts of all posts with a mark or comment of the account follow the state.
CREATE TABLE account_state (
    account TEXT NOT NULL PRIMARY KEY,
    suspended INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    counted INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
