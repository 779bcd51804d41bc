-- When this inbox was made: what happened before is another fleet's to push.
CREATE TABLE birth (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    born_at INTEGER NOT NULL
) STRICT;
