-- Every nickname under which an import has seen an account in the legacy table `user`, as it stood there: likes and messages keep the names
-- they were written under. `present` is whether it bore it at the last pass. Bytes, because `utf8mb4_bin` takes 'a' and 'a ' for the same.
CREATE TABLE imported_name (
    nickname VARBINARY(1020) NOT NULL,
    account VARCHAR(255) NOT NULL,
    present BOOLEAN NOT NULL,
    PRIMARY KEY (nickname, account),
    KEY imported_name_account (account),
    CONSTRAINT imported_name_of_account FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
