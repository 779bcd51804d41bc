-- Posts with a word of the list: others do not see one that is held. `waiting_since` is null once a moderator has decided; a post that was refused
-- stays held. `version` is SHA-256 of what the moderator reads: a released post that is saved with the same text stays released.
CREATE TABLE post_review (
    post_id BIGINT NOT NULL PRIMARY KEY,
    version BINARY(32) NOT NULL,
    held BOOLEAN NOT NULL,
    waiting_since BIGINT NULL,
    decided_by VARBINARY(255) NULL,
    decided_at BIGINT NULL,
    INDEX post_review_held (held),
    INDEX post_review_waiting_since (waiting_since, post_id),
    INDEX post_review_decided_by (decided_by),
    CONSTRAINT post_review_post FOREIGN KEY (post_id) REFERENCES post (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
