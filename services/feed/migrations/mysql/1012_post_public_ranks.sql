-- As `public_date`: null while the post is private, so that an index of them holds public posts only.
ALTER TABLE post
    ADD COLUMN public_likes BIGINT GENERATED ALWAYS AS (CASE WHEN is_public = 1 THEN likes END) VIRTUAL,
    ADD COLUMN public_happiness BIGINT GENERATED ALWAYS AS (CASE WHEN is_public = 1 THEN happiness END) VIRTUAL
