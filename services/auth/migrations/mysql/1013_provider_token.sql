-- Refresh tokens of sign-in providers, kept to be revoked when the account resigns: `v1:<kid>:<base64>`, AES-256-GCM bound to the account.
CREATE TABLE provider_token (
    account VARCHAR(255) NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL,
    CONSTRAINT provider_token_of_account FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
