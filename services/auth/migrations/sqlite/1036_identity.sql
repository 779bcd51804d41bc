-- With which identities a person may sign in, beside that of the account's own row (`account.issuer`, `account.subject`), which alone replicas of
-- older releases know. A proven sign-up writes both: the key keeps two accounts from one identity.
CREATE TABLE identity (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX identity_account ON identity (account);

-- Not unique: a person whose address changed has got a second account from an older release.
CREATE INDEX account_identity ON account (issuer, subject);
