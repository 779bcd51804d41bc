-- The last word on the nickname of an account. Without one the row remembers a resignation, so that a late older
-- event brings nothing back; then it names the person by the SHA-256 of the account alone. Bytes, because `utf8mb4_bin` takes 'a' and 'a ' for the same.
CREATE TABLE directory (
    person VARBINARY(64) NOT NULL PRIMARY KEY,
    account VARBINARY(255),
    nickname VARBINARY(1000),
    changed_at BIGINT NOT NULL,
    resigned_at BIGINT,
    INDEX directory_nickname (nickname),
    INDEX directory_resigned_at (resigned_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
