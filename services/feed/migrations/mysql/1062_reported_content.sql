-- Reported texts as they were, until the report is decided; `text` is null then. It goes with the author.
CREATE TABLE reported_content (
    report BIGINT NOT NULL PRIMARY KEY,
    author VARBINARY(255),
    post_id BIGINT,
    text MEDIUMTEXT,
    reported_at BIGINT NOT NULL,
    KEY reported_content_author (author)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
