-- `looks_version` is the version of the algorithm that has made the looks of `look_nickname`. `made_looks` is that version, or 0 where the account
-- has another nickname by now: replicas make the looks of accounts whose version is smaller than theirs. Builds before this one read `looks_made`.
ALTER TABLE account ADD COLUMN looks_version INTEGER NOT NULL DEFAULT 0;

ALTER TABLE account ADD COLUMN made_looks INTEGER
    GENERATED ALWAYS AS (CASE WHEN look_nickname IS nickname THEN looks_version ELSE 0 END) VIRTUAL;

CREATE INDEX account_made_looks ON account (made_looks, account);
