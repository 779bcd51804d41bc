-- When a scheduled message was taken: who gives it back must be the one who took it last.
ALTER TABLE scheduled_message ADD COLUMN taken_at INTEGER;
