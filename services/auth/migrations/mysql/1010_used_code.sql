-- Authorize codes that were used, until they expire: codes are sealed, not stored. This release no longer reads the table authorize_code;
-- it stays for replicas of the release before, which read and write it during a rolling update.
CREATE TABLE used_code (
    code BINARY(16) NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    KEY used_code_expires_at (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
