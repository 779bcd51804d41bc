-- `look_nickname` is the nickname whose looks the account has in nickname_look; `looks_made` is 0 where an older release has written another
-- since, and replicas make them.
ALTER TABLE account
    ADD COLUMN look_nickname VARCHAR(400),
    ADD COLUMN looks_made BOOLEAN GENERATED ALWAYS AS (look_nickname <=> nickname) VIRTUAL,
    ADD KEY account_looks_made (looks_made);
