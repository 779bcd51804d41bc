-- Push tokens, one a session ('' where a Spring service names none). Without a token the row remembers that it was taken
-- back, so that a late older event does not bring it again.
CREATE TABLE device (
    account TEXT NOT NULL,
    session TEXT NOT NULL,
    token TEXT,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (account, session)
) STRICT, WITHOUT ROWID;

CREATE INDEX device_token ON device (token) WHERE token IS NOT NULL;
CREATE INDEX device_changed_at ON device (changed_at);
