-- Posts that moderators have hidden or restored; of two decisions the later one is in force. `images_renewed` says whether the pictures of a hidden post
-- have ids that nobody else has seen.
CREATE TABLE post_moderation (
    post_id BIGINT NOT NULL PRIMARY KEY,
    hidden BOOLEAN NOT NULL,
    changed_at BIGINT NOT NULL,
    images_renewed BOOLEAN NOT NULL,
    CONSTRAINT post_moderation_post FOREIGN KEY (post_id) REFERENCES post (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
