-- Rows of the legacy table `feed` that `fleet import spring` has taken over, and the post each has become; a post that is gone was deleted here and
-- is not made again. `source` is a fingerprint of the legacy row and its children, `written` of the post as the import last wrote it: a post that
-- differs was changed here since.
CREATE TABLE imported_post (
    legacy_id BIGINT NOT NULL PRIMARY KEY,
    post_id BIGINT NOT NULL,
    source BINARY(16) NOT NULL,
    written BINARY(16) NOT NULL,
    imported_at BIGINT NOT NULL,
    INDEX imported_post_post_id (post_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
