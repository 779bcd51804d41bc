-- One post a person a day. `categories` and `images` are JSON lists: they are read and written with the post and never by themselves.
-- `made_at` is when the token was issued that the post was written with; a resignation erases up to its moment. `public_date` is null
-- while the post is private: a page of public posts begins anywhere in an index that holds nothing else. (With `is_public` in front of
-- the date, MariaDB reads that index from its newest end, however far back a page begins.) `post_public` has everybody's public posts,
-- with `account` in it so that a page is found without touching the posts before it; `post_account_public` has one person's.
CREATE TABLE post (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    account VARBINARY(255) NOT NULL,
    day INT NOT NULL,
    date BIGINT NOT NULL,
    weather VARCHAR(50) NOT NULL,
    happiness INT NOT NULL,
    text MEDIUMTEXT NOT NULL,
    is_public BOOLEAN NOT NULL,
    categories TEXT NOT NULL,
    images TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    public_date BIGINT GENERATED ALWAYS AS (CASE WHEN is_public = 1 THEN date END) STORED,
    UNIQUE INDEX post_account_day (account, day),
    INDEX post_public (public_date, id, account),
    INDEX post_account_public (account, public_date, id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
