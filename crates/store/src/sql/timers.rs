//! Durable timers.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Row as _};

use super::{Engine, Tx, dialect};
use crate::time::instant;
use crate::{StoreError, Timer};

/// Sets (or moves) the timer of that kind and key.
pub async fn set_timer(tx: &mut Tx, timer: &Timer) -> Result<(), StoreError> {
    sqlx::query(dialect::SET_TIMER)
        .bind(&timer.kind)
        .bind(&timer.key)
        .bind(timer.fire_at.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Forgets a timer; one that is not there is no error.
pub async fn clear_timer(tx: &mut Tx, kind: &str, key: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM timer WHERE kind = ? AND timer_key = ?")
        .bind(kind)
        .bind(key)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes due timers of a kind out of the table, the earliest first; what they do goes into the same transaction. Two
/// replicas never take the same one: the second passes over it (`MySQL`) or waits its turn (`SQLite`).
pub async fn take_due_timers(tx: &mut Tx, kind: &str, now: Timestamp, limit: u32) -> Result<Vec<Timer>, StoreError> {
    let due = sqlx::query(dialect::DUE_TIMERS)
        .bind(kind)
        .bind(now.as_millisecond())
        .bind(i64::from(limit))
        .fetch_all(&mut **tx)
        .await?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let mut timers = Vec::with_capacity(due.len());
    for row in due {
        let (key, fire_at) = (row.try_get_unchecked::<String, _>(0)?, instant(row.try_get(1)?)?);
        timers.push(Timer {
            kind: kind.to_owned(),
            key,
            fire_at,
        });
    }

    let mut delete = QueryBuilder::<Engine>::new("DELETE FROM timer WHERE kind = ");
    delete.push_bind(kind).push(" AND timer_key IN (");
    let mut keys = delete.separated(", ");
    for timer in &timers {
        keys.push_bind(timer.key.as_str());
    }
    delete.push(")").build().execute(&mut **tx).await?;
    Ok(timers)
}
