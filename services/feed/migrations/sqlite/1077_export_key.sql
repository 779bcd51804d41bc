-- One row: the key that signs exports. It outlives the tokens of services, so that an old export can be imported.
CREATE TABLE export_key (
    id INTEGER NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL,
    made_at INTEGER NOT NULL
) STRICT;
