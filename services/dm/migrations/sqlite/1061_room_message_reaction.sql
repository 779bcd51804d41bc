-- JSON, account → reaction, as in `message`.
ALTER TABLE room_message ADD COLUMN reactions TEXT;

-- A resignation takes the reactions of a person back.
CREATE INDEX message_change_reacted ON message_change (account) WHERE kind = 'reacted';
