-- The state that changes have left a message in. `reactions` is JSON, account → reaction.
ALTER TABLE message ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN edited_at INTEGER;
ALTER TABLE message ADD COLUMN retracted_at INTEGER;
ALTER TABLE message ADD COLUMN reactions TEXT;

-- `content` is of an edit the text before it, of a reaction what it is.
CREATE TABLE message_change (
    message TEXT NOT NULL,
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    content TEXT,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (message, revision)
) STRICT, WITHOUT ROWID;

-- The change that a frame is about; 0 of the message itself.
ALTER TABLE stream_frame ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

DROP INDEX stream_frame_message;
CREATE UNIQUE INDEX stream_frame_message ON stream_frame (message, account, revision);

CREATE INDEX message_sent ON message (sender, position);
