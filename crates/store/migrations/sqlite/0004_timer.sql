CREATE TABLE timer (
    kind TEXT NOT NULL,
    timer_key TEXT NOT NULL,
    fire_at INTEGER NOT NULL,
    PRIMARY KEY (kind, timer_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX timer_fire_at ON timer (kind, fire_at);
