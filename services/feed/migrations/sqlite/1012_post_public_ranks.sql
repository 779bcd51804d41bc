-- As `public_date`: null while the post is private, so that an index of them holds public posts only.
ALTER TABLE post ADD COLUMN public_likes INTEGER GENERATED ALWAYS AS (CASE WHEN is_public = 1 THEN likes END) VIRTUAL;
ALTER TABLE post ADD COLUMN public_happiness INTEGER GENERATED ALWAYS AS (CASE WHEN is_public = 1 THEN happiness END) VIRTUAL;
