-- Which categories go together: the sum of happiness and the number of the posts that name both. Each pair stands here both ways.
CREATE TABLE category_pair (
    one VARBINARY(200) NOT NULL,
    other VARBINARY(200) NOT NULL,
    happiness BIGINT NOT NULL,
    posts BIGINT NOT NULL,
    PRIMARY KEY (one, other)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
