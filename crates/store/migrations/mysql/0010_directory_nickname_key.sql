-- The same for all spellings of a nickname (`NicknameKey`). Null until the row's key is made: at the start of a replica, or with the next name.
ALTER TABLE directory ADD COLUMN nickname_key VARBINARY(32), ADD INDEX directory_nickname_key (nickname_key, person)
