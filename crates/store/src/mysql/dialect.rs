//! The statements that differ between the SQL engines. `VALUES(…)` in an upsert is the form that both `MySQL` and `MariaDB` support. Its
//! assignments are executed from left to right, so a column that a condition reads is assigned last.

/// The database's clock in milliseconds since the epoch. Sessions are in UTC, in which no hour is repeated.
pub(super) const NOW: &str = "SELECT CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)";

/// Takes or renews a lease that is the holder's, has expired, or claims to last longer than its time to live.
pub(super) const TAKE_LEASE: &str = "
    UPDATE lease SET holder = ?, expires_at = CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED) + ?
    WHERE name = ? AND (
        holder = ?
        OR expires_at <= CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)
        OR expires_at > CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED) + ?
    )";

pub(super) const INSERT_LEASE: &str = "
    INSERT INTO lease (name, holder, expires_at)
    VALUES (?, ?, CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED) + ?)";

pub(super) const SET_NICKNAME: &str = "
    INSERT INTO directory (person, account, nickname, nickname_key, changed_at) VALUES (?, ?, ?, ?, ?)
    ON DUPLICATE KEY UPDATE
        account = IF(VALUES(changed_at) >= changed_at AND (resigned_at IS NULL OR VALUES(changed_at) > resigned_at),
            VALUES(account), account),
        nickname = IF(VALUES(changed_at) >= changed_at AND (resigned_at IS NULL OR VALUES(changed_at) > resigned_at),
            VALUES(nickname), nickname),
        nickname_key = IF(VALUES(changed_at) >= changed_at AND (resigned_at IS NULL OR VALUES(changed_at) > resigned_at),
            VALUES(nickname_key), nickname_key),
        changed_at = IF(VALUES(changed_at) >= changed_at AND (resigned_at IS NULL OR VALUES(changed_at) > resigned_at),
            VALUES(changed_at), changed_at)";

pub(super) const SET_RESIGNED: &str = "
    INSERT INTO directory (person, changed_at, resigned_at) VALUES (?, ?, ?)
    ON DUPLICATE KEY UPDATE
        account = IF(changed_at <= VALUES(changed_at), NULL, account),
        nickname = IF(changed_at <= VALUES(changed_at), NULL, nickname),
        nickname_key = IF(changed_at <= VALUES(changed_at), NULL, nickname_key),
        changed_at = GREATEST(changed_at, VALUES(changed_at)),
        resigned_at = GREATEST(COALESCE(resigned_at, VALUES(resigned_at)), VALUES(resigned_at))";

pub(super) const SET_RELATION: &str = "
    INSERT INTO directory_relation (account, other, kind, active, changed_at) VALUES (?, ?, ?, ?, ?)
    ON DUPLICATE KEY UPDATE
        active = IF(VALUES(changed_at) >= changed_at, VALUES(active), active),
        changed_at = GREATEST(changed_at, VALUES(changed_at))";

/// Waits for concurrent transactions that write one of the rows.
pub(super) const LAST_RESIGNED: &str =
    "SELECT resigned_at FROM directory WHERE person IN (?, ?) AND resigned_at IS NOT NULL FOR UPDATE";

/// Waits for concurrent transactions that write one of the rows. `MariaDB` does not know `FOR SHARE`.
pub(super) const FOR_SHARE: &str = " LOCK IN SHARE MODE";

/// The end of an INSERT.
pub(super) const ERASED_AT_THE_LATEST: &str =
    " ON DUPLICATE KEY UPDATE erased_until = GREATEST(erased_until, VALUES(erased_until))";

pub(super) const SET_TIMER: &str = "
    INSERT INTO timer (kind, timer_key, fire_at) VALUES (?, ?, ?)
    ON DUPLICATE KEY UPDATE fire_at = VALUES(fire_at), attempts = 0";

pub(super) const QUARANTINE_TIMER: &str = "UPDATE timer SET kind = ? WHERE kind = ? AND timer_key = ?";

pub(super) const DELETE_TIMER: &str = "DELETE FROM timer WHERE kind = ? AND timer_key = ?";
