-- With which identities a person may sign in, beside that of the account's own row (`account.issuer`, `account.subject`), which alone replicas of
-- older releases know. A proven sign-up writes both: the key keeps two accounts from one identity.
CREATE TABLE identity (
    issuer VARCHAR(100) NOT NULL,
    subject VARCHAR(255) NOT NULL,
    account VARCHAR(255) NOT NULL,
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject),
    KEY identity_account (account),
    CONSTRAINT identity_of FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Not unique: a person whose address changed has got a second account from an older release.
CREATE INDEX account_identity ON account (issuer, subject);
