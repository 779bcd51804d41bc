-- One row: the key that signs exports. It outlives the tokens of services, so that an old export can be imported.
CREATE TABLE export_key (
    id INT NOT NULL PRIMARY KEY,
    secret BINARY(32) NOT NULL,
    made_at BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
