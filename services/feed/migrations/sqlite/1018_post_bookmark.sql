CREATE TABLE post_bookmark (
    post_id INTEGER NOT NULL REFERENCES post (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    saved_at INTEGER NOT NULL,
    -- As for a post.
    made_at INTEGER NOT NULL,
    PRIMARY KEY (post_id, account)
) STRICT, WITHOUT ROWID;

-- One person's, the one saved last first.
CREATE INDEX post_bookmark_account ON post_bookmark (account, saved_at, post_id);
