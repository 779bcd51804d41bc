-- One sign-in on one device. `refresh_id` is the `jti` of its living refresh token, `previous_refresh_id` the one before, which is
-- forgiven for a short time. `stamped_at` is the time of the session's last event.
CREATE TABLE session (
    session CHAR(16) NOT NULL PRIMARY KEY,
    account VARCHAR(255) NOT NULL,
    stamped_at BIGINT NOT NULL,
    refresh_id CHAR(32) NOT NULL,
    refresh_issued_at BIGINT NOT NULL,
    refresh_expires_at BIGINT NOT NULL,
    previous_refresh_id CHAR(32),
    rotated_at BIGINT,
    KEY session_account (account, stamped_at),
    CONSTRAINT session_of_account FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
