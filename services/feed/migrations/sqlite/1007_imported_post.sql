-- Rows of the legacy table `feed` that `fleet import spring` has taken over, and the post each has become; a post that is gone was deleted here and
-- is not made again. `source` is a fingerprint of the legacy row and its children, `written` of the post as the import last wrote it: a post that
-- differs was changed here since.
CREATE TABLE imported_post (
    legacy_id INTEGER NOT NULL PRIMARY KEY,
    post_id INTEGER NOT NULL,
    source BLOB NOT NULL,
    written BLOB NOT NULL,
    imported_at INTEGER NOT NULL
) STRICT;

CREATE INDEX imported_post_post_id ON imported_post (post_id);
