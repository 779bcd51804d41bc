-- The post's `date` where friends of its author see it and nobody else; void once a replica of the release before has written another date.
-- `friend_date` is null where friends do not see the post.
ALTER TABLE post ADD COLUMN friends_mark INTEGER;
ALTER TABLE post ADD COLUMN friend_date INTEGER GENERATED ALWAYS AS (CASE WHEN is_public = 1 OR friends_mark = date THEN date END) VIRTUAL;

-- What friends see of one person, newest first; with `public_date` in it, what everybody sees is found without touching the posts.
CREATE INDEX post_account_friend ON post (account, friend_date, id, public_date);
