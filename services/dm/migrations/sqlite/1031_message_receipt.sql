-- 1 until the receiver has read the message; NULL also where a release without receipts stored it.
ALTER TABLE message ADD COLUMN unread INTEGER;

CREATE INDEX message_unread ON message (receiver, conversation) WHERE unread IS NOT NULL;

-- Up to which number the reader's devices have shown a conversation, and the reader has read it.
CREATE TABLE watermark (
    conversation TEXT NOT NULL,
    reader TEXT NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    read INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation, reader)
) STRICT, WITHOUT ROWID;

CREATE INDEX watermark_reader ON watermark (reader);
