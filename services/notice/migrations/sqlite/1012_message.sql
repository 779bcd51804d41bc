-- Messages of dm that were sent to an account, for the number on the icon. `handled`: read, or retracted.
CREATE TABLE message (
    event_id BLOB NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    sender TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    handled INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX message_unread ON message (account, sender, event_id) WHERE handled = 0;
CREATE INDEX message_account ON message (account, occurred_at);
CREATE INDEX message_sender ON message (sender, occurred_at);
CREATE INDEX message_handled ON message (occurred_at) WHERE handled = 1;
-- Up to which message an account has read those of a sender: also messages whose record comes later.
CREATE TABLE message_read (
    account TEXT NOT NULL,
    sender TEXT NOT NULL,
    read_until BLOB NOT NULL,
    read_at INTEGER NOT NULL,
    PRIMARY KEY (account, sender)
) STRICT, WITHOUT ROWID;

CREATE INDEX message_read_sender ON message_read (sender);
CREATE INDEX message_read_read_at ON message_read (read_at);
