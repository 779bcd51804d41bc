-- Everybody's, the happiest first.
CREATE INDEX post_public_happiness ON post (public_happiness, public_date, id, account);
