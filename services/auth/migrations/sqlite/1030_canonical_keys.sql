-- `nickname_key` is the same for all spellings of a nickname, `address_key` for all spellings of an account. Null where an older release has
-- written the row; replicas make them when they start.
ALTER TABLE account ADD COLUMN nickname_key BLOB;

ALTER TABLE account ADD COLUMN address_key BLOB;

CREATE UNIQUE INDEX account_nickname_key ON account (nickname_key);
CREATE UNIQUE INDEX account_address_key ON account (address_key);
