-- `due_at` is `send_at`, or while a replica sends the message the end of its lease; NULL when it was not sent, for the reason `failure`.
CREATE TABLE scheduled_message (
    id TEXT NOT NULL PRIMARY KEY,
    sender TEXT NOT NULL,
    receiver TEXT NOT NULL,
    receiver_nickname TEXT NOT NULL,
    text TEXT NOT NULL,
    send_at INTEGER NOT NULL,
    authorized_at INTEGER NOT NULL,
    due_at INTEGER,
    is_taken INTEGER NOT NULL DEFAULT 0,
    failure TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX scheduled_message_sender ON scheduled_message (sender, send_at);
CREATE INDEX scheduled_message_receiver ON scheduled_message (receiver);
CREATE INDEX scheduled_message_due_at ON scheduled_message (due_at) WHERE due_at IS NOT NULL;
