-- Rows of `category_change` that could not be read: as they were, with the reason. They are not folded.
CREATE TABLE category_change_quarantine (
    id INTEGER PRIMARY KEY,
    categories TEXT NOT NULL,
    happiness INTEGER NOT NULL,
    posts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    quarantined_at INTEGER NOT NULL
) STRICT;
