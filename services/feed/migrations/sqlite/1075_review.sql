-- Posts and comments with a word of the list: others do not see one that is held. `waiting_since` is null once a moderator has decided; a post that was
-- refused stays held. `version` is SHA-256 of what the moderator reads: a released post that is saved with the same text stays released.
CREATE TABLE post_review (
    post_id INTEGER NOT NULL PRIMARY KEY REFERENCES post (id) ON DELETE CASCADE,
    version BLOB NOT NULL,
    held INTEGER NOT NULL,
    waiting_since INTEGER,
    decided_by TEXT,
    decided_at INTEGER
) STRICT;

CREATE INDEX post_review_waiting_since ON post_review (waiting_since, post_id);
CREATE INDEX post_review_decided_by ON post_review (decided_by);

CREATE TABLE comment_review (
    comment_id INTEGER NOT NULL PRIMARY KEY REFERENCES post_comment (id) ON DELETE CASCADE,
    held INTEGER NOT NULL,
    waiting_since INTEGER,
    decided_by TEXT,
    decided_at INTEGER
) STRICT;

CREATE INDEX comment_review_waiting_since ON comment_review (waiting_since, comment_id);
CREATE INDEX comment_review_decided_by ON comment_review (decided_by);
