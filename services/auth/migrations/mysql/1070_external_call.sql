-- Calls of other systems that a committed change owes: a revocation at a sign-in provider. Sent until they succeed or expire. `sealed` is what the
-- call needs, AES-256-GCM bound to `id`. `due_at` is when it is tried next: a replica that tries it has moved it to the end of its own attempt.
CREATE TABLE external_call (
    id CHAR(36) NOT NULL PRIMARY KEY,
    kind VARCHAR(32) NOT NULL,
    resignation CHAR(36),
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    due_at BIGINT NOT NULL,
    attempts INT NOT NULL,
    KEY external_call_due_at (due_at),
    KEY external_call_resignation (resignation)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
