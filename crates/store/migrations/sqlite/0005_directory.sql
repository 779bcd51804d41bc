-- The last word on the nickname of an account. Without one the row remembers a resignation, so that a late older
-- event brings nothing back; then it names the person by the SHA-256 of the account alone.
CREATE TABLE directory (
    person TEXT NOT NULL PRIMARY KEY,
    account TEXT,
    nickname TEXT,
    changed_at INTEGER NOT NULL,
    resigned_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX directory_nickname ON directory (nickname) WHERE nickname IS NOT NULL;
CREATE INDEX directory_resigned_at ON directory (resigned_at) WHERE resigned_at IS NOT NULL;
