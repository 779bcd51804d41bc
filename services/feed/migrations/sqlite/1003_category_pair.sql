-- Which categories go together: the sum of happiness and the number of the posts that name both. Each pair stands here both ways.
CREATE TABLE category_pair (
    one TEXT NOT NULL,
    other TEXT NOT NULL,
    happiness INTEGER NOT NULL,
    posts INTEGER NOT NULL,
    PRIMARY KEY (one, other)
) STRICT, WITHOUT ROWID;
