-- Words that an account does not want to read, in lower case; `expires_at` is null where a word is muted for good.
CREATE TABLE muted_word (
    account VARCHAR(255) NOT NULL,
    word VARCHAR(200) NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (account, word),
    KEY muted_word_expiry (expires_at),
    CONSTRAINT muted_word_of FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
