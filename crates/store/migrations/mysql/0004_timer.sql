-- Keys may be accounts: bytes, because `utf8mb4_bin` takes 'a' and 'a ' for the same.
CREATE TABLE timer (
    kind VARCHAR(100) NOT NULL,
    timer_key VARBINARY(600) NOT NULL,
    fire_at BIGINT NOT NULL,
    PRIMARY KEY (kind, timer_key),
    INDEX timer_fire_at (kind, fire_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
