-- A withdrawn notice keeps its number only, so that the numbers of an inbox have no gap and none comes twice.
ALTER TABLE notice ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0;
-- Up to when a notice is withdrawn: also one that comes after its withdrawal.
CREATE TABLE withdrawal (
    event_id BLOB NOT NULL PRIMARY KEY,
    withdrawn_until INTEGER NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX withdrawal_stored_at ON withdrawal (stored_at);
-- Waiting pushes of one thread (a digest) are sent as one. `taken` while a replica sends it.
ALTER TABLE push ADD COLUMN thread TEXT;
ALTER TABLE push ADD COLUMN taken INTEGER NOT NULL DEFAULT 0;
UPDATE push SET thread = lower(hex(event_id)) WHERE due_at IS NOT NULL;

CREATE INDEX push_thread ON push (thread, due_at) WHERE thread IS NOT NULL;
-- How many pushes of a thread were sent within the minute that began at that time.
CREATE TABLE push_window (
    thread TEXT NOT NULL PRIMARY KEY,
    started_at INTEGER NOT NULL,
    sent INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX push_window_started_at ON push_window (started_at);
