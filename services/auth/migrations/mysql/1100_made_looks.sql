-- `looks_version`, or 0 where the account has another nickname by now: replicas make the looks of accounts whose version is smaller than theirs.
ALTER TABLE account
    ADD COLUMN made_looks BIGINT GENERATED ALWAYS AS (CASE WHEN look_nickname <=> nickname THEN looks_version ELSE 0 END) VIRTUAL,
    ALGORITHM = INSTANT;
