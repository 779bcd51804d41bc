-- Pictures that no account shows any more, until the object store has forgotten them.
CREATE TABLE discarded_image (
    image BIGINT NOT NULL PRIMARY KEY,
    due_at BIGINT NOT NULL,
    KEY discarded_image_due_at (due_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
