-- A service's word that it has erased everything of a resigned account.
CREATE TABLE resignation_receipt (
    resignation CHAR(36) NOT NULL,
    service VARCHAR(64) NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (resignation, service),
    CONSTRAINT receipt_of_resignation FOREIGN KEY (resignation) REFERENCES resignation (resignation)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
