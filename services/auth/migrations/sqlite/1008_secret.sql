-- Made up at the first start and shared by all replicas: the signing key when the settings give none, the key of account hashes.
CREATE TABLE secret (
    name TEXT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL
) STRICT, WITHOUT ROWID;
