-- The version of the algorithm that has made the looks of `look_nickname`.
ALTER TABLE account ADD COLUMN looks_version BIGINT NOT NULL DEFAULT 0, ALGORITHM = INSTANT;
