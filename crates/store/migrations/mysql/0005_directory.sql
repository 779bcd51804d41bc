-- The last word on the nickname of an account. Without one the row remembers a resignation, so that a late older
-- event brings nothing back. Bytes, because `utf8mb4_bin` takes 'a' and 'a ' for the same.
CREATE TABLE directory (
    account VARBINARY(255) NOT NULL PRIMARY KEY,
    nickname VARBINARY(1000),
    changed_at BIGINT NOT NULL,
    resigned_at BIGINT,
    INDEX directory_nickname (nickname),
    INDEX directory_resigned_at (resigned_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
