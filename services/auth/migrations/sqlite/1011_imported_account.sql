-- Rows of the legacy table `user` that `fleet import spring` has taken over. `person` is the SHA-256 of the account, which is null once it is gone:
-- who resigned here is not imported again. `session` is the session of the row's refresh token; a legacy access token of the account belongs to it. `source` and `photo`
-- are fingerprints of the legacy row, `written` of the account as the import last wrote it: an account that differs was changed here since.
CREATE TABLE imported_account (
    legacy_id INTEGER NOT NULL PRIMARY KEY,
    person TEXT NOT NULL,
    account TEXT REFERENCES account (account) ON DELETE SET NULL,
    session TEXT,
    source BLOB NOT NULL,
    photo BLOB,
    written BLOB NOT NULL,
    imported_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX imported_account_person ON imported_account (person);
CREATE INDEX imported_account_account ON imported_account (account);
