-- Counts of each post, as the events of the topic `post` tell them. `base_revision` is the revision of the post when the row was built from the
-- post itself: marks of older events are in it. A row with `deleted_at` is a tombstone: a late event does not bring the post back.
-- Accounts are SHA-256 digests, so that tombstones hold no address.
-- `post_view_author` has one person's, newest first.
CREATE TABLE post_view (
    post_id BIGINT NOT NULL PRIMARY KEY,
    author BINARY(32) NOT NULL,
    date BIGINT NOT NULL,
    is_public BOOLEAN NOT NULL,
    is_for_friends BOOLEAN NOT NULL,
    is_hidden BOOLEAN NOT NULL,
    likes BIGINT NOT NULL,
    bookmarks BIGINT NOT NULL,
    comments BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    base_revision BIGINT NOT NULL,
    deleted_at BIGINT NULL,
    INDEX post_view_author (author, date, post_id),
    INDEX post_view_deleted_at (deleted_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
