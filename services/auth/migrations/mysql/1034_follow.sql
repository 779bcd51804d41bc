-- `account` follows `other`. Two who follow each other are friends.
CREATE TABLE follow (
    account VARCHAR(255) NOT NULL,
    other VARCHAR(255) NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (account, other),
    KEY follow_newest (account, since),
    KEY follow_other (other, since),
    CONSTRAINT follow_by FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE,
    CONSTRAINT follow_of FOREIGN KEY (other) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
