//! Changes of stored messages.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sosohappy_events::Outgoing;
use sosohappy_store::sqlite::{Engine, Tx, enqueue};
use sosohappy_store::{StoreError, retrying};
use sqlx::QueryBuilder;

use super::stream::add_frames;
use super::{SqliteStore, changed_of, stored_of};
use crate::domain::{Change, Changed, MOST_CHANGES, MessageId, MessageState, NewChange};
use crate::store::{ChangeError, Changes, changed, check};

#[async_trait]
impl Changes for SqliteStore {
    async fn change(&self, change: &NewChange, event: &Outgoing) -> Result<Option<Changed>, ChangeError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let row = sqlx::query(concat!("SELECT ", stored_columns!(), " FROM message WHERE id = ?"))
                .bind(change.message.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::from)?;
            let stored = row.as_ref().map(stored_of).transpose()?.ok_or(ChangeError::Unknown)?;
            if !check(&stored, change, made(&mut tx, &stored.state, change).await?)? {
                return Ok(None);
            }
            let changed = changed(&stored.message.text, &stored.state, change);
            insert(&mut tx, change, &changed).await?;
            apply(&mut tx, Table::Messages, &stored.state, change, changed.revision).await?;
            let viewers = stored.message.viewers(stored.is_held);
            add_frames(&mut tx, viewers, &change.message, changed.revision, self.frames).await?;
            enqueue(&mut tx, event, change.at).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Some(changed))
        })
        .await
    }

    async fn complete(&self, _message: &MessageId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn changes(&self, message: &MessageId) -> Result<Vec<Changed>, StoreError> {
        let rows = sqlx::query(
            "SELECT revision AS change_revision, kind, account, content, changed_at FROM message_change \
             WHERE message = ? ORDER BY revision",
        )
        .bind(message.as_str())
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().filter_map(|row| changed_of(row).transpose()).collect()
    }
}

/// Deletes the events of messages that have not been published yet. An event of ours begins with its id, which is the message's.
pub(super) async fn delete_events(tx: &mut Tx, messages: &[&str]) -> Result<(), StoreError> {
    let mut delete = QueryBuilder::<Engine>::new(
        "DELETE FROM event_outbox WHERE topic IN ('directMessage', 'roomMessage') AND json_extract(headers, '$[0][1]') IN (",
    );
    let mut list = delete.separated(", ");
    for message in messages {
        list.push_bind((*message).to_owned());
    }
    delete.push(")").build().execute(&mut **tx).await?;
    Ok(())
}

/// Returns how often the person has changed the message; for few changes in all, the number of all.
pub(super) async fn made(tx: &mut Tx, state: &MessageState, change: &NewChange) -> Result<i64, StoreError> {
    if state.revision < MOST_CHANGES {
        return Ok(state.revision);
    }
    let made = sqlx::query_scalar("SELECT COUNT(*) FROM message_change WHERE message = ? AND account = ?")
        .bind(change.message.as_str())
        .bind(change.by.as_str())
        .fetch_one(&mut **tx)
        .await?;
    Ok(made)
}

pub(super) async fn insert(tx: &mut Tx, change: &NewChange, changed: &Changed) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO message_change (message, revision, kind, account, content, changed_at, made_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(change.message.as_str())
    .bind(changed.revision)
    .bind(changed.kind.name())
    .bind(changed.by.as_str())
    .bind(&changed.content)
    .bind(changed.at.as_millisecond())
    .bind(change.authorized_at.as_millisecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Where a message is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Messages,
    RoomMessages,
}

/// Applies a change to its message of this state.
pub(super) async fn apply(
    tx: &mut Tx,
    table: Table,
    state: &MessageState,
    change: &NewChange,
    revision: i64,
) -> Result<(), StoreError> {
    let (message, at) = (change.message.as_str(), change.at.as_millisecond());
    let mut update = QueryBuilder::<Engine>::new(match table {
        Table::Messages => "UPDATE message SET revision = ",
        Table::RoomMessages => "UPDATE room_message SET revision = ",
    });
    update.push_bind(revision);
    match &change.change {
        Change::Retract => {
            update.push(", text = '', retracted_at = ").push_bind(at);
            if table == Table::Messages {
                update.push(", unread = NULL, push_due_at = NULL");
            }
        }
        Change::Edit(text) => {
            update.push(", edited_at = ").push_bind(at);
            update.push(", text = ").push_bind(text.as_str());
        }
        Change::React(reaction) => {
            let mut reactions: BTreeMap<&str, &str> = state
                .reactions
                .iter()
                .map(|(account, reaction)| (account.as_str(), reaction.as_str()))
                .collect();
            match reaction {
                Some(reaction) => reactions.insert(change.by.as_str(), reaction.as_str()),
                None => reactions.remove(change.by.as_str()),
            };
            let reactions = serde_json::to_string(&reactions).map_err(|error| StoreError::Invalid(error.into()))?;
            update.push(", reactions = ").push_bind(reactions);
        }
    }
    update.push(" WHERE id = ").push_bind(message);
    update.build().execute(&mut **tx).await?;
    if change.change == Change::Retract {
        sqlx::query("UPDATE message_change SET content = NULL WHERE message = ?")
            .bind(message)
            .execute(&mut **tx)
            .await?;
        // The text of an event that was not published yet.
        delete_events(tx, &[message]).await?;
    }
    Ok(())
}
