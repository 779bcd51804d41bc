-- A service's word that it has erased everything of a resigned account.
CREATE TABLE resignation_receipt (
    resignation TEXT NOT NULL REFERENCES resignation (resignation),
    service TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (resignation, service)
) STRICT, WITHOUT ROWID;
