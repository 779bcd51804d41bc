-- Access tokens by SHA-256; one that is not here is not valid, whatever its signature says.
CREATE TABLE access_token (
    digest BINARY(32) NOT NULL PRIMARY KEY,
    session CHAR(16) NOT NULL,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    KEY access_token_session (session, issued_at),
    CONSTRAINT access_token_of_session FOREIGN KEY (session) REFERENCES session (session) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
