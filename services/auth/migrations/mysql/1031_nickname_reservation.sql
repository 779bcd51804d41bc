-- Nicknames that were given up, by their key, kept from all but the account of the keyed hash `bearer`; from everybody where it is null. This
-- release takes over the rows of reserved_nickname, which stays for replicas of the release before.
CREATE TABLE nickname_reservation (
    nickname_key VARBINARY(32) NOT NULL PRIMARY KEY,
    bearer VARBINARY(32),
    reserved_until BIGINT NOT NULL,
    KEY nickname_reservation_until (reserved_until)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
