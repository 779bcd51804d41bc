-- As in `message`: since when moderators hide a message of a room, and when they decided last.
ALTER TABLE room_message ADD COLUMN hidden_at INTEGER;
ALTER TABLE room_message ADD COLUMN moderated_at INTEGER;
