-- Posts and comments that moderators have hidden or restored; of two decisions the later one is in force. `images_renewed` says whether the pictures of a
-- hidden post have ids that nobody else has seen.
CREATE TABLE post_moderation (
    post_id INTEGER NOT NULL PRIMARY KEY REFERENCES post (id) ON DELETE CASCADE,
    hidden INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    images_renewed INTEGER NOT NULL
) STRICT;

CREATE TABLE comment_moderation (
    comment_id INTEGER NOT NULL PRIMARY KEY REFERENCES post_comment (id) ON DELETE CASCADE,
    hidden INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;

-- Reported texts as they were, until the report is decided; `text` is null then. It goes with the author.
CREATE TABLE reported_content (
    report INTEGER NOT NULL PRIMARY KEY,
    author TEXT,
    post_id INTEGER,
    text TEXT,
    reported_at INTEGER NOT NULL
) STRICT;

CREATE INDEX reported_content_author ON reported_content (author);
