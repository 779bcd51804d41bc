-- When the post was last written anew; null for one that was written once.
ALTER TABLE post ADD COLUMN edited_at INTEGER;
