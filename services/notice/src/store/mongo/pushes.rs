use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use sosohappy_events::EventId;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::ID_INDEX;

use super::{MongoStore, PUSHES, number, text};
use crate::domain::{PushContent, Target, WaitingPush};
use crate::store::{Pushes, broken, columns, parse_account, readable, target, timestamp};

#[async_trait]
impl Pushes for MongoStore {
    async fn queue(&self, push: &WaitingPush, due: Timestamp) -> Result<(), StoreError> {
        let receiver = match &push.target {
            Target::Account(account) => Some(account),
            Target::Token(_) => None,
        };
        let people = [receiver, push.actor.as_ref()];
        if self.is_erased(people, push.occurred_at).await? {
            return Ok(());
        }
        let (account, token) = columns(&push.target);
        let id = push.event.to_string();
        let document = doc! {
            "_id": &id,
            "account": account,
            "token": token,
            "actor": push.actor.as_ref().map(AsRef::as_ref),
            "content": serde_json::to_string(&push.content).expect("a push is JSON"),
            "occurred_at": push.occurred_at.as_millisecond(),
            "queued_at": push.queued_at.as_millisecond(),
            "due_at": due.as_millisecond(),
            "attempts": i64::from(push.attempts),
        };
        match self
            .collection(PUSHES)
            .insert_one(document)
            .await
            .map_err(StoreError::from)
        {
            Ok(_) => {}
            // It was queued or settled before.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => {}
            Err(error) => return Err(error),
        }
        if self.is_erased(people, push.occurred_at).await? {
            self.collection(PUSHES).delete_one(doc! { "_id": id }).await?;
        }
        Ok(())
    }

    async fn settle(&self, events: &[EventId], now: Timestamp) -> Result<(), StoreError> {
        for event in events {
            let settled = doc! {
                "$unset": { "account": "", "token": "", "actor": "", "content": "", "sent": "", "due_at": "" },
                "$setOnInsert": { "occurred_at": now.as_millisecond(), "queued_at": now.as_millisecond() },
            };
            self.upsert(PUSHES, doc! { "_id": event.to_string() }, settled).await?;
        }
        Ok(())
    }

    async fn is_settled(&self, event: EventId) -> Result<bool, StoreError> {
        let settled = doc! { "_id": event.to_string(), "due_at": { "$exists": false } };
        Ok(self.collection(PUSHES).find_one(settled).await?.is_some())
    }

    async fn take_due(&self, now: Timestamp, again: Timestamp, limit: u32) -> Result<Vec<WaitingPush>, StoreError> {
        let mut taken = Vec::new();
        for _ in 0..limit {
            let due = doc! { "due_at": { "$lte": now.as_millisecond() } };
            let taking = doc! { "$set": { "due_at": again.as_millisecond() }, "$inc": { "attempts": 1_i64 } };
            let found = self
                .collection(PUSHES)
                .find_one_and_update(due, taking)
                .sort(doc! { "due_at": 1 })
                .return_document(ReturnDocument::After)
                .await?;
            match found {
                Some(push) => taken.extend(readable(waiting(&push))),
                None => break,
            }
        }
        Ok(taken)
    }

    async fn sent(&self, event: EventId, token: &str) -> Result<(), StoreError> {
        let waiting = doc! { "_id": event.to_string(), "due_at": { "$exists": true } };
        self.collection(PUSHES)
            .update_one(waiting, doc! { "$addToSet": { "sent": token } })
            .await?;
        Ok(())
    }

    async fn postpone(&self, event: EventId, due: Timestamp) -> Result<(), StoreError> {
        let waiting = doc! { "_id": event.to_string(), "due_at": { "$exists": true } };
        self.collection(PUSHES)
            .update_one(waiting, doc! { "$set": { "due_at": due.as_millisecond() } })
            .await?;
        Ok(())
    }
}

fn waiting(push: &Document) -> Result<WaitingPush, StoreError> {
    let content: PushContent = serde_json::from_str(text(push, "content")?).map_err(|_| broken("a push is not one"))?;
    Ok(WaitingPush {
        event: text(push, "_id")?
            .parse()
            .map_err(|_| broken("an event id is not one"))?,
        target: target(optional(push, "account"), optional(push, "token"))?,
        actor: optional(push, "actor").as_deref().map(parse_account).transpose()?,
        content,
        occurred_at: timestamp(number(push, "occurred_at")?)?,
        queued_at: timestamp(number(push, "queued_at")?)?,
        attempts: u32::try_from(number(push, "attempts")?).map_err(|_| broken("a count is not one"))?,
        sent: match push.get_array("sent") {
            Ok(sent) => sent.iter().filter_map(Bson::as_str).map(str::to_owned).collect(),
            Err(_) => Vec::new(),
        },
    })
}

fn optional(document: &Document, field: &str) -> Option<String> {
    match document.get(field) {
        Some(Bson::String(text)) => Some(text.clone()),
        _ => None,
    }
}
