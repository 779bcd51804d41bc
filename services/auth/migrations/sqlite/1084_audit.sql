-- Every decision about people and their content. Rows are only added: they hold keyed hashes of accounts and of the note, and no personal data. `digest`
-- is over the row and the digest of the row before it.
CREATE TABLE audit (
    entry INTEGER NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    actor BLOB NOT NULL,
    target BLOB NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    note BLOB NOT NULL,
    digest BLOB NOT NULL
) STRICT;

-- The last entry, locked by whoever adds one: a row that is missing at the end shows.
CREATE TABLE audit_head (
    id INTEGER NOT NULL PRIMARY KEY,
    entry INTEGER NOT NULL,
    digest BLOB NOT NULL
) STRICT;
INSERT INTO audit_head (id, entry, digest) VALUES (1, 0, zeroblob(32));

-- Which account a hash of the audit is, as long as there is the account.
CREATE TABLE audit_account (
    hash BLOB NOT NULL PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_account_account ON audit_account (account);

-- What was noted about a decision; it goes with the account that the decision is about.
CREATE TABLE audit_note (
    entry INTEGER NOT NULL PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX audit_note_account ON audit_note (account);
