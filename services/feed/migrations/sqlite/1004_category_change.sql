-- What posts have added to the pairs or taken from them, until it is folded in.
CREATE TABLE category_change (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    categories TEXT NOT NULL,
    happiness INTEGER NOT NULL,
    posts INTEGER NOT NULL
) STRICT;
