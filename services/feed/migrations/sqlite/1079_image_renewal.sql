-- Accounts that were suspended, until the pictures of their posts have ids that nobody else has seen.
CREATE TABLE image_renewal (
    account TEXT NOT NULL PRIMARY KEY,
    requested_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
