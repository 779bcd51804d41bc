-- Passwords of e-mail accounts, in the PHC string format of argon2id.
CREATE TABLE password (
    account VARCHAR(255) NOT NULL PRIMARY KEY,
    hash VARCHAR(255) NOT NULL,
    changed_at BIGINT NOT NULL,
    CONSTRAINT password_of_account FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
