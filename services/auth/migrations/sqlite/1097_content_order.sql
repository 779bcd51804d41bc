-- Content that another service was ordered to hide or restore: the event of the order, the entry of the audit that says who ordered it, and when the
-- service that holds the content has acknowledged it. No personal data.
CREATE TABLE content_order (
    content_order TEXT NOT NULL PRIMARY KEY,
    entry INTEGER NOT NULL,
    applied_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX content_order_entry ON content_order (entry);
