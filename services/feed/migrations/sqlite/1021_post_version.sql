-- What a post was before each edit, without its pictures, which are deleted when they are replaced.
CREATE TABLE post_version (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    post_id INTEGER NOT NULL REFERENCES post (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    date INTEGER NOT NULL,
    weather TEXT NOT NULL,
    happiness INTEGER NOT NULL,
    text TEXT NOT NULL,
    is_public INTEGER NOT NULL,
    categories TEXT NOT NULL,
    replaced_at INTEGER NOT NULL,
    -- As for a post.
    made_at INTEGER NOT NULL
) STRICT;

CREATE INDEX post_version_post_id ON post_version (post_id, id);
CREATE INDEX post_version_account ON post_version (account, made_at);
