use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::mongo::ID_INDEX;
use sosohappy_store::{StoreError, retrying};

use super::{BANNERS, MongoStore, PUSHES, WINDOWS, number, text};
use crate::domain::{Banner, PushContent, PushGroup, Thread, WaitingPush};
use crate::store::{
    MOST_BANNERS, MOST_COUNTED, MOST_GROUPED, MOST_READ, PushQueue, Pushes, WINDOW, broken, cause, cause_text, columns,
    group, parse_account, readable, subjects, target, timestamp,
};

#[async_trait]
impl Pushes for MongoStore {
    async fn queue_all(&self, pushes: &[(&WaitingPush, Timestamp)]) -> Result<(), StoreError> {
        let wanted = self.marks(&subjects(pushes)).await?.kept(pushes);
        if wanted.is_empty() {
            return Ok(());
        }
        retrying(|| self.insert_pushes(&wanted)).await?;
        // An erasure or withdrawal marks first: either the mark is seen here, or the push is seen there.
        let after = subjects(&wanted);
        let marks = self.marks(&after).await?;
        for ((push, _), subject) in wanted.iter().zip(&after) {
            if marks.exclusion(subject).is_some() {
                let waiting = doc! {
                    "_id": push.event.to_string(),
                    "due_at": { "$exists": true },
                    "occurred_at": { "$lte": push.occurred_at.as_millisecond() },
                };
                self.collection(PUSHES).delete_one(waiting).await?;
            }
        }
        Ok(())
    }

    async fn settle(&self, events: &[EventId], now: Timestamp) -> Result<(), StoreError> {
        let cleared = doc! {
            "account": "", "token": "", "actor": "", "content": "", "sent": "", "due_at": "", "thread": "", "taken": "",
            "cause": "",
        };
        // A group at once; what is not there yet is made as settled, one by one.
        let known = doc! { "_id": { "$in": ids(events) } };
        let updated = self
            .collection(PUSHES)
            .update_many(known, doc! { "$unset": cleared.clone() })
            .await?;
        if usize::try_from(updated.matched_count).is_ok_and(|count| count == events.len()) {
            return Ok(());
        }
        for event in events {
            let settled = doc! {
                "$unset": cleared.clone(),
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

    async fn take_due(&self, now: Timestamp, again: Timestamp, limit: u32) -> Result<Vec<PushGroup>, StoreError> {
        let mut groups = Vec::new();
        for _ in 0..limit {
            // The name of this take: it tells the group from what another replica has of the thread.
            let taken = ObjectId::new().to_hex();
            let due = doc! { "due_at": { "$lte": now.as_millisecond() } };
            let found = self
                .collection(PUSHES)
                .find_one_and_update(due, taking(&taken, again))
                .sort(doc! { "due_at": 1, "occurred_at": 1 })
                .return_document(ReturnDocument::After)
                .await?;
            match found {
                Some(head) => groups.extend(self.take_group(&head, &taken, now, again).await?),
                None => break,
            }
        }
        Ok(groups)
    }

    async fn push_queue(&self) -> Result<PushQueue, StoreError> {
        // Settled pushes have no `due_at`: the range is the part of the index with those that wait.
        let waiting = doc! { "due_at": { "$gt": i64::MIN } };
        let pushes = self.collection(PUSHES);
        let count = pushes.count_documents(waiting.clone()).limit(u64::from(MOST_COUNTED));
        let count = count.await?;
        let first = pushes.find_one(waiting).sort(doc! { "due_at": 1 }).await?;
        let first_due = first.map(|push| timestamp(number(&push, "due_at")?)).transpose()?;
        Ok(PushQueue {
            waiting: count,
            first_due,
        })
    }

    async fn sent(&self, events: &[EventId], token: &str) -> Result<(), StoreError> {
        self.update_waiting(events, doc! { "$addToSet": { "sent": token } })
            .await
    }

    async fn add_banner(&self, account: &Account, banner: &Banner, occurred_at: Timestamp) -> Result<(), StoreError> {
        let state = doc! {
            "account": account.as_str(),
            "token": &banner.token,
            "name": &banner.name,
            "event": banner.event.to_string(),
            "occurred_at": occurred_at.as_millisecond(),
        };
        let id = doc! { "_id": banner_id(account, banner) };
        self.upsert(BANNERS, id.clone(), doc! { "$set": state }).await?;
        // An erasure marks first: either the mark is seen here, or the banner is seen there.
        if self.is_erased([Some(account), None], occurred_at).await? {
            self.collection(BANNERS).delete_one(id).await?;
        }
        Ok(())
    }

    async fn banners(&self, account: &Account) -> Result<Vec<Banner>, StoreError> {
        let mut found = self
            .collection(BANNERS)
            .find(doc! { "account": account.as_str() })
            .sort(doc! { "occurred_at": 1, "_id": 1 })
            .limit(MOST_BANNERS)
            .await?;
        let mut banners = Vec::new();
        while let Some(banner) = found.try_next().await? {
            banners.push(Banner {
                event: parse_event(text(&banner, "event")?)?,
                token: text(&banner, "token")?.to_owned(),
                name: text(&banner, "name")?.to_owned(),
            });
        }
        Ok(banners)
    }

    async fn showing(&self, accounts: &[&Account], events: &[EventId]) -> Result<Vec<Account>, StoreError> {
        let accounts: Vec<&str> = accounts.iter().map(|account| account.as_str()).collect();
        let shown = doc! { "account": { "$in": accounts }, "event": { "$in": ids(events) } };
        let found = self
            .collection(BANNERS)
            .find(shown)
            .projection(doc! { "account": 1 })
            .await?;
        let found: Vec<Document> = found.try_collect().await?;
        let found = found.iter().map(|banner| text(banner, "account"));
        let found: HashSet<&str> = found.collect::<Result<_, StoreError>>()?;
        found.into_iter().map(parse_account).collect()
    }

    async fn remove_banners(&self, account: &Account, banners: &[Banner]) -> Result<(), StoreError> {
        if banners.is_empty() {
            return Ok(());
        }
        let each = banners.iter().map(|banner| {
            doc! { "_id": banner_id(account, banner), "event": banner.event.to_string() }
        });
        let any = doc! { "$or": each.collect::<Vec<_>>() };
        self.collection(BANNERS).delete_many(any).await?;
        Ok(())
    }

    async fn postpone(&self, events: &[EventId], due: Timestamp) -> Result<(), StoreError> {
        let later = doc! { "$set": { "due_at": due.as_millisecond() }, "$unset": { "taken": "" } };
        self.update_waiting(events, later).await
    }

    async fn defer(&self, events: &[EventId], thread: &Thread, due: Timestamp) -> Result<(), StoreError> {
        let later = doc! {
            "$set": { "due_at": due.as_millisecond(), "thread": &thread.0, "attempts": 0_i64 },
            "$unset": { "taken": "" },
        };
        self.update_waiting(events, later).await
    }

    async fn admit(&self, thread: &Thread, limit: u32, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let over = (now - WINDOW).as_millisecond();
        retrying(|| async {
            let open = doc! { "_id": &thread.0, "started_at": { "$gt": over } };
            let counted = self
                .collection(WINDOWS)
                .find_one_and_update(open, doc! { "$inc": { "sent": 1_i64 } })
                .return_document(ReturnDocument::After)
                .await?;
            if let Some(window) = counted {
                let end = timestamp(number(&window, "started_at")?)? + WINDOW;
                return Ok((number(&window, "sent")? > i64::from(limit)).then_some(end));
            }
            let ended = doc! { "_id": &thread.0, "started_at": { "$lte": over } };
            let first = doc! { "$set": { "started_at": now.as_millisecond(), "sent": 1_i64 } };
            match self.upsert(WINDOWS, ended, first).await {
                Ok(true) => Ok(None),
                // Another replica began the minute.
                Ok(false) => Err(StoreError::Retry(anyhow::anyhow!("the window changed meanwhile"))),
                Err(error) => Err(error.retry_if_taken(&[ID_INDEX])),
            }
        })
        .await
    }
}

fn document(push: &WaitingPush, due: Timestamp) -> Document {
    let (account, token) = columns(&push.target);
    doc! {
        "_id": push.event.to_string(),
        "account": account,
        "token": token,
        "actor": push.actor.as_ref().map(AsRef::as_ref),
        "content": serde_json::to_string(&push.content).expect("a push is JSON"),
        "occurred_at": push.occurred_at.as_millisecond(),
        "queued_at": push.queued_at.as_millisecond(),
        "due_at": due.as_millisecond(),
        "attempts": i64::from(push.attempts),
        "thread": push.thread().0,
        "cause": cause_text(push),
    }
}

fn banner_id(account: &Account, banner: &Banner) -> String {
    format!("{}\u{1f}{}\u{1f}{}", account.as_str(), banner.token, banner.name)
}

fn ids(events: &[EventId]) -> Vec<String> {
    events.iter().map(ToString::to_string).collect()
}

fn taking(taken: &str, again: Timestamp) -> Document {
    doc! { "$set": { "due_at": again.as_millisecond(), "taken": taken }, "$inc": { "attempts": 1_i64 } }
}

impl MongoStore {
    /// Inserts pushes. Those that wait already happened again.
    async fn insert_pushes(&self, pushes: &[(&WaitingPush, Timestamp)]) -> Result<(), StoreError> {
        let collection = self.collection(PUSHES);
        let events: Vec<EventId> = pushes.iter().map(|(push, _)| push.event).collect();
        let mut found = collection
            .find(doc! { "_id": { "$in": ids(&events) } })
            .projection(doc! { "occurred_at": 1, "due_at": 1 })
            .await?;
        let mut known = HashMap::new();
        while let Some(push) = found.try_next().await? {
            known.insert(parse_event(text(&push, "_id")?)?, push);
        }
        let mut documents = Vec::with_capacity(pushes.len());
        for (push, due) in pushes {
            let occurred_at = push.occurred_at.as_millisecond();
            match known.get(&push.event) {
                None => documents.push(document(push, *due)),
                Some(known)
                    if known.contains_key("due_at")
                        && !known.get_i64("occurred_at").is_ok_and(|known| known >= occurred_at) =>
                {
                    let waiting = doc! { "_id": push.event.to_string(), "due_at": { "$exists": true } };
                    let later = doc! { "$max": { "occurred_at": occurred_at } };
                    collection.update_one(waiting, later).await?;
                }
                // It was settled, or waits already.
                Some(_) => {}
            }
        }
        if !documents.is_empty() {
            let inserted = collection.insert_many(documents).ordered(false).await;
            // Another replica has queued or settled one of them since: look again.
            inserted.map_err(|error| StoreError::from(error).retry_if_taken(&[ID_INDEX]))?;
        }
        Ok(())
    }

    async fn update_waiting(&self, events: &[EventId], update: Document) -> Result<(), StoreError> {
        let waiting = doc! { "_id": { "$in": ids(events) }, "due_at": { "$exists": true } };
        self.collection(PUSHES).update_many(waiting, update).await?;
        Ok(())
    }

    /// Takes what is sent with the push: of its thread, and got by the same devices so far. `None` when none of them can be read.
    async fn take_group(
        &self,
        head: &Document,
        taken: &str,
        now: Timestamp,
        again: Timestamp,
    ) -> Result<Option<PushGroup>, StoreError> {
        let pushes = self.collection(PUSHES);
        let id = text(head, "_id")?;
        let Ok(thread) = head.get_str("thread") else {
            // Written by a replica of the release before: a thread of its own.
            let thread = Thread(id.to_owned());
            let members = vec![(parse_event(id)?, optional(head, "actor"))];
            let read: Vec<_> = readable(waiting(head)).into_iter().collect();
            let attempts = read.first().map_or(0, |push| push.attempts);
            return Ok(group(thread, members, read, attempts));
        };
        let either = [
            doc! { "due_at": { "$lte": now.as_millisecond() } },
            doc! { "due_at": { "$exists": true }, "attempts": { "$gt": 0 }, "taken": { "$exists": false } },
        ];
        let same = doc! {
            "thread": thread,
            "sent": head.get("sent").cloned().unwrap_or(Bson::Null),
            "$or": either.as_slice(),
        };
        pushes.update_many(same, taking(taken, again)).await?;
        let mine = doc! { "thread": thread, "taken": taken };
        let newest_first = doc! { "occurred_at": -1, "_id": 1 };
        let mut found = pushes
            .find(mine.clone())
            .sort(newest_first.clone())
            .limit(MOST_GROUPED)
            .projection(doc! { "actor": 1, "attempts": 1 })
            .await?;
        let (mut members, mut attempts) = (Vec::new(), 0);
        while let Some(push) = found.try_next().await? {
            members.push((parse_event(text(&push, "_id")?)?, optional(&push, "actor")));
            attempts = attempts.max(number(&push, "attempts")?);
        }
        let mut found = pushes.find(mine).sort(newest_first).limit(MOST_READ).await?;
        let mut read = Vec::new();
        while let Some(push) = found.try_next().await? {
            read.extend(readable(waiting(&push)));
        }
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        Ok(group(Thread(thread.to_owned()), members, read, attempts))
    }
}

pub(super) fn parse_event(id: &str) -> Result<EventId, StoreError> {
    id.parse().map_err(|_| broken("an event id is not one"))
}

fn waiting(push: &Document) -> Result<WaitingPush, StoreError> {
    let content: PushContent = serde_json::from_str(text(push, "content")?).map_err(|_| broken("a push is not one"))?;
    Ok(WaitingPush {
        event: parse_event(text(push, "_id")?)?,
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
        cause: cause(optional(push, "cause").as_deref()),
    })
}

pub(super) fn optional(document: &Document, field: &str) -> Option<String> {
    match document.get(field) {
        Some(Bson::String(text)) => Some(text.clone()),
        _ => None,
    }
}
