//! Who has which partitions: the statements behind joining, leaving and sharing out.

use std::collections::BTreeMap;

use sqlx::{Sqlite, Transaction};

use super::member::{Claim, Share, Who};
use super::{PARTITIONS, Part, State};

type Tx<'a> = Transaction<'a, Sqlite>;

/// Gives up what the member should not have, claims what it should have and nobody holds.
pub(super) async fn give(state: &State, tx: &mut Tx<'_>, who: &Who, joining: bool) -> Result<Share, sqlx::Error> {
    for topic in &who.topics {
        // A member that was buried by mistake is simply there again.
        sqlx::query("INSERT OR IGNORE INTO members (grp, topic, member, process) VALUES (?, ?, ?, ?)")
            .bind(&*who.group)
            .bind(topic)
            .bind(&who.member)
            .bind(&state.process)
            .execute(&mut **tx)
            .await?;
    }
    let mut given_up = 0;
    let mut due = Vec::new();
    for &topic in &who.topics {
        let members: Vec<String> =
            sqlx::query_scalar("SELECT member FROM members WHERE grp = ? AND topic = ? ORDER BY member")
                .bind(&*who.group)
                .bind(topic)
                .fetch_all(&mut **tx)
                .await?;
        for part in 0..PARTITIONS {
            let heir = usize::try_from(part).unwrap_or_default() % members.len();
            if members[heir] == who.member {
                due.push((topic, part));
            } else {
                let claim = sqlx::query("DELETE FROM claims WHERE grp = ? AND topic = ? AND part = ? AND member = ?");
                let claim = claim.bind(&*who.group).bind(topic).bind(part).bind(&who.member);
                given_up += claim.execute(&mut **tx).await?.rows_affected();
            }
        }
    }
    // The others look again when somebody came or something became free.
    let generation = if joining || given_up > 0 {
        raise(tx, &who.group).await?
    } else {
        current(tx, &who.group).await?
    };
    for (topic, part) in due {
        sqlx::query("INSERT OR IGNORE INTO claims (grp, topic, part, member, since) VALUES (?, ?, ?, ?, ?)")
            .bind(&*who.group)
            .bind(topic)
            .bind(part)
            .bind(&who.member)
            .bind(generation)
            .execute(&mut **tx)
            .await?;
    }
    Ok(Share {
        generation,
        claims: claims(tx, who).await?,
    })
}

async fn claims(tx: &mut Tx<'_>, who: &Who) -> Result<BTreeMap<Part, Claim>, sqlx::Error> {
    let rows: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT claims.topic, claims.part, claims.since, COALESCE(offsets.done, 0)
         FROM claims LEFT JOIN offsets USING (grp, topic, part)
         WHERE claims.grp = ? AND claims.member = ?",
    )
    .bind(&*who.group)
    .bind(&who.member)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(topic, part, since, done)| ((topic, part), Claim { since, done }))
        .collect())
}

/// Answers the group's new generation.
pub(super) async fn leave(tx: &mut Tx<'_>, who: &Who) -> Result<i64, sqlx::Error> {
    sqlx::query("DELETE FROM members WHERE grp = ? AND member = ?")
        .bind(&*who.group)
        .bind(&who.member)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM claims WHERE grp = ? AND member = ?")
        .bind(&*who.group)
        .bind(&who.member)
        .execute(&mut **tx)
        .await?;
    raise(tx, &who.group).await
}

/// Removes a process that has ended, with its members and their claims. Answers the new generations of their groups.
pub(super) async fn bury(tx: &mut Tx<'_>, process: &str) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let groups: Vec<String> = sqlx::query_scalar("SELECT DISTINCT grp FROM members WHERE process = ?")
        .bind(process)
        .fetch_all(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM claims WHERE (grp, member) IN (SELECT grp, member FROM members WHERE process = ?)")
        .bind(process)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM members WHERE process = ?")
        .bind(process)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM processes WHERE id = ?")
        .bind(process)
        .execute(&mut **tx)
        .await?;
    let mut generations = Vec::new();
    for group in groups {
        let generation = raise(tx, &group).await?;
        generations.push((group, generation));
    }
    Ok(generations)
}

async fn raise(tx: &mut Tx<'_>, group: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO generations (grp, value) VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
    )
    .bind(group)
    .fetch_one(&mut **tx)
    .await
}

async fn current(tx: &mut Tx<'_>, group: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT COALESCE(MAX(value), 0) FROM generations WHERE grp = ?")
        .bind(group)
        .fetch_one(&mut **tx)
        .await
}
