-- `conversation` names the two accounts, in either order, by a hash. The nicknames are those of the moment the message was
-- written; the present ones are shown where they are known. `made_at` is when the token was issued that it was sent with.
CREATE TABLE message (
    id TEXT NOT NULL PRIMARY KEY,
    conversation TEXT NOT NULL,
    sender TEXT NOT NULL,
    receiver TEXT NOT NULL,
    sender_nickname TEXT NOT NULL,
    receiver_nickname TEXT NOT NULL,
    date INTEGER NOT NULL,
    text TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    -- When it was first written to a socket of the receiver.
    delivered_at INTEGER
) STRICT;

CREATE INDEX message_conversation ON message (conversation, date, id);
CREATE INDEX message_sender ON message (sender, stored_at);
CREATE INDEX message_receiver ON message (receiver, stored_at);
