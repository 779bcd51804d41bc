-- When a message gets a push after all, unless a socket of its receiver has shown it by then.
ALTER TABLE message ADD COLUMN push_due_at INTEGER;

CREATE INDEX message_push_due_at ON message (push_due_at) WHERE push_due_at IS NOT NULL;
