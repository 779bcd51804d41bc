-- A person by `email+provider`. `changed_at` is the time of the account's last event: the next one is later, whatever the clock says.
-- `subject` is null for an account taken over from a fleet that did not keep it, until its next sign-in.
CREATE TABLE account (
    account VARCHAR(255) NOT NULL PRIMARY KEY,
    issuer VARCHAR(100) NOT NULL,
    subject VARCHAR(255),
    nickname VARCHAR(100) NOT NULL,
    profile_set BOOLEAN NOT NULL,
    introduction TEXT NOT NULL,
    image BIGINT,
    role VARCHAR(16) NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    CONSTRAINT account_nickname UNIQUE (nickname)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
