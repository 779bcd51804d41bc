-- Refresh tokens of sign-in providers, kept to be revoked when the account resigns: `v1:<kid>:<base64>`, AES-256-GCM bound to the account.
CREATE TABLE provider_token (
    account TEXT NOT NULL PRIMARY KEY REFERENCES account (account) ON DELETE CASCADE,
    sealed TEXT NOT NULL
) STRICT, WITHOUT ROWID;
