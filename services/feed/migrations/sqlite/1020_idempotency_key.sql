-- Keys of saves that were stored, with SHA-256 of the request: until `expires_at` the same key answers again and writes nothing.
CREATE TABLE idempotency_key (
    account TEXT NOT NULL,
    request_key TEXT NOT NULL,
    request BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    -- As for a post.
    made_at INTEGER NOT NULL,
    PRIMARY KEY (account, request_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_key_expires_at ON idempotency_key (expires_at);
