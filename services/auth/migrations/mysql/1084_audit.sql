-- Every decision about people and their content. Rows are only added: they hold keyed hashes of accounts and of the note, and no personal data. `digest`
-- is over the row and the digest of the row before it.
CREATE TABLE audit (
    entry BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    action VARCHAR(32) NOT NULL,
    actor VARBINARY(32) NOT NULL,
    target VARBINARY(32) NOT NULL,
    subject VARCHAR(100) NOT NULL,
    reason VARCHAR(32) NOT NULL,
    note VARBINARY(32) NOT NULL,
    digest BINARY(32) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
