-- By which a frame that is sent again is recognised, for ten minutes.
ALTER TABLE message ADD COLUMN repeat_key TEXT;

CREATE UNIQUE INDEX message_repeat_key ON message (repeat_key) WHERE repeat_key IS NOT NULL;
CREATE INDEX message_repeat_stored_at ON message (stored_at) WHERE repeat_key IS NOT NULL;
