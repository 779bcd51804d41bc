-- The code that was last sent to an address. `address_key` is a SHA-256 of the address without letter case, `seal` an HMAC of the code.
CREATE TABLE email_code (
    address_key BLOB NOT NULL PRIMARY KEY,
    seal BLOB NOT NULL,
    tries INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX email_code_expires_at ON email_code (expires_at);
