-- Comments are read in the order of their ids. `made_at` as for a post.
CREATE TABLE post_comment (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    post_id BIGINT NOT NULL,
    account VARBINARY(255) NOT NULL,
    text TEXT NOT NULL,
    written_at BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    INDEX post_comment_post_id (post_id, id),
    INDEX post_comment_account (account),
    CONSTRAINT post_comment_post FOREIGN KEY (post_id) REFERENCES post (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
