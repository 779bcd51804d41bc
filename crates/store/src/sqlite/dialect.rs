//! The statements that differ between the SQL engines.

/// The database's clock in milliseconds since the epoch: of `SQLite` the machine's.
pub(super) const NOW: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// Takes or renews a lease that is the holder's, has expired, or claims to last longer than its time to live.
pub(super) const TAKE_LEASE: &str = "
    UPDATE lease SET holder = ?, expires_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
    WHERE name = ? AND (
        holder = ?
        OR expires_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER)
        OR expires_at > CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?
    )";

pub(super) const INSERT_LEASE: &str = "
    INSERT INTO lease (name, holder, expires_at) VALUES (?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?)";

pub(super) const SET_NICKNAME: &str = "
    INSERT INTO directory (person, account, nickname, nickname_key, changed_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (person) DO UPDATE SET
        account = excluded.account, nickname = excluded.nickname, nickname_key = excluded.nickname_key,
        changed_at = excluded.changed_at
    WHERE excluded.changed_at >= directory.changed_at
        AND (directory.resigned_at IS NULL OR excluded.changed_at > directory.resigned_at)";

pub(super) const SET_RESIGNED: &str = "
    INSERT INTO directory (person, changed_at, resigned_at) VALUES (?, ?, ?)
    ON CONFLICT (person) DO UPDATE SET
        account = CASE WHEN directory.changed_at <= excluded.changed_at THEN NULL ELSE directory.account END,
        nickname = CASE WHEN directory.changed_at <= excluded.changed_at THEN NULL ELSE directory.nickname END,
        nickname_key = CASE WHEN directory.changed_at <= excluded.changed_at THEN NULL ELSE directory.nickname_key END,
        changed_at = MAX(directory.changed_at, excluded.changed_at),
        resigned_at = MAX(COALESCE(directory.resigned_at, excluded.resigned_at), excluded.resigned_at)";

pub(super) const SET_RELATION: &str = "
    INSERT INTO directory_relation (account, other, kind, active, changed_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (account, other, kind) DO UPDATE SET active = excluded.active, changed_at = excluded.changed_at
    WHERE excluded.changed_at >= directory_relation.changed_at";

/// No lock is needed to see concurrent transactions: a write transaction locks the whole database.
pub(super) const LAST_RESIGNED: &str =
    "SELECT resigned_at FROM directory WHERE person IN (?, ?) AND resigned_at IS NOT NULL";

/// No lock is needed: a write transaction locks the whole database.
pub(super) const FOR_SHARE: &str = "";

/// The end of an INSERT.
pub(super) const ERASED_AT_THE_LATEST: &str =
    " ON CONFLICT (account) DO UPDATE SET erased_until = MAX(erased_account.erased_until, excluded.erased_until)";

pub(super) const SET_TIMER: &str = "
    INSERT INTO timer (kind, timer_key, fire_at) VALUES (?, ?, ?)
    ON CONFLICT (kind, timer_key) DO UPDATE SET fire_at = excluded.fire_at, attempts = 0";

/// Compares the bytes of the key, which may be invalid text.
pub(super) const QUARANTINE_TIMER: &str = "UPDATE timer SET kind = ? WHERE kind = ? AND CAST(timer_key AS BLOB) = ?";

pub(super) const DELETE_TIMER: &str = "DELETE FROM timer WHERE kind = ? AND CAST(timer_key AS BLOB) = ?";
