-- The same for all spellings of a nickname (`NicknameKey`). Null until the row's key is made: at the start of a replica, or with the next name.
ALTER TABLE directory ADD COLUMN nickname_key BLOB;

CREATE INDEX directory_nickname_key ON directory (nickname_key) WHERE nickname_key IS NOT NULL;
CREATE INDEX directory_nickname_unkeyed ON directory (person) WHERE nickname_key IS NULL AND nickname IS NOT NULL;
