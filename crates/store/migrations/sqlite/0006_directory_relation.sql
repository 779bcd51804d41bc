-- The last word on each pair: `account` blocks or follows `other`, or (active = 0) no longer does.
CREATE TABLE directory_relation (
    account TEXT NOT NULL,
    other TEXT NOT NULL,
    kind TEXT NOT NULL,
    active INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (account, other, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX directory_relation_other ON directory_relation (other, account);
