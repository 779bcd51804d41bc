-- The connection log, where the operator keeps one (connection-log.enabled): who connected when and from where. It stays after a resignation, as law
-- asks, until `expires_at`: `account_hash` is a keyed hash, `sealed` is the rest, AES-256-GCM bound to the hash.
CREATE TABLE connection_log (
    entry CHAR(32) NOT NULL PRIMARY KEY,
    account_hash BINARY(32) NOT NULL,
    sealed TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    KEY connection_log_account (account_hash, expires_at),
    KEY connection_log_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
