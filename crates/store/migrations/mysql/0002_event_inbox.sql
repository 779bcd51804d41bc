-- Events that were applied, by consumer.
CREATE TABLE event_inbox (
    consumer VARCHAR(100) NOT NULL,
    event_id BINARY(16) NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (consumer, event_id),
    INDEX event_inbox_applied_at (applied_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
