-- Members who have asked for a role, until an admin decides.
CREATE TABLE role_application (
    account VARCHAR(255) NOT NULL PRIMARY KEY,
    role VARCHAR(16) NOT NULL,
    text TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    CONSTRAINT role_application_of FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
