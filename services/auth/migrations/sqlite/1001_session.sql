-- One sign-in on one device. `refresh_id` is the `jti` of its living refresh token, `previous_refresh_id` the one before, which is
-- forgiven for a short time. `stamped_at` is the time of the session's last event.
CREATE TABLE session (
    session TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    stamped_at INTEGER NOT NULL,
    refresh_id TEXT NOT NULL,
    refresh_issued_at INTEGER NOT NULL,
    refresh_expires_at INTEGER NOT NULL,
    previous_refresh_id TEXT,
    rotated_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX session_account ON session (account, stamped_at);
