-- Reports of people and their content. `content` is empty for a report of the person, else the date of the post or the id of the comment or
-- message. A report goes with the account that is reported.
CREATE TABLE report (
    report INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    reason TEXT NOT NULL,
    reported_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    resolved_at INTEGER,
    resolution TEXT
) STRICT;

CREATE INDEX report_target ON report (target);

CREATE INDEX report_open ON report (resolved_at, due_at);
