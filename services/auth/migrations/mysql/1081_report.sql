-- Reports of people and their content. `content` is empty for a report of the person, else the date of the post or the id of the comment or
-- message. A report goes with the account that is reported.
CREATE TABLE report (
    report BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    target VARCHAR(255) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    content VARCHAR(64) NOT NULL,
    reason VARCHAR(32) NOT NULL,
    reported_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    resolved_at BIGINT,
    resolution VARCHAR(16),
    KEY report_open (resolved_at, due_at),
    CONSTRAINT report_target FOREIGN KEY (target) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
