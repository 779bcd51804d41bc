-- Nicknames that were given up, by their key, kept from all but the account of the keyed hash `bearer`; from everybody where it is null. This
-- release takes over the rows of reserved_nickname, which stays for replicas of the release before.
CREATE TABLE nickname_reservation (
    nickname_key BLOB NOT NULL PRIMARY KEY,
    bearer BLOB,
    reserved_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX nickname_reservation_until ON nickname_reservation (reserved_until);
