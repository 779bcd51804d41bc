-- Which account a hash of the audit is, as long as there is the account.
CREATE TABLE audit_account (
    hash BINARY(32) NOT NULL PRIMARY KEY,
    account VARCHAR(255) NOT NULL,
    CONSTRAINT audit_account_of FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
