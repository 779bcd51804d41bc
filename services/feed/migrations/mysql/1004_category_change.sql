-- What posts have added to the pairs or taken from them, until it is folded in.
CREATE TABLE category_change (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    categories TEXT NOT NULL,
    happiness BIGINT NOT NULL,
    posts BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
