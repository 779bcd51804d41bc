-- `made_at` as for a post.
CREATE TABLE post_like (
    post_id BIGINT NOT NULL,
    account VARBINARY(255) NOT NULL,
    liked_at BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (post_id, account),
    INDEX post_like_account (account),
    CONSTRAINT post_like_post FOREIGN KEY (post_id) REFERENCES post (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
