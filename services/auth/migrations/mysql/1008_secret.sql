-- Made up at the first start and shared by all replicas: the signing key when the settings give none, the key of account hashes.
CREATE TABLE secret (
    name VARCHAR(32) NOT NULL PRIMARY KEY,
    secret VARBINARY(64) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
