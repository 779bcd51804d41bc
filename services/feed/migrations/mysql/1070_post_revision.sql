-- Counts the changes of the post: events carry it, so that the later one of two is known in whatever order they arrive.
ALTER TABLE post ADD COLUMN revision BIGINT NOT NULL DEFAULT 0
