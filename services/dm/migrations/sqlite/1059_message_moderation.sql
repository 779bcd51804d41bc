-- Since when moderators hide a message, and when they decided last. The text stays, so that it can be restored.
ALTER TABLE message ADD COLUMN hidden_at INTEGER;
ALTER TABLE message ADD COLUMN moderated_at INTEGER;
