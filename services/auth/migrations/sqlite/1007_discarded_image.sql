-- Pictures that no account shows any more, until the object store has forgotten them.
CREATE TABLE discarded_image (
    image INTEGER NOT NULL PRIMARY KEY,
    due_at INTEGER NOT NULL
) STRICT;

CREATE INDEX discarded_image_due_at ON discarded_image (due_at);
