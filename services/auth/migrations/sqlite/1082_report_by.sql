-- Who has filed a report, and in which words: it goes with the reporter's account and leaves the report. `repeat_key` is the same for one reporter and
-- one subject while the report is open, and null afterwards: a person reports the same thing once.
CREATE TABLE report_by (
    report INTEGER NOT NULL PRIMARY KEY REFERENCES report (report) ON DELETE CASCADE,
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    text TEXT NOT NULL,
    repeat_key BLOB,
    CONSTRAINT report_by_repeat_key UNIQUE (repeat_key)
) STRICT;

CREATE INDEX report_by_account ON report_by (account);
