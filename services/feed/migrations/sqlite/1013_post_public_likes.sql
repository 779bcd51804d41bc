-- Everybody's, the most liked first; with `account` in it, a page is found without touching the posts before it.
CREATE INDEX post_public_likes ON post (public_likes, public_date, id, account);
