-- The last known state of accounts that were suspended or restored: nothing that suspended accounts do is in a count. `counted` is 0 until the
-- counts of all posts with a mark or comment of the account follow the state.
CREATE TABLE account_state (
    account VARBINARY(255) NOT NULL PRIMARY KEY,
    suspended BOOLEAN NOT NULL,
    changed_at BIGINT NOT NULL,
    counted BOOLEAN NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
