-- SHA-256 of the pictures as they were uploaded and of `images`: tells a repeated save from another one. Null without pictures, and where a
-- replica of the release before has written the post.
ALTER TABLE post ADD COLUMN uploads BINARY(32) NULL
