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

use super::{BANNERS, MongoStore, NOTICES, PUSHES, WINDOWS, number, text};
use crate::domain::{Banner, PushContent, PushGroup, Thread, WaitingPush};
use crate::store::{
    DUE_AT_ONCE, MOST_BANNERS, MOST_COUNTED, MOST_GROUPED, PushQueue, Pushes, STORED_AT_ONCE, Take, TakenPush,
    TakenPushes, WINDOW, broken, cause, cause_text, columns, first_threads, parse_account, readable, subjects, target,
    timestamp,
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
        let (known, settled) = (doc! { "_id": { "$in": ids(events) } }, doc! { "$unset": cleared });
        let pushes = self.collection(PUSHES);
        let updated = pushes.update_many(known.clone(), settled.clone()).await?;
        if usize::try_from(updated.matched_count).is_ok_and(|count| count == events.len()) {
            return Ok(());
        }
        // What is not there yet is inserted as settled.
        let inserted =
            doc! { "$setOnInsert": { "occurred_at": now.as_millisecond(), "queued_at": now.as_millisecond() } };
        for events in events.chunks(STORED_AT_ONCE) {
            let each = events.iter().map(|event| {
                doc! { "q": { "_id": event.to_string() }, "u": inserted.clone(), "upsert": true }
            });
            let each: Vec<Document> = each.collect();
            retrying(|| self.database.update_each(PUSHES, each.clone())).await?;
        }
        // Another replica may have queued one in between.
        pushes.update_many(known, settled).await?;
        Ok(())
    }

    async fn is_settled(&self, event: EventId) -> Result<bool, StoreError> {
        let settled = doc! { "_id": event.to_string(), "due_at": { "$exists": false } };
        Ok(self.collection(PUSHES).find_one(settled).await?.is_some())
    }

    async fn take_due(&self, take: Take) -> Result<Vec<PushGroup>, StoreError> {
        let (mut groups, mut left) = (Vec::new(), take.limit as usize);
        // Each round takes threads, or another replica took them first and the next round finds others.
        for _ in 0..take.limit {
            let due = self.due_threads(take.now).await?;
            let is_all = due.len() < DUE_AT_ONCE as usize;
            let threads = first_threads(due, left);
            if threads.is_empty() {
                break;
            }
            // The name of this take: it tells its pushes from those that another replica takes.
            let name = ObjectId::new().to_hex();
            let taken = self.take_threads(&threads, &name, take).await?;
            groups.extend(taken.with_content(self.contents(&taken, &name).await?));
            let count = taken.threads();
            left -= count;
            if left == 0 || (is_all && count == threads.len()) {
                break;
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

    async fn sent(&self, events: &[EventId], token: &str) -> Result<bool, StoreError> {
        self.update_waiting(events, doc! { "$addToSet": { "sent": token } })
            .await
    }

    async fn add_banner(&self, account: &Account, banner: &Banner) -> Result<(), StoreError> {
        let state = doc! {
            "account": account.as_str(),
            "token": &banner.token,
            "name": &banner.name,
            "event": banner.event.to_string(),
            "occurred_at": banner.occurred_at.as_millisecond(),
        };
        let id = doc! { "_id": banner_id(account, banner) };
        self.upsert(BANNERS, id.clone(), doc! { "$set": state }).await?;
        // An erasure marks first: either the mark is seen here, or the banner is seen there.
        if self.is_erased([Some((account, banner.occurred_at)), None]).await? {
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
                occurred_at: timestamp(number(&banner, "occurred_at")?)?,
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

    async fn forget_withdrawn(&self, events: &[EventId]) -> Result<(), StoreError> {
        let withdrawn = doc! { "_id": { "$in": ids(events) }, "withdrawn": true };
        let notices = self.collection(NOTICES);
        let mut found = notices.find(withdrawn).projection(doc! { "_id": 1 }).await?;
        let mut forgotten = Vec::new();
        while let Some(notice) = found.try_next().await? {
            forgotten.push(text(&notice, "_id")?.to_owned());
        }
        if forgotten.is_empty() {
            return Ok(());
        }
        let settled = doc! { "_id": { "$in": forgotten }, "due_at": { "$exists": false } };
        self.collection(PUSHES).delete_many(settled).await?;
        Ok(())
    }

    async fn postpone(&self, events: &[EventId], due: Timestamp) -> Result<(), StoreError> {
        let later = doc! { "$set": { "due_at": due.as_millisecond() }, "$unset": { "taken": "" } };
        self.update_waiting(events, later).await?;
        Ok(())
    }

    async fn defer(&self, events: &[EventId], thread: &Thread, due: Timestamp) -> Result<(), StoreError> {
        let later = doc! {
            "$set": { "due_at": due.as_millisecond(), "thread": &thread.0, "attempts": 0_i64 },
            "$unset": { "taken": "" },
        };
        self.update_waiting(events, later).await?;
        Ok(())
    }

    async fn admit(&self, thread: &Thread, limit: u32, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let is_over = doc! { "$lte": ["$started_at", (now - WINDOW).as_millisecond()] };
        // Both see the document as it was.
        let counted = vec![doc! { "$set": {
            "started_at": { "$cond": [is_over.clone(), now.as_millisecond(), "$started_at"] },
            "sent": { "$cond": [is_over, 1_i64, { "$add": ["$sent", 1_i64] }] },
        } }];
        let window = retrying(|| async {
            let windows = self.collection(WINDOWS);
            let window = windows
                .find_one_and_update(doc! { "_id": &thread.0 }, counted.clone())
                .return_document(ReturnDocument::After)
                .await?;
            if let Some(window) = window {
                return Ok::<_, StoreError>(window);
            }
            // Not by an upsert: of two replicas that begin the first minute at once, SecantusDB counts both and answers one of them with nothing.
            let first = doc! { "_id": &thread.0, "started_at": now.as_millisecond(), "sent": 1_i64 };
            let inserted = windows.insert_one(&first).await;
            inserted.map_err(|error| StoreError::from(error).retry_if_taken(&[ID_INDEX]))?;
            Ok(first)
        })
        .await?;
        let end = timestamp(number(&window, "started_at")?)? + WINDOW;
        Ok((number(&window, "sent")? > i64::from(limit)).then_some(end))
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
        "authorized_at": push.authorized_at.map(Timestamp::as_millisecond),
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
                    let later = if let Some(at) = push.authorized_at.map(Timestamp::as_millisecond) {
                        doc! { "$max": { "occurred_at": occurred_at, "authorized_at": at } }
                    } else {
                        // By a replica of the release before: when it happened is compared.
                        doc! { "$max": { "occurred_at": occurred_at }, "$unset": { "authorized_at": "" } }
                    };
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

    /// Updates those of the pushes that wait. Returns whether all do.
    async fn update_waiting(&self, events: &[EventId], update: Document) -> Result<bool, StoreError> {
        let waiting = doc! { "_id": { "$in": ids(events) }, "due_at": { "$exists": true } };
        let updated = self.collection(PUSHES).update_many(waiting, update).await?;
        Ok(usize::try_from(updated.matched_count).is_ok_and(|count| count == events.len()))
    }

    /// Returns the threads of the pushes that have been due for longest.
    async fn due_threads(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let pushes = self.collection(PUSHES);
        let mut found = pushes
            .find(doc! { "due_at": { "$lte": now.as_millisecond() } })
            .sort(doc! { "due_at": 1, "occurred_at": 1 })
            .limit(i64::from(DUE_AT_ONCE))
            .batch_size(DUE_AT_ONCE)
            .projection(doc! { "thread": 1 })
            .await?;
        let mut threads = Vec::new();
        while let Some(push) = found.try_next().await? {
            if let Some(thread) = optional(&push, "thread") {
                threads.push(thread);
                continue;
            }
            // Written by a replica of the release before: a thread of its own.
            let id = text(&push, "_id")?;
            let waiting = doc! { "_id": id, "due_at": { "$exists": true } };
            pushes.update_one(waiting, doc! { "$set": { "thread": id } }).await?;
            threads.push(id.to_owned());
        }
        Ok(threads)
    }

    /// Takes the due pushes of the threads, and those that are sent with them: postponed, or likes that wait, and got by the same devices so
    /// far. At most [`MOST_GROUPED`]: the rest stays due.
    async fn take_threads(&self, threads: &[String], name: &str, take: Take) -> Result<TakenPushes, StoreError> {
        let pushes = self.collection(PUSHES);
        let now = take.now.as_millisecond();
        let mut either = vec![
            doc! { "due_at": { "$lte": now } },
            doc! { "due_at": { "$gt": now }, "attempts": { "$gt": 0 }, "taken": { "$exists": false } },
        ];
        let of_likes = threads.iter().filter(|thread| thread.starts_with(Thread::LIKES));
        let of_likes: Vec<&str> = of_likes.map(String::as_str).collect();
        if !of_likes.is_empty() {
            either.push(doc! {
                "thread": { "$in": of_likes },
                "due_at": { "$gt": now, "$lte": take.likes_until.as_millisecond() },
                "taken": { "$exists": false },
            });
        }
        let free = doc! { "$or": either };
        let mut of_threads = doc! { "thread": { "$in": threads } };
        of_threads.extend(free.clone());
        let mut found = pushes
            .find(of_threads)
            .sort(doc! { "thread": 1, "due_at": 1 })
            .limit(i64::from(MOST_GROUPED))
            .projection(taken_fields())
            .await?;
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        while let Some(push) = found.try_next().await? {
            if number(&push, "due_at")? <= now {
                taken.push(taken_push(&push)?);
            } else {
                waiting.push(taken_push(&push)?);
            }
        }
        {
            let groups: HashSet<(&str, Option<&str>)> = taken.iter().map(TakenPush::key).collect();
            waiting.retain(|push| groups.contains(&push.key()));
        }
        taken.append(&mut waiting);
        if taken.is_empty() {
            return Ok(TakenPushes::new(threads, taken));
        }
        let events: Vec<EventId> = taken.iter().map(|push| push.event).collect();
        let mut count = 0;
        for events in events.chunks(STORED_AT_ONCE) {
            let mut still_free = doc! { "_id": { "$in": ids(events) } };
            still_free.extend(free.clone());
            count += pushes
                .update_many(still_free, taking(name, take.again))
                .await?
                .matched_count;
        }
        if usize::try_from(count).is_ok_and(|count| count < events.len()) {
            // Another replica has taken or settled some since they were read.
            let mine = self.taken_under(name, &events).await?;
            taken.retain(|push| mine.contains(&push.event));
        }
        Ok(TakenPushes::new(threads, taken))
    }

    /// Returns those of the pushes that the take of this name has.
    async fn taken_under(&self, name: &str, events: &[EventId]) -> Result<HashSet<EventId>, StoreError> {
        let mine = doc! { "_id": { "$in": ids(events) }, "taken": name };
        let mut found = self.collection(PUSHES).find(mine).projection(doc! { "_id": 1 }).await?;
        let mut taken = HashSet::new();
        while let Some(push) = found.try_next().await? {
            taken.insert(parse_event(text(&push, "_id")?)?);
        }
        Ok(taken)
    }

    /// Reads the newest pushes of each group. One that was settled since is not taken any more.
    async fn contents(&self, taken: &TakenPushes, name: &str) -> Result<Vec<WaitingPush>, StoreError> {
        let newest = taken.newest();
        let mut read = Vec::with_capacity(newest.len());
        if newest.is_empty() {
            return Ok(read);
        }
        let mine = doc! { "_id": { "$in": ids(&newest) }, "taken": name };
        let mut found = self.collection(PUSHES).find(mine).await?;
        while let Some(push) = found.try_next().await? {
            read.extend(readable(waiting(&push)));
        }
        Ok(read)
    }
}

/// The fields that [`taken_push`] reads, and when the push is due.
fn taken_fields() -> Document {
    doc! { "thread": 1, "sent": 1, "actor": 1, "occurred_at": 1, "attempts": 1, "due_at": 1 }
}

/// Reads a push that is being taken: with one attempt more.
fn taken_push(push: &Document) -> Result<TakenPush, StoreError> {
    Ok(TakenPush {
        event: parse_event(text(push, "_id")?)?,
        thread: text(push, "thread")?.to_owned(),
        sent: push.get("sent").map(ToString::to_string),
        actor: optional(push, "actor"),
        occurred_at: number(push, "occurred_at")?,
        attempts: number(push, "attempts")? + 1,
    })
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
        authorized_at: push.get_i64("authorized_at").ok().map(timestamp).transpose()?,
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
