-- Resignations of late, by SHA-256 of the account: nothing written with a token issued up to `erased_until` is stored any more.
CREATE TABLE erased_account (
    account VARBINARY(64) NOT NULL PRIMARY KEY,
    erased_until BIGINT NOT NULL,
    INDEX erased_account_erased_until (erased_until)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
