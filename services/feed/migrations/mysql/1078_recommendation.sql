-- Sentences of `analysisHappiness` as a person was first shown them on a day: they stay the same until it ends. `best` is SHA-256 of the person's
-- best categories. `made_at` as for a post.
CREATE TABLE recommendation (
    day INT NOT NULL,
    account VARBINARY(255) NOT NULL,
    best BINARY(32) NOT NULL,
    sentences TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (day, account, best),
    INDEX recommendation_account (account)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
