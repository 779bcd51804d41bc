-- One row: `built_at` is null until the view has all posts from before it, of which those up to `built_until` are done.
CREATE TABLE post_view_build (
    id INT NOT NULL PRIMARY KEY,
    built_until BIGINT NOT NULL,
    built_at BIGINT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
