-- Codes by SHA-256, with the challenge their taker must answer. A code is taken by deleting its row.
CREATE TABLE authorize_code (
    digest BINARY(32) NOT NULL PRIMARY KEY,
    method VARCHAR(16) NOT NULL,
    challenge VARCHAR(128) NOT NULL,
    expires_at BIGINT NOT NULL,
    KEY authorize_code_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
