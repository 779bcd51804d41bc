-- How many comments the post has, as `likes`, and whether it takes more.
ALTER TABLE post
    ADD COLUMN comments BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN takes_comments BOOLEAN NOT NULL DEFAULT TRUE,
    ADD COLUMN public_comments BIGINT GENERATED ALWAYS AS (CASE WHEN is_public = 1 THEN comments END) VIRTUAL
