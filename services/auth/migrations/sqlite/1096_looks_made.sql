-- `look_nickname` is the nickname whose looks the account has in nickname_look; `looks_made` is 0 where an older release has written another
-- since, and replicas make them.
ALTER TABLE account ADD COLUMN look_nickname TEXT;

ALTER TABLE account ADD COLUMN looks_made INTEGER GENERATED ALWAYS AS (look_nickname IS nickname) VIRTUAL;

CREATE INDEX account_looks_made ON account (looks_made);
