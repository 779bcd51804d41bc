-- With which identity a session was opened: unlinking the identity closes it. Null where an older release has opened it.
ALTER TABLE session
    ADD COLUMN issuer VARCHAR(100),
    ADD COLUMN subject VARCHAR(255);
