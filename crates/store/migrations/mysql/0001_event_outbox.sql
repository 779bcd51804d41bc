-- Events whose transaction has committed and which the relay has not published yet.
CREATE TABLE event_outbox (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    topic VARCHAR(100) NOT NULL,
    record_key MEDIUMTEXT,
    record_value MEDIUMBLOB,
    headers MEDIUMTEXT NOT NULL,
    written_at BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
