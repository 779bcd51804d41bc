-- How many comments the post has, as `likes`, and whether it takes more.
ALTER TABLE post ADD COLUMN comments INTEGER NOT NULL DEFAULT 0;
ALTER TABLE post ADD COLUMN takes_comments INTEGER NOT NULL DEFAULT 1;
ALTER TABLE post ADD COLUMN public_comments INTEGER GENERATED ALWAYS AS (CASE WHEN is_public = 1 THEN comments END) VIRTUAL;
