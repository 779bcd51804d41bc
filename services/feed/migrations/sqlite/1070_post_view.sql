-- Counts the changes of the post: events carry it, so that the later one of two is known in whatever order they arrive.
ALTER TABLE post ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

-- Counts of each post, as the events of the topic `post` tell them. `base_revision` is the revision of the post when the row was built from the
-- post itself: marks of older events are in it. A row with `deleted_at` is a tombstone: a late event does not bring the post back.
-- Accounts are SHA-256 digests, so that tombstones hold no address.
CREATE TABLE post_view (
    post_id INTEGER NOT NULL PRIMARY KEY,
    author BLOB NOT NULL,
    date INTEGER NOT NULL,
    is_public INTEGER NOT NULL,
    is_for_friends INTEGER NOT NULL,
    is_hidden INTEGER NOT NULL,
    likes INTEGER NOT NULL,
    bookmarks INTEGER NOT NULL,
    comments INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    base_revision INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;

-- One person's, newest first.
CREATE INDEX post_view_author ON post_view (author, date, post_id);
CREATE INDEX post_view_deleted_at ON post_view (deleted_at);

-- Likes and bookmarks by account. A row with `ended_at` was taken back, and is kept for a while against late events.
CREATE TABLE post_view_mark (
    post_id INTEGER NOT NULL,
    account BLOB NOT NULL,
    kind TEXT NOT NULL,
    revision INTEGER NOT NULL,
    ended_at INTEGER,
    PRIMARY KEY (post_id, account, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX post_view_mark_ended_at ON post_view_mark (ended_at);

-- One row: `built_at` is null until the view has all posts from before it, of which those up to `built_until` are done.
CREATE TABLE post_view_build (
    id INTEGER NOT NULL PRIMARY KEY,
    built_until INTEGER NOT NULL,
    built_at INTEGER
) STRICT;

INSERT INTO post_view_build (id, built_until, built_at)
SELECT 1, 0, CASE WHEN EXISTS (SELECT 1 FROM post) THEN NULL ELSE 0 END;
