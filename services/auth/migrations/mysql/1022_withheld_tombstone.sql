-- Records with a null value that are published once no service of the legacy Spring fleet reads their topic any more.
CREATE TABLE withheld_tombstone (
    topic VARCHAR(32) NOT NULL,
    account VARCHAR(255) NOT NULL,
    occurred_at BIGINT NOT NULL,
    PRIMARY KEY (topic, account)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
