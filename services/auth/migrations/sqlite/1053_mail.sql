-- Mails with a code that are still to be delivered; a timer of the kind `mail` says when. `sealed` is the code: `v1:<kid>:<base64>`, AES-256-GCM
-- bound to the account of the address, which need not exist.
CREATE TABLE mail (
    mail TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    sealed TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
