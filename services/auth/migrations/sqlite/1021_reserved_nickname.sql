-- Nicknames of people who resigned, kept from others while a service of the legacy Spring fleet may still erase by them.
CREATE TABLE reserved_nickname (
    nickname TEXT NOT NULL PRIMARY KEY,
    reserved_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX reserved_nickname_until ON reserved_nickname (reserved_until);
