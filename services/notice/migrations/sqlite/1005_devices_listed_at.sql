-- When the newest list of an account's devices was made: an older one that is delivered late changes nothing.
ALTER TABLE account_mark ADD COLUMN devices_listed_at INTEGER;
