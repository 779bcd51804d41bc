-- Accounts whose introduction and photo nobody else sees: a moderator hid them, or a report of unlawful imagery did at once. The row goes with the
-- account.
CREATE TABLE hidden_profile (
    account VARCHAR(255) NOT NULL PRIMARY KEY,
    hidden_at BIGINT NOT NULL,
    CONSTRAINT hidden_profile_of FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
