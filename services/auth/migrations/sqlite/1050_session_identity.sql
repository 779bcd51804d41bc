-- With which identity a session was opened: unlinking the identity closes it. Null where an older release has opened it.
ALTER TABLE session ADD COLUMN issuer TEXT;

ALTER TABLE session ADD COLUMN subject TEXT;
