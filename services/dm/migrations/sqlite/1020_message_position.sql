-- `position` is where a message stands in the server's order: its id, or for one of the legacy Spring services a UUID made of its
-- `ObjectId`. The date is the sender's phone's, and orders nothing.
ALTER TABLE message ADD COLUMN position TEXT NOT NULL DEFAULT '';
UPDATE message SET position = id;

DROP INDEX message_conversation;
CREATE INDEX message_position ON message (conversation, position);
CREATE INDEX message_date ON message (conversation, date, position);
