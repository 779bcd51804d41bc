-- The state that edits and a retraction have left a message of a room in. The changes are in `message_change`.
ALTER TABLE room_message ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE room_message ADD COLUMN edited_at INTEGER;
ALTER TABLE room_message ADD COLUMN retracted_at INTEGER;
