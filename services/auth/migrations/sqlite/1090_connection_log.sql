-- The connection log, where the operator keeps one (connection-log.enabled): who connected when and from where. It stays after a resignation, as law
-- asks, until `expires_at`: `account_hash` is a keyed hash, `sealed` is the rest, AES-256-GCM bound to the hash.
CREATE TABLE connection_log (
    entry TEXT NOT NULL PRIMARY KEY,
    account_hash BLOB NOT NULL,
    sealed TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX connection_log_account ON connection_log (account_hash, expires_at);

CREATE INDEX connection_log_expires_at ON connection_log (expires_at);
