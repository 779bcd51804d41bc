-- `nickname_key` is the same for all spellings of a nickname, `address_key` for all spellings of an account. Null where an older release has
-- written the row; replicas make them when they start. A nickname of ten user-perceived characters can have more than 100 code points.
ALTER TABLE account
    MODIFY COLUMN nickname VARCHAR(400) NOT NULL,
    ADD COLUMN nickname_key VARBINARY(32),
    ADD COLUMN address_key VARBINARY(32),
    ADD CONSTRAINT account_nickname_key UNIQUE (nickname_key),
    ADD CONSTRAINT account_address_key UNIQUE (address_key);
