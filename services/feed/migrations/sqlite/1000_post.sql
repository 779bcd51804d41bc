-- One post a person a day. `categories` and `images` are JSON lists: they are read and written with the post and never by themselves.
-- `made_at` is when the token was issued that the post was written with; a resignation erases up to its moment. `public_date` is null
-- while the post is private: a page of public posts begins anywhere in an index that holds nothing else.
CREATE TABLE post (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    day INTEGER NOT NULL,
    date INTEGER NOT NULL,
    weather TEXT NOT NULL,
    happiness INTEGER NOT NULL,
    text TEXT NOT NULL,
    is_public INTEGER NOT NULL,
    categories TEXT NOT NULL,
    images TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    public_date INTEGER GENERATED ALWAYS AS (CASE WHEN is_public = 1 THEN date END) STORED
) STRICT;

CREATE UNIQUE INDEX post_account_day ON post (account, day);

-- Everybody's, newest first; with `account` in it, a page is found without touching the posts before it.
CREATE INDEX post_public ON post (public_date, id, account);

-- One person's.
CREATE INDEX post_account_public ON post (account, public_date, id);
