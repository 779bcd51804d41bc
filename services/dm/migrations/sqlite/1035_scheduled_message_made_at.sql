-- When it was scheduled: a resignation erases what is older. 0 of a message of an earlier release.
ALTER TABLE scheduled_message ADD COLUMN made_at INTEGER NOT NULL DEFAULT 0;
