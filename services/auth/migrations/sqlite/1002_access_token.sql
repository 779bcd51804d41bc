-- Access tokens by SHA-256; one that is not here is not valid, whatever its signature says.
CREATE TABLE access_token (
    digest BLOB NOT NULL PRIMARY KEY,
    session TEXT NOT NULL REFERENCES session (session) ON DELETE CASCADE,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX access_token_session ON access_token (session, issued_at);
