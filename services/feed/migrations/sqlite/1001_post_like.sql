CREATE TABLE post_like (
    post_id INTEGER NOT NULL REFERENCES post (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    liked_at INTEGER NOT NULL,
    -- As for a post.
    made_at INTEGER NOT NULL,
    PRIMARY KEY (post_id, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX post_like_account ON post_like (account);
