-- Sentences of `analysisHappiness` as a person was first shown them on a day: they stay the same until it ends. `best` is SHA-256 of the person's
-- best categories.
CREATE TABLE recommendation (
    day INTEGER NOT NULL,
    account TEXT NOT NULL,
    best BLOB NOT NULL,
    sentences TEXT NOT NULL,
    -- As for a post.
    made_at INTEGER NOT NULL,
    PRIMARY KEY (day, account, best)
) STRICT, WITHOUT ROWID;

CREATE INDEX recommendation_account ON recommendation (account);
