-- Mails with a code that are still to be delivered; a timer of the kind `mail` says when. `sealed` is the code: `v1:<kid>:<base64>`, AES-256-GCM
-- bound to the account of the address, which need not exist.
CREATE TABLE mail (
    mail CHAR(32) NOT NULL PRIMARY KEY,
    account VARCHAR(255) NOT NULL,
    sealed TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
