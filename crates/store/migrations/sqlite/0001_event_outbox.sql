-- Events whose transaction has committed and which the relay has not published yet. An id is never used again.
CREATE TABLE event_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    record_key TEXT,
    record_value BLOB,
    headers TEXT NOT NULL,
    written_at INTEGER NOT NULL
) STRICT;
