-- The texts of reported messages, by the number of the report, until it is decided. Without a text the report was closed: a late `reported` stores
-- none then.
CREATE TABLE reported_message (
    report INTEGER NOT NULL PRIMARY KEY,
    sender TEXT,
    receiver TEXT,
    date INTEGER,
    text TEXT,
    reported_at INTEGER NOT NULL
) STRICT;

CREATE INDEX reported_message_sender ON reported_message (sender) WHERE sender IS NOT NULL;
CREATE INDEX reported_message_receiver ON reported_message (receiver) WHERE receiver IS NOT NULL;
CREATE INDEX reported_message_reported_at ON reported_message (reported_at);
