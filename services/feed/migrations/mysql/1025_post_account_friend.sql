-- What friends see of one person, newest first; with `public_date` in it, what everybody sees is found without touching the posts.
CREATE INDEX post_account_friend ON post (account, friend_date, id, public_date)
