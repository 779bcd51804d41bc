-- Rooms of up to a hundred people. `last_number` is that of the newest message.
CREATE TABLE room (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    creator TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_number INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- A member sees the messages with numbers above `joined_after`.
CREATE TABLE room_member (
    room TEXT NOT NULL,
    account TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    joined_after INTEGER NOT NULL,
    read INTEGER NOT NULL,
    PRIMARY KEY (room, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX room_member_account ON room_member (account);

-- As in `message`; `number` counts the messages of a room.
CREATE TABLE room_message (
    id TEXT NOT NULL PRIMARY KEY,
    room TEXT NOT NULL,
    sender TEXT NOT NULL,
    sender_nickname TEXT NOT NULL,
    date INTEGER NOT NULL,
    text TEXT NOT NULL,
    number INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    client_key TEXT,
    reply_to TEXT
) STRICT;

CREATE UNIQUE INDEX room_message_number ON room_message (room, number);
CREATE UNIQUE INDEX room_message_client_key ON room_message (client_key) WHERE client_key IS NOT NULL;
CREATE INDEX room_message_client_stored_at ON room_message (stored_at) WHERE client_key IS NOT NULL;
CREATE INDEX room_message_sender ON room_message (sender, id);
