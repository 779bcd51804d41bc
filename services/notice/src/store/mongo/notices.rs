use std::collections::HashMap;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::mongo::ID_INDEX;
use sosohappy_store::{StoreError, retrying};

use super::pushes::{optional, parse_event};
use super::{MongoStore, NOTICES, PUSHES, WITHDRAWALS, number, text};
use crate::domain::{ABOUT_POSTS, Notice, post_id};
use crate::store::{
    Added, Notices, Pushes as _, Subject, WITHDRAWN_AT_ONCE, is_about, latest, moments, next_seq, timestamp,
};

/// What is deleted with the withdrawal of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Withdrawn {
    /// The pushes that wait.
    Pushes,
    /// What the notices say, and all pushes, also the settled ones: what happens later under the same id is another notice, with a push of its own.
    Everything,
}

/// Statements of one call that are under way at the same time: others need connections of the pool, too.
const AT_ONCE: usize = 16;

/// The unique index over account and number.
pub(super) const SEQUENCE: &str = "notice_account_seq";

#[async_trait]
impl Notices for MongoStore {
    async fn add_all(&self, notices: &[&Notice], now: Timestamp) -> Result<Vec<Added>, StoreError> {
        let mut added = retrying(|| self.insert_all(notices, now)).await?;
        if !added.iter().any(|added| added.is_kept()) {
            return Ok(added);
        }
        // An erasure or withdrawal marks first: either the mark is seen here, or the notice is seen there.
        let subjects: Vec<Subject<'_>> = notices.iter().map(|notice| Subject::from(*notice)).collect();
        let marks = self.marks(&subjects).await?;
        for ((notice, subject), added) in notices.iter().zip(&subjects).zip(&mut added) {
            let Some(excluded) = marks.exclusion(subject).filter(|_| added.is_kept()) else {
                continue;
            };
            let up_to = doc! {
                "_id": notice.event.to_string(),
                "occurred_at": { "$lte": notice.occurred_at.as_millisecond() },
            };
            *added = excluded;
            if marks.is_receiver_erased(subject) {
                self.collection(NOTICES).delete_one(up_to).await?;
                continue;
            }
            let update = match excluded {
                Added::Erased => only_number(),
                Added::Kept { .. } | Added::Withdrawn => doc! { "$set": { "withdrawn": true } },
            };
            self.collection(NOTICES).update_one(up_to, update).await?;
        }
        Ok(added)
    }

    /// The marks come first: a notice or push that is added meanwhile finds its one.
    async fn withdraw_all(&self, withdrawn: &[(EventId, Timestamp)], now: Timestamp) -> Result<(), StoreError> {
        let latest: Vec<(EventId, Timestamp)> = latest(withdrawn).into_iter().collect();
        if latest.is_empty() {
            return Ok(());
        }
        // Two replicas that mark the same notice both count: the server repeats an upsert by `_id` whose document is inserted meanwhile.
        let marks = latest.iter().map(|(id, at)| {
            doc! { "q": { "_id": id.to_string() }, "u": withdrawal_mark(*at, now), "upsert": true }
        });
        let marks: Vec<Document> = marks.collect();
        retrying(|| self.database.update_each(WITHDRAWALS, marks.clone())).await?;
        let ids: Vec<String> = latest.iter().map(|(id, _)| id.to_string()).collect();
        let each = latest.iter().zip(&ids).map(|((_, at), id)| {
            doc! { "_id": id, "occurred_at": { "$lte": at.as_millisecond() } }
        });
        let each: Vec<Document> = each.collect();
        // The ids once more, outside of the `$or`: one scan of the index, and not one for each alternative.
        let any = doc! { "_id": { "$in": ids }, "$or": each };
        self.withdraw_matching(any, Withdrawn::Pushes).await
    }

    /// As above: a notice that is added while the inbox is read finds the mark.
    async fn withdraw_post(
        &self,
        author: &Account,
        date: i64,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let post = post_id(author, date);
        self.mark_withdrawn(post, at, now).await?;
        let mut notices = Vec::new();
        // Two reads, each by its own index.
        for person in ["account", "actor"] {
            let about_posts = doc! {
                person: author.as_str(),
                "occurred_at": { "$lte": at.as_millisecond() },
                "topic": { "$in": ABOUT_POSTS.as_slice() },
            };
            let mut found = self
                .collection(NOTICES)
                .find(about_posts)
                .projection(doc! { "account": 1, "actor": 1, "topic": 1, "data": 1 })
                .await?;
            while let Some(notice) = found.try_next().await? {
                let (account, actor) = (text(&notice, "account")?, optional(&notice, "actor"));
                let (topic, content) = (text(&notice, "topic")?, text(&notice, "data")?);
                if is_about(post, account, actor.as_deref(), topic, content) {
                    notices.push(text(&notice, "_id")?.to_owned());
                }
            }
        }
        for notices in notices.chunks(WITHDRAWN_AT_ONCE) {
            let up_to = doc! { "_id": { "$in": notices }, "occurred_at": { "$lte": at.as_millisecond() } };
            self.withdraw_matching(up_to, Withdrawn::Everything).await?;
        }
        Ok(())
    }
}

/// The update that leaves only the number of a notice.
pub(super) fn only_number() -> Document {
    doc! { "$set": { "withdrawn": true, "data": "{}" }, "$unset": { "actor": "" } }
}

/// The update that marks a notice, or all notices about a post, as withdrawn.
fn withdrawal_mark(at: Timestamp, now: Timestamp) -> Document {
    doc! {
        "$max": { "withdrawn_until": at.as_millisecond() },
        "$set": { "stored_at": now.as_millisecond() },
    }
}

impl MongoStore {
    async fn mark_withdrawn(&self, id: EventId, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let mark = withdrawal_mark(at, now);
        self.upsert(WITHDRAWALS, doc! { "_id": id.to_string() }, mark).await?;
        Ok(())
    }

    /// Withdraws notices, with these of their pushes. The pushes go first: after a crash between the two the repeated event finds the notices, and so
    /// the pushes, again.
    async fn withdraw_matching(&self, notices: Document, withdrawn: Withdrawn) -> Result<(), StoreError> {
        let mut pushes = notices.clone();
        let update = match withdrawn {
            Withdrawn::Pushes => {
                pushes.insert("due_at", doc! { "$exists": true });
                doc! { "$set": { "withdrawn": true } }
            }
            Withdrawn::Everything => only_number(),
        };
        self.collection(PUSHES).delete_many(pushes).await?;
        self.collection(NOTICES).update_many(notices, update).await?;
        Ok(())
    }

    /// Returns whether one of these was withdrawn at that moment or later.
    pub(super) async fn is_withdrawn(&self, ids: &[EventId], occurred_at: Timestamp) -> Result<bool, StoreError> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let withdrawn = doc! {
            "_id": { "$in": ids },
            "withdrawn_until": { "$gte": occurred_at.as_millisecond() },
        };
        Ok(self.collection(WITHDRAWALS).find_one(withdrawn).await?.is_some())
    }

    /// Adds notices that the inbox does not have by one statement, and those that come back or happened again one by one.
    async fn insert_all(&self, notices: &[&Notice], now: Timestamp) -> Result<Vec<Added>, StoreError> {
        let known = self.known(notices).await?;
        let is_new = |notice: &&Notice| !known.contains_key(&notice.event);
        let new: Vec<&Notice> = notices.iter().copied().filter(is_new).collect();
        let new = self.insert_new(&new, now).await?;
        let mut added = Vec::with_capacity(notices.len());
        for notice in notices {
            added.push(match (new.get(&notice.event), known.get(&notice.event)) {
                (Some(added), _) => *added,
                (None, Some(known)) if covers(known, notice)? => kept(known)?,
                (None, _) => self.insert(notice, now).await?,
            });
        }
        Ok(added)
    }

    async fn known(&self, notices: &[&Notice]) -> Result<HashMap<EventId, Document>, StoreError> {
        let ids: Vec<String> = notices.iter().map(|notice| notice.event.to_string()).collect();
        let mut found = self
            .collection(NOTICES)
            .find(doc! { "_id": { "$in": ids } })
            .projection(doc! { "seq": 1, "stored_at": 1, "occurred_at": 1, "withdrawn": 1 })
            .await?;
        let mut known = HashMap::new();
        while let Some(notice) = found.try_next().await? {
            known.insert(parse_event(text(&notice, "_id")?)?, notice);
        }
        Ok(known)
    }

    /// Numbers are taken by the unique index, in order, and each only when the one before it can be seen: a reader that has seen a number has
    /// seen all below it.
    async fn insert_new(&self, notices: &[&Notice], now: Timestamp) -> Result<HashMap<EventId, Added>, StoreError> {
        let subjects: Vec<Subject<'_>> = notices.iter().map(|notice| Subject::from(*notice)).collect();
        let mut added = HashMap::with_capacity(notices.len());
        if notices.is_empty() {
            return Ok(added);
        }
        let (marks, mut last) = futures::try_join!(self.marks(&subjects), self.last_of_receivers(notices))?;
        let mut documents = Vec::with_capacity(notices.len());
        for (notice, subject) in notices.iter().zip(&subjects) {
            if let Some(excluded) = marks.exclusion(subject) {
                added.insert(notice.event, excluded);
                continue;
            }
            let last = last.entry(notice.receiver.as_str()).or_default();
            let seq = next_seq(*last, now);
            *last = Some(seq);
            let mut document = doc! { "_id": notice.event.to_string() };
            document.extend(fields(notice, seq, now.as_millisecond()));
            added.insert(notice.event, kept(&document)?);
            documents.push(document);
        }
        if !documents.is_empty() {
            let inserted = self.collection(NOTICES).insert_many(documents).ordered(true).await;
            // One of the same notices by another replica, or another notice of the same account: those before it are inserted; look again.
            inserted.map_err(|error| StoreError::from(error).retry_if_taken(&[ID_INDEX, SEQUENCE]))?;
        }
        Ok(added)
    }

    /// Returns the highest number of each receiver's inbox.
    async fn last_of_receivers<'a>(&self, notices: &[&'a Notice]) -> Result<HashMap<&'a str, Option<i64>>, StoreError> {
        let mut receivers: Vec<&Account> = notices.iter().map(|notice| &notice.receiver).collect();
        receivers.sort_unstable();
        receivers.dedup();
        let mut last = HashMap::with_capacity(receivers.len());
        for receivers in receivers.chunks(AT_ONCE) {
            let ends = try_join_all(receivers.iter().map(|receiver| self.end(receiver, -1))).await?;
            last.extend(receivers.iter().copied().map(Account::as_str).zip(ends));
        }
        Ok(last)
    }

    /// Adds one notice as [`MongoStore::insert_new`] does, or what has become of it since.
    async fn insert(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        let notices = self.collection(NOTICES);
        let id = notice.event.to_string();
        let occurred_at = notice.occurred_at.as_millisecond();
        let known = notices.find_one(doc! { "_id": &id }).await?;
        if let Some(known) = &known
            && !is_marked_withdrawn(known)
        {
            if number(known, "occurred_at")? < occurred_at {
                // The same like again: a withdrawal from in between no longer counts.
                let mut later = moments_of(notice);
                later.insert("occurred_at", occurred_at);
                notices.update_one(doc! { "_id": &id }, doc! { "$max": later }).await?;
            }
            return kept(known);
        }
        if self.is_erased(notice.people()).await? {
            return Ok(Added::Erased);
        }
        if self.is_withdrawn(&notice.withdrawal_ids(), notice.occurred_at).await? {
            return Ok(Added::Withdrawn);
        }
        let (seq, stored_at) = match &known {
            Some(known) if self.is_settled(notice.event).await? => (number(known, "seq")?, number(known, "stored_at")?),
            _ => {
                let last = self.end(&notice.receiver, -1).await?;
                (next_seq(last, now), now.as_millisecond())
            }
        };
        let fields = fields(notice, seq, stored_at);
        let written = if let Some(known) = &known {
            // Only the state that was seen.
            let seen = doc! { "_id": &id, "withdrawn": true, "seq": number(known, "seq")? };
            let again = doc! { "$set": fields.clone(), "$unset": { "withdrawn": "" } };
            let updated = notices.update_one(seen, again).await;
            updated
                .map_err(StoreError::from)
                .and_then(|updated| match updated.matched_count {
                    0 => Err(StoreError::Retry(anyhow::anyhow!("the notice changed meanwhile"))),
                    _ => Ok(()),
                })
        } else {
            let mut document = doc! { "_id": id };
            document.extend(fields.clone());
            let inserted = notices.insert_one(document).await;
            inserted.map(|_| ()).map_err(StoreError::from)
        };
        match written {
            Ok(()) => kept(&fields),
            // The same notice by another replica, or another notice of the same person: look again.
            Err(error) => Err(error.retry_if_taken(&[ID_INDEX, SEQUENCE])),
        }
    }
}

/// Returns the document of a notice, without its `_id`.
fn fields(notice: &Notice, seq: i64, stored_at: i64) -> Document {
    let mut fields = doc! {
        "account": notice.receiver.as_str(),
        "seq": seq,
        "actor": notice.content.actor().map(AsRef::as_ref),
        "topic": notice.content.topic(),
        "data": notice.content.stored(),
        "occurred_at": notice.occurred_at.as_millisecond(),
        "stored_at": stored_at,
    };
    fields.extend(moments_of(notice));
    fields
}

/// Returns the fields with which resignations are compared.
fn moments_of(notice: &Notice) -> Document {
    let named = ["account_at", "actor_at"].into_iter().zip(moments(notice));
    named
        .filter_map(|(field, at)| Some((field.to_owned(), Bson::from(at?))))
        .collect()
}

/// Returns whether the inbox has the notice as it is, or as it happened later.
fn covers(known: &Document, notice: &Notice) -> Result<bool, StoreError> {
    Ok(!is_marked_withdrawn(known) && number(known, "occurred_at")? >= notice.occurred_at.as_millisecond())
}

fn is_marked_withdrawn(notice: &Document) -> bool {
    notice.get_bool("withdrawn").unwrap_or(false)
}

fn kept(notice: &Document) -> Result<Added, StoreError> {
    Ok(Added::Kept {
        seq: number(notice, "seq")?,
        stored_at: timestamp(number(notice, "stored_at")?)?,
    })
}
