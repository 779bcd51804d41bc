-- What people were told, newest numbers last; the actor's nickname is looked up when it is shown.
CREATE TABLE notice (
    event_id BLOB NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    seq INTEGER NOT NULL,
    actor TEXT,
    topic TEXT NOT NULL,
    data TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX notice_account_seq ON notice (account, seq);
CREATE INDEX notice_actor ON notice (actor) WHERE actor IS NOT NULL;
CREATE INDEX notice_stored_at ON notice (stored_at);
