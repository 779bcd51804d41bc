-- What a post was before each edit, without its pictures, which are deleted when they are replaced. `made_at` as for a post.
CREATE TABLE post_version (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    post_id BIGINT NOT NULL,
    account VARBINARY(255) NOT NULL,
    date BIGINT NOT NULL,
    weather VARCHAR(50) NOT NULL,
    happiness INT NOT NULL,
    text MEDIUMTEXT NOT NULL,
    is_public BOOLEAN NOT NULL,
    categories TEXT NOT NULL,
    replaced_at BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    INDEX post_version_post_id (post_id, id),
    INDEX post_version_account (account, made_at),
    CONSTRAINT post_version_post FOREIGN KEY (post_id) REFERENCES post (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
