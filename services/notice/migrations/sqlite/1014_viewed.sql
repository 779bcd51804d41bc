-- When a client of version 1, which does not say what was read, last opened a socket or showed a frame: the badge counts from then on.
ALTER TABLE inbox_read ADD COLUMN viewed_at INTEGER;
