-- What a person wants to be told of: JSON. `version` is another one after each change.
CREATE TABLE preference (
    account TEXT NOT NULL PRIMARY KEY,
    preferences TEXT NOT NULL,
    version INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- One post (by its date) or one conversation (by the other account) of which a person gets no frames of notices and no pushes.
CREATE TABLE mute (
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    authorized_at INTEGER NOT NULL,
    muted_at INTEGER NOT NULL,
    PRIMARY KEY (account, kind, target)
) STRICT, WITHOUT ROWID;

CREATE INDEX mute_target ON mute (target) WHERE kind = 'conversation';
