-- Everybody's, the most commented first.
CREATE INDEX post_public_comments ON post (public_comments, public_date, id, account);
