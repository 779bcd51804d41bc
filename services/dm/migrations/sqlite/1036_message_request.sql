-- 1 of a message that waits in a request: only its sender sees it.
ALTER TABLE message ADD COLUMN held INTEGER;

CREATE INDEX message_held ON message (conversation, position) WHERE held IS NOT NULL;

-- The request of a conversation: its asker wrote first, and the receiver decides. `is_completing` is 1 for a short time after the decision,
-- while messages that wait are released.
CREATE TABLE message_request (
    conversation TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    asker TEXT NOT NULL,
    receiver TEXT NOT NULL,
    asker_nickname TEXT NOT NULL,
    receiver_nickname TEXT NOT NULL,
    introduction TEXT,
    state TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    decided_at INTEGER,
    is_completing INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX message_request_id ON message_request (id);
CREATE INDEX message_request_asker ON message_request (asker);
CREATE INDEX message_request_receiver ON message_request (receiver, state, id);
CREATE INDEX message_request_completing ON message_request (decided_at) WHERE is_completing = 1;
CREATE INDEX message_request_pending ON message_request (id) WHERE state = 'pending';
