-- Services whose receipt a completed resignation did not wait for, joined by commas: those of the legacy Spring fleet give none.
ALTER TABLE resignation ADD COLUMN not_awaited VARCHAR(255);
