-- Up to when an account's notices and pushes are erased, and up to when its devices are forgotten: what comes late stays out.
-- `person` is the SHA-256 of the account: a resignation is remembered without the address.
CREATE TABLE account_mark (
    person TEXT NOT NULL PRIMARY KEY,
    erased_until INTEGER,
    devices_forgotten_until INTEGER,
    marked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX account_mark_marked_at ON account_mark (marked_at);
