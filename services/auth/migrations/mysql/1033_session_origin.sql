-- Where a session was opened, for the person to recognise it: `device` is the client's name of itself, `place` the class of the address it
-- was last used from. Null where an older release has opened it.
ALTER TABLE session
    ADD COLUMN opened_at BIGINT,
    ADD COLUMN device VARCHAR(200),
    ADD COLUMN place VARCHAR(16);
