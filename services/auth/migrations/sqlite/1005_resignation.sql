-- One resignation, named by the event id of its `resign`. Who it was is known only until every service has given its receipt; what
-- stays is the proof: a keyed hash of the account and the times.
CREATE TABLE resignation (
    resignation TEXT NOT NULL PRIMARY KEY,
    account_hash BLOB NOT NULL,
    account TEXT,
    nickname TEXT,
    resigned_at INTEGER NOT NULL,
    completed_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX resignation_account_hash ON resignation (account_hash, resigned_at);
CREATE INDEX resignation_completed_at ON resignation (completed_at, resigned_at);
