-- Who has filed a report, and in which words: it goes with the reporter's account and leaves the report. `repeat_key` is the same for one reporter and
-- one subject while the report is open, and null afterwards: a person reports the same thing once.
CREATE TABLE report_by (
    report BIGINT NOT NULL PRIMARY KEY,
    account VARCHAR(255) NOT NULL,
    text TEXT NOT NULL,
    repeat_key BINARY(32),
    CONSTRAINT report_by_repeat_key UNIQUE (repeat_key),
    CONSTRAINT report_by_report FOREIGN KEY (report) REFERENCES report (report) ON DELETE CASCADE,
    CONSTRAINT report_by_account FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
