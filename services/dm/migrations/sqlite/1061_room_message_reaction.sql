-- JSON, account → reaction, as in `message`.
ALTER TABLE room_message ADD COLUMN reactions TEXT;

-- A resignation takes the reactions of a person back, also those that were made with an older token after it. `made_at`: when the token was issued;
-- null in changes of earlier releases.
ALTER TABLE message_change ADD COLUMN made_at INTEGER;
CREATE INDEX message_change_reacted ON message_change (account) WHERE kind = 'reacted';
