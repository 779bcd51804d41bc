-- What a person has begun to write for a day; JSON, as it is read and written as a whole. `made_at` as for a post.
CREATE TABLE post_draft (
    account VARBINARY(255) NOT NULL,
    day INT NOT NULL,
    draft MEDIUMTEXT NOT NULL,
    saved_at BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (account, day)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
