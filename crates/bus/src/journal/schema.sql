-- The journal: an append-only log of records. `seq` counts all records of the file in the order they were committed,
-- and is the offset of a record in its partition. Statements run one by one, each may run again.

CREATE TABLE IF NOT EXISTS counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

INSERT OR IGNORE INTO counters (name, value) VALUES ('seq', 0);

CREATE TABLE IF NOT EXISTS topics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE IF NOT EXISTS records (
    topic INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    part INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    key BLOB,
    value BLOB,
    headers BLOB NOT NULL,
    PRIMARY KEY (topic, seq)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS records_by_stamp ON records (topic, stamp);

-- Committed offsets of a group: a later member begins after `done`.
CREATE TABLE IF NOT EXISTS offsets (
    grp TEXT NOT NULL,
    topic INTEGER NOT NULL,
    part INTEGER NOT NULL,
    done INTEGER NOT NULL,
    PRIMARY KEY (grp, topic, part)
) WITHOUT ROWID;

-- Of an earlier version, in which several processes shared a file.
DROP TABLE IF EXISTS processes;
DROP TABLE IF EXISTS generations;
DROP TABLE IF EXISTS members;
DROP TABLE IF EXISTS claims;
