-- The last word on each pair: `account` blocks or follows `other`, or (active = 0) no longer does.
CREATE TABLE directory_relation (
    account VARBINARY(255) NOT NULL,
    other VARBINARY(255) NOT NULL,
    kind VARCHAR(20) NOT NULL,
    active BOOLEAN NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (account, other, kind),
    INDEX directory_relation_other (other, account)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
