-- Members who have asked for a role, until an admin decides.
CREATE TABLE role_application (
    account TEXT NOT NULL PRIMARY KEY REFERENCES account (account) ON DELETE CASCADE,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
