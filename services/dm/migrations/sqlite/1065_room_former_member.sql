-- Who has left a room, the last time: a report of a message that the person saw there may arrive later. `left_after` is the number of the
-- newest message then.
CREATE TABLE room_former_member (
    room TEXT NOT NULL,
    account TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    joined_after INTEGER NOT NULL,
    left_after INTEGER NOT NULL,
    left_at INTEGER NOT NULL,
    PRIMARY KEY (room, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX room_former_member_account ON room_former_member (account);
CREATE INDEX room_former_member_left_at ON room_former_member (left_at);
