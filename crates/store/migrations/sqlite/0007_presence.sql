CREATE TABLE presence (
    account TEXT NOT NULL,
    instance TEXT NOT NULL,
    held_until INTEGER NOT NULL,
    PRIMARY KEY (account, instance)
) STRICT, WITHOUT ROWID;

CREATE INDEX presence_held_until ON presence (held_until);
