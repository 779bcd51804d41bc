-- Content that another service was ordered to hide or restore: the event of the order, the entry of the audit that says who ordered it, and when the
-- service that holds the content has acknowledged it. No personal data.
CREATE TABLE content_order (
    content_order CHAR(36) NOT NULL PRIMARY KEY,
    entry BIGINT NOT NULL,
    applied_at BIGINT,
    CONSTRAINT content_order_entry UNIQUE (entry)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
