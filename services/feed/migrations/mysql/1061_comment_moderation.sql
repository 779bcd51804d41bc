-- Comments that moderators have hidden or restored, as `post_moderation`.
CREATE TABLE comment_moderation (
    comment_id BIGINT NOT NULL PRIMARY KEY,
    hidden BOOLEAN NOT NULL,
    changed_at BIGINT NOT NULL,
    CONSTRAINT comment_moderation_comment FOREIGN KEY (comment_id) REFERENCES post_comment (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
