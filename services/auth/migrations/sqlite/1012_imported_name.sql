-- Every nickname under which an import has seen an account in the legacy table `user`, as it stood there: likes and messages keep the names
-- they were written under. `present` is whether it bore it at the last pass.
CREATE TABLE imported_name (
    nickname TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    present INTEGER NOT NULL,
    PRIMARY KEY (nickname, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX imported_name_account ON imported_name (account);
