-- The push token a session was opened with. What is told of an account is all of them.
CREATE TABLE device (
    session CHAR(16) NOT NULL PRIMARY KEY,
    token TEXT NOT NULL,
    since BIGINT NOT NULL,
    CONSTRAINT device_of_session FOREIGN KEY (session) REFERENCES session (session) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
