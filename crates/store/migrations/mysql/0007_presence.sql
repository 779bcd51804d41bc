CREATE TABLE presence (
    account VARBINARY(255) NOT NULL,
    instance VARCHAR(200) NOT NULL,
    held_until BIGINT NOT NULL,
    PRIMARY KEY (account, instance),
    INDEX presence_held_until (held_until)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
