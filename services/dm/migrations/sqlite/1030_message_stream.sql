-- `number` counts the messages of a conversation without a gap; NULL where no release with numbers stored the message. `client_key` is
-- by which a frame with an id of its client is recognised for seven days.
ALTER TABLE message ADD COLUMN number INTEGER;
ALTER TABLE message ADD COLUMN client_key TEXT;
ALTER TABLE message ADD COLUMN reply_to TEXT;

CREATE UNIQUE INDEX message_number ON message (conversation, number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX message_client_key ON message (client_key) WHERE client_key IS NOT NULL;
CREATE INDEX message_client_stored_at ON message (stored_at) WHERE client_key IS NOT NULL;

-- The numbered frames of each account. One whose message is gone keeps its number, so that none is given twice.
CREATE TABLE stream_frame (
    account TEXT NOT NULL,
    seq INTEGER NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (account, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX stream_frame_message ON stream_frame (message, account);
