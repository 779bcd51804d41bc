-- Messages of rooms: `event_id` is the id of the member's push, `room` and `number` are null of a message to one person.
ALTER TABLE message ADD COLUMN room TEXT;
ALTER TABLE message ADD COLUMN number INTEGER;

CREATE INDEX message_room ON message (account, room, number) WHERE handled = 0 AND room IS NOT NULL;
CREATE INDEX message_room_occurred_at ON message (occurred_at) WHERE room IS NOT NULL;
-- Up to which number a member has read a room: also messages whose record comes later.
CREATE TABLE room_read (
    room TEXT NOT NULL,
    account TEXT NOT NULL,
    read_until INTEGER NOT NULL,
    read_at INTEGER NOT NULL,
    PRIMARY KEY (room, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX room_read_account ON room_read (account);
CREATE INDEX room_read_read_at ON room_read (read_at);
