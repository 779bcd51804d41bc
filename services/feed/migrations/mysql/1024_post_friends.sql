-- The post's `date` where friends of its author see it and nobody else; void once a replica of the release before has written another date.
-- `friend_date` is null where friends do not see the post.
ALTER TABLE post
    ADD COLUMN friends_mark BIGINT NULL,
    ADD COLUMN friend_date BIGINT GENERATED ALWAYS AS (CASE WHEN is_public = 1 OR friends_mark = date THEN date END) VIRTUAL
