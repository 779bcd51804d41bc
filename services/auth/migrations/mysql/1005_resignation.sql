-- One resignation, named by the event id of its `resign`. Who it was is known only until every service has given its receipt; what
-- stays is the proof: a keyed hash of the account and the times.
CREATE TABLE resignation (
    resignation CHAR(36) NOT NULL PRIMARY KEY,
    account_hash BINARY(32) NOT NULL,
    account VARCHAR(255),
    nickname VARCHAR(100),
    resigned_at BIGINT NOT NULL,
    completed_at BIGINT,
    KEY resignation_account_hash (account_hash, resigned_at),
    KEY resignation_completed_at (completed_at, resigned_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
