-- Keys of saves that were stored, with SHA-256 of the request: until `expires_at` the same key answers again and writes nothing. `made_at` as for
-- a post.
CREATE TABLE idempotency_key (
    account VARBINARY(255) NOT NULL,
    request_key VARBINARY(128) NOT NULL,
    request BINARY(32) NOT NULL,
    expires_at BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (account, request_key),
    INDEX idempotency_key_expires_at (expires_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
