-- Authorize codes that were used, until they expire: codes are sealed, not stored. This release no longer reads the table authorize_code;
-- it stays for replicas of the release before, which read and write it during a rolling update.
CREATE TABLE used_code (
    code BLOB NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_code_expires_at ON used_code (expires_at);
