-- Likes and bookmarks by account. A row with `ended_at` was taken back, and is kept for a while against late events.
CREATE TABLE post_view_mark (
    post_id BIGINT NOT NULL,
    account BINARY(32) NOT NULL,
    kind VARBINARY(16) NOT NULL,
    revision BIGINT NOT NULL,
    ended_at BIGINT NULL,
    PRIMARY KEY (post_id, account, kind),
    INDEX post_view_mark_ended_at (ended_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
