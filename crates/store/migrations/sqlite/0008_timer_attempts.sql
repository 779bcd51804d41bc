-- How often a timer was postponed because it failed.
ALTER TABLE timer ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
