-- `account` wants nothing to do with `other`.
CREATE TABLE block (
    account VARCHAR(255) NOT NULL,
    other VARCHAR(255) NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (account, other),
    KEY block_other (other),
    CONSTRAINT block_by FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE,
    CONSTRAINT block_of FOREIGN KEY (other) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
