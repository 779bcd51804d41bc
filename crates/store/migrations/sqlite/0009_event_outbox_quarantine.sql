-- Outbox rows that cannot be read, as they were. Not strict: whatever was stored fits.
CREATE TABLE event_outbox_quarantine (
    id INTEGER PRIMARY KEY,
    topic,
    record_key,
    record_value,
    headers,
    written_at,
    reason TEXT NOT NULL,
    quarantined_at INTEGER NOT NULL
);
