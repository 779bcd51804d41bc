-- How many like the post, for the order by likes. It is kept by whoever writes likes, in the same transaction.
ALTER TABLE post ADD COLUMN likes INTEGER NOT NULL DEFAULT 0;
