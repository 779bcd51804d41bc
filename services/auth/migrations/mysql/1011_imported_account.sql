-- Rows of the legacy table `user` that `fleet import spring` has taken over. `person` is the SHA-256 of the account, which is null once it is gone:
-- who resigned here is not imported again. `session` is the session of the row's refresh token; a legacy access token of the account belongs to it. `source` and `photo`
-- are fingerprints of the legacy row, `written` of the account as the import last wrote it: an account that differs was changed here since.
CREATE TABLE imported_account (
    legacy_id BIGINT NOT NULL PRIMARY KEY,
    person CHAR(64) NOT NULL,
    account VARCHAR(255),
    session CHAR(16),
    source BINARY(16) NOT NULL,
    photo BINARY(16),
    written BINARY(16) NOT NULL,
    imported_at BIGINT NOT NULL,
    CONSTRAINT imported_account_person UNIQUE (person),
    KEY imported_account_account (account),
    CONSTRAINT imported_account_of_account FOREIGN KEY (account) REFERENCES account (account) ON DELETE SET NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
