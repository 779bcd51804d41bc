-- Pictures that no post has. Those on their way into a post are `reserved` until then; what is still here at `due_at` is deleted from the
-- image store first and from here after.
CREATE TABLE image_garbage (
    id INTEGER NOT NULL PRIMARY KEY,
    reserved INTEGER NOT NULL,
    due_at INTEGER NOT NULL
) STRICT;

CREATE INDEX image_garbage_due_at ON image_garbage (reserved, due_at);
