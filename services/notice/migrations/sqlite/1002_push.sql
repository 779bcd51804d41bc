-- Pushes that wait for their time, and, without due_at and content, those that need not be made (again).
CREATE TABLE push (
    event_id BLOB NOT NULL PRIMARY KEY,
    account TEXT,
    token TEXT,
    actor TEXT,
    content TEXT,
    occurred_at INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    due_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX push_due_at ON push (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX push_account ON push (account) WHERE account IS NOT NULL;
CREATE INDEX push_actor ON push (actor) WHERE actor IS NOT NULL;
CREATE INDEX push_queued_at ON push (queued_at);
