-- Whether a report has hidden its content at once. Null where an older release has stored it: there it follows from the reason.
ALTER TABLE report ADD COLUMN hidden_at_once BOOLEAN;
