-- Nicknames of people who resigned, kept from others while a service of the legacy Spring fleet may still erase by them.
CREATE TABLE reserved_nickname (
    nickname VARCHAR(100) NOT NULL PRIMARY KEY,
    reserved_until BIGINT NOT NULL,
    KEY reserved_nickname_until (reserved_until)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
