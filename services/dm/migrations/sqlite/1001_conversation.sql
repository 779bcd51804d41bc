-- Who has which conversations, so that the newest message of each is found without reading the others.
CREATE TABLE conversation (
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX conversation_id ON conversation (id);
