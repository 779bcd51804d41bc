-- The code that was last sent to an address. `address_key` is a SHA-256 of the address without letter case, `seal` an HMAC of the code.
CREATE TABLE email_code (
    address_key BINARY(32) NOT NULL PRIMARY KEY,
    seal BINARY(32) NOT NULL,
    tries BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    KEY email_code_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
