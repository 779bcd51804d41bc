-- The looks of each nickname: names that look alike have one in common. Several accounts may have a look, those whose names are older than this
-- table; a name that is chosen needs looks that no other account has.
CREATE TABLE nickname_look (
    look BINARY(32) NOT NULL,
    account VARCHAR(255) NOT NULL,
    PRIMARY KEY (look, account),
    KEY nickname_look_account (account),
    CONSTRAINT nickname_look_of_account FOREIGN KEY (account) REFERENCES account (account) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
