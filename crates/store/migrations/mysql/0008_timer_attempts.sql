-- How often a timer was postponed because it failed.
ALTER TABLE timer ADD COLUMN attempts INT NOT NULL DEFAULT 0
