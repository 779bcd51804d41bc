-- As `post_review`; a comment has one version.
CREATE TABLE comment_review (
    comment_id BIGINT NOT NULL PRIMARY KEY,
    held BOOLEAN NOT NULL,
    waiting_since BIGINT NULL,
    decided_by VARBINARY(255) NULL,
    decided_at BIGINT NULL,
    INDEX comment_review_held (held),
    INDEX comment_review_waiting_since (waiting_since, comment_id),
    INDEX comment_review_decided_by (decided_by),
    CONSTRAINT comment_review_comment FOREIGN KEY (comment_id) REFERENCES post_comment (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
