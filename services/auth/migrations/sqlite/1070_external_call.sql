-- Calls of other systems that a committed change owes: a revocation at a sign-in provider. Sent until they succeed or expire. `sealed` is what the
-- call needs, AES-256-GCM bound to `id`. `due_at` is when it is tried next: a replica that tries it has moved it to the end of its own attempt.
CREATE TABLE external_call (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    resignation TEXT,
    sealed TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL
) STRICT;

CREATE INDEX external_call_due_at ON external_call (due_at);

CREATE INDEX external_call_resignation ON external_call (resignation);
