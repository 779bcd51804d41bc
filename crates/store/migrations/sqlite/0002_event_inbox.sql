-- Events that were applied, by consumer.
CREATE TABLE event_inbox (
    consumer TEXT NOT NULL,
    event_id BLOB NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (consumer, event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX event_inbox_applied_at ON event_inbox (applied_at);
