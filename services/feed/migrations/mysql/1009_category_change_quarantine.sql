-- Rows of `category_change` that could not be read: as they were, with the reason. They are not folded.
CREATE TABLE category_change_quarantine (
    id BIGINT NOT NULL PRIMARY KEY,
    categories TEXT NOT NULL,
    happiness BIGINT NOT NULL,
    posts BIGINT NOT NULL,
    reason TEXT NOT NULL,
    quarantined_at BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
