CREATE TABLE post_comment (
    -- Ascending: comments are read in this order.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    post_id INTEGER NOT NULL REFERENCES post (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    text TEXT NOT NULL,
    written_at INTEGER NOT NULL,
    -- As for a post.
    made_at INTEGER NOT NULL
) STRICT;

CREATE INDEX post_comment_post_id ON post_comment (post_id, id);

CREATE INDEX post_comment_account ON post_comment (account);
