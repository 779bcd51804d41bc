-- Pictures that were taken over, by the ids they had in the legacy table `feed_image`.
CREATE TABLE imported_image (
    legacy_id INTEGER NOT NULL PRIMARY KEY,
    image INTEGER NOT NULL,
    post_id INTEGER NOT NULL REFERENCES post (id) ON DELETE CASCADE,
    imported_at INTEGER NOT NULL
) STRICT;

CREATE INDEX imported_image_post_id ON imported_image (post_id);
