-- The looks of nicknames that were given up: they are reserved as long as the nickname.
CREATE TABLE reserved_look (
    look BLOB NOT NULL,
    nickname_key BLOB NOT NULL REFERENCES nickname_reservation (nickname_key) ON DELETE CASCADE,
    PRIMARY KEY (look, nickname_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX reserved_look_key ON reserved_look (nickname_key);
