-- Outbox rows that cannot be read, as they were.
CREATE TABLE event_outbox_quarantine (
    id BIGINT NOT NULL PRIMARY KEY,
    topic VARCHAR(100),
    record_key MEDIUMTEXT,
    record_value MEDIUMBLOB,
    headers MEDIUMTEXT,
    written_at BIGINT,
    reason TEXT NOT NULL,
    quarantined_at BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
