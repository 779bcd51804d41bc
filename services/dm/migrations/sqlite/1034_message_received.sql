CREATE INDEX message_received ON message (receiver, position);
