-- The push token a session was opened with. What is told of an account is all of them.
CREATE TABLE device (
    session TEXT NOT NULL PRIMARY KEY REFERENCES session (session) ON DELETE CASCADE,
    token TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
