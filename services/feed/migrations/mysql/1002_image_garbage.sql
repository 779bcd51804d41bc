-- Pictures that no post has. Those on their way into a post are `reserved` until then; what is still here at `due_at` is deleted from the
-- image store first and from here after.
CREATE TABLE image_garbage (
    id BIGINT NOT NULL PRIMARY KEY,
    reserved BOOLEAN NOT NULL,
    due_at BIGINT NOT NULL,
    INDEX image_garbage_due_at (reserved, due_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
