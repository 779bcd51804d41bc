-- The last entry of the audit, locked by whoever adds one: a row that is missing at the end shows.
CREATE TABLE audit_head (
    id INT NOT NULL PRIMARY KEY,
    entry BIGINT NOT NULL,
    digest BINARY(32) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
