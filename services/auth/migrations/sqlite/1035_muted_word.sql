-- Words that an account does not want to read, in lower case; `expires_at` is null where a word is muted for good.
CREATE TABLE muted_word (
    account TEXT NOT NULL REFERENCES account (account) ON DELETE CASCADE,
    word TEXT NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (account, word)
) STRICT, WITHOUT ROWID;

CREATE INDEX muted_word_expiry ON muted_word (expires_at);
