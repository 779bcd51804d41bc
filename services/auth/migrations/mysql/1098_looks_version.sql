-- `looks_version` is the version of the algorithm that has made the looks of `look_nickname`. `made_looks` is that version, or 0 where the account
-- has another nickname by now: replicas make the looks of accounts whose version is smaller than theirs. Builds before this one read `looks_made`.
ALTER TABLE account
    ADD COLUMN looks_version BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN made_looks BIGINT GENERATED ALWAYS AS (CASE WHEN look_nickname <=> nickname THEN looks_version ELSE 0 END) VIRTUAL,
    ADD KEY account_made_looks (made_looks, account);
