-- Banners that devices were sent: those of handled notices are removed by a push. A later banner of the same name replaces the earlier one.
CREATE TABLE banner (
    account TEXT NOT NULL,
    token TEXT NOT NULL,
    name TEXT NOT NULL,
    event_id BLOB NOT NULL,
    occurred_at INTEGER NOT NULL,
    PRIMARY KEY (account, token, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX banner_occurred_at ON banner (occurred_at);
