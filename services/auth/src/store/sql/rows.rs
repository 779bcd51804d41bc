//! From rows to types. `MySQL` pads what it compares with blanks, so a row that was found by a text may hold another: readers say
//! what they mean.

use jiff::Timestamp;
use sosohappy_common::{Account, Nickname};
use sosohappy_events::types::{Device, Role, SessionId};
use sosohappy_media::ImageId;
use sosohappy_store::StoreError;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Row, engine};
use crate::domain::person::{Identity, Person};
use crate::domain::profile::Introduction;
use crate::domain::session::{Origin, Refresh, RefreshId, Session};
use crate::store::AccessToken;

pub const PERSON: &str =
    "SELECT account, issuer, subject, nickname, profile_set, introduction, image, role, created_at, changed_at,
    EXISTS (SELECT 1 FROM suspension WHERE suspension.account = account.account) AS is_suspended,
    EXISTS (SELECT 1 FROM hidden_profile WHERE hidden_profile.account = account.account) AS is_profile_hidden FROM account";

pub const SESSION: &str = "SELECT session, account, stamped_at, refresh_id, refresh_issued_at, refresh_expires_at,
    previous_refresh_id, rotated_at, opened_at, device, place, issuer, subject FROM session";

/// The rows of a table that fulfil a condition. Safe: both parts are written here, values are bound.
pub fn select(table: &'static str, condition: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{table} WHERE {condition}"))
}

/// [`select`]ed rows that stay as they are until the transaction ends.
pub fn lock(table: &'static str, condition: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{table} WHERE {condition}{}", engine::FOR_UPDATE))
}

pub fn person(row: Option<&Row>, meant: impl Fn(&Person) -> bool) -> Result<Option<Person>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let image: Option<i64> = row.try_get("image")?;
    let is_suspended: i64 = row.try_get("is_suspended")?;
    let is_profile_hidden: i64 = row.try_get("is_profile_hidden")?;
    let person = Person {
        account: account(row, "account")?,
        identity: Identity {
            issuer: text(row, "issuer")?,
            subject: row.try_get_unchecked("subject")?,
        },
        nickname: Nickname::stored(text(row, "nickname")?),
        profile_set: row.try_get_unchecked("profile_set")?,
        introduction: Introduction::stored(text(row, "introduction")?),
        image: image.map(ImageId),
        role: role(row)?,
        is_suspended: is_suspended != 0,
        is_profile_hidden: is_profile_hidden != 0,
        created_at: instant(row, "created_at")?,
        changed_at: instant(row, "changed_at")?,
    };
    Ok(Some(person).filter(meant))
}

pub fn session(row: &Row) -> Result<Session, StoreError> {
    let previous: Option<String> = row.try_get_unchecked("previous_refresh_id")?;
    let rotated_at: Option<i64> = row.try_get("rotated_at")?;
    let opened_at: Option<i64> = row.try_get("opened_at")?;
    let rotated_at = rotated_at.map(from_millis).transpose()?;
    let issuer: Option<String> = row.try_get_unchecked("issuer")?;
    let subject: Option<String> = row.try_get_unchecked("subject")?;
    Ok(Session {
        id: session_id(row)?,
        account: account(row, "account")?,
        stamped_at: instant(row, "stamped_at")?,
        refresh: Refresh {
            id: RefreshId(text(row, "refresh_id")?),
            issued_at: instant(row, "refresh_issued_at")?,
            expires_at: instant(row, "refresh_expires_at")?,
        },
        origin: Origin {
            opened_at: opened_at.map(from_millis).transpose()?,
            identity: issuer.map(|issuer| Identity { issuer, subject }),
            device: row.try_get_unchecked("device")?,
            place: row.try_get_unchecked("place")?,
            client: None,
        },
        previous: previous.map(RefreshId).zip(rotated_at),
    })
}

pub fn access_token(row: &Row) -> Result<AccessToken, StoreError> {
    Ok(AccessToken {
        account: account(row, "account")?,
        session: session_id(row)?,
        role: role(row)?,
        issued_at: instant(row, "issued_at")?,
        expires_at: instant(row, "expires_at")?,
    })
}

/// Returns the device of a session; `None` when the session has no push token.
pub fn device(row: &Row) -> Result<Option<Device>, StoreError> {
    // Unchecked: MySQL reports text of a binary collation as bytes.
    let Some(token) = row.try_get_unchecked("token")? else {
        return Ok(None);
    };
    Ok(Some(Device {
        session: session_id(row)?,
        token,
        since: instant(row, "since")?,
    }))
}

pub fn session_id(row: &Row) -> Result<SessionId, StoreError> {
    text(row, "session")?.parse().map_err(|_| broken("session"))
}

/// Returns the role of an account. One of a later release has the rights of a user, as in a token, and stays in the row.
pub fn role(row: &Row) -> Result<Role, StoreError> {
    Ok(text(row, "role")?.parse().unwrap_or_default())
}

pub fn account(row: &Row, column: &str) -> Result<Account, StoreError> {
    text(row, column)?.parse().map_err(|_| broken(column))
}

pub fn text(row: &Row, column: &str) -> Result<String, StoreError> {
    // Unchecked: MySQL reports text of a binary collation as bytes.
    Ok(row.try_get_unchecked(column)?)
}

pub fn instant(row: &Row, column: &str) -> Result<Timestamp, StoreError> {
    from_millis(row.try_get(column)?)
}

pub fn from_millis(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_| broken("a time"))
}

/// A value that nothing of ours has written.
pub fn broken(what: &str) -> StoreError {
    StoreError::corrupt(format!("{what} in the database is not what auth has written"))
}
