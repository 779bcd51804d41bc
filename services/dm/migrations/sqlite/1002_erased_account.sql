-- Resignations of late, by SHA-256 of the account: nothing sent with a token issued up to `erased_until` is stored any more.
CREATE TABLE erased_account (
    account TEXT NOT NULL PRIMARY KEY,
    erased_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX erased_account_erased_until ON erased_account (erased_until);
