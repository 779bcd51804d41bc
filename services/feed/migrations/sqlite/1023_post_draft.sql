-- What a person has begun to write for a day; JSON, as it is read and written as a whole.
CREATE TABLE post_draft (
    account TEXT NOT NULL,
    day INTEGER NOT NULL,
    draft TEXT NOT NULL,
    saved_at INTEGER NOT NULL,
    -- As for a post.
    made_at INTEGER NOT NULL,
    PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;
