-- What was noted about a decision; it goes with the account that the decision is about.
CREATE TABLE audit_note (
    entry BIGINT NOT NULL PRIMARY KEY,
    account VARCHAR(255) NOT NULL,
    text TEXT NOT NULL,
    CONSTRAINT audit_note_of FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
