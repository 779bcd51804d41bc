-- Accounts that may not come in; `ends_at` is null where only a moderator ends it. The row goes with the account.
CREATE TABLE suspension (
    account VARCHAR(255) NOT NULL PRIMARY KEY,
    reason VARCHAR(32) NOT NULL,
    suspended_at BIGINT NOT NULL,
    ends_at BIGINT,
    CONSTRAINT suspension_of FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
