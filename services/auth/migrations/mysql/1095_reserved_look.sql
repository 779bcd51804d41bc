-- The looks of nicknames that were given up: they are reserved as long as the nickname.
CREATE TABLE reserved_look (
    look BINARY(32) NOT NULL,
    nickname_key VARBINARY(32) NOT NULL,
    PRIMARY KEY (look, nickname_key),
    KEY reserved_look_key (nickname_key),
    CONSTRAINT reserved_look_of_reservation FOREIGN KEY (nickname_key) REFERENCES nickname_reservation (nickname_key) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
