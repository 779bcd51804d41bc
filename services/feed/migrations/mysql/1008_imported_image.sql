-- Pictures that were taken over, by the ids they had in the legacy table `feed_image`.
CREATE TABLE imported_image (
    legacy_id BIGINT NOT NULL PRIMARY KEY,
    image BIGINT NOT NULL,
    post_id BIGINT NOT NULL,
    imported_at BIGINT NOT NULL,
    INDEX imported_image_post_id (post_id),
    CONSTRAINT imported_image_post FOREIGN KEY (post_id) REFERENCES post (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
