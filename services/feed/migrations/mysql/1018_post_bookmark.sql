-- `made_at` as for a post. `post_bookmark_account` has one person's, the one saved last first.
CREATE TABLE post_bookmark (
    post_id BIGINT NOT NULL,
    account VARBINARY(255) NOT NULL,
    saved_at BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (post_id, account),
    INDEX post_bookmark_account (account, saved_at, post_id),
    CONSTRAINT post_bookmark_post FOREIGN KEY (post_id) REFERENCES post (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
