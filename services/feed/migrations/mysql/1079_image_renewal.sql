-- Accounts that were suspended, until the pictures of their posts have ids that nobody else has seen.
CREATE TABLE image_renewal (
    account VARBINARY(255) NOT NULL PRIMARY KEY,
    requested_at BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
