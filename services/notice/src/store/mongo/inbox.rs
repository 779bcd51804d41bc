use std::collections::HashMap;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::{StoreError, retrying};

use super::pushes::{optional, parse_event};
use super::{MESSAGES, MongoStore, NOTICES, READ, number, text};
use crate::domain::{LIKE, stored_like};
use crate::store::{
    Decision, Following, Inbox, Listing, NoticeGroup, Pushes as _, ReadState, StoredNotice, View, broken,
    parse_account, timestamp,
};

/// Returns the update of one view, as [`Database::update_each`](sosohappy_store::mongo::Database::update_each) takes it. Only an opened socket
/// makes the document of an account.
fn view_update(view: &View) -> Document {
    let account = view.account.as_str();
    let mut update = doc! { "$max": { "viewed_at": view.at.as_millisecond() } };
    if let Some(authorized_at) = view.authorized_at {
        let millis = authorized_at.as_millisecond();
        update.insert("$setOnInsert", doc! { "read_seq": 0_i64, "read_at": millis });
    }
    doc! { "q": { "_id": account }, "u": update, "upsert": view.authorized_at.is_some() }
}

/// Returns whether the view is of a socket whose account resigned since the access token was issued.
fn is_resigned(view: &View, erased: &HashMap<String, i64>) -> bool {
    let erased_until = || erased.get(&view.account.fingerprint()).copied();
    view.authorized_at
        .is_some_and(|at| erased_until().is_some_and(|until| until >= at.as_millisecond()))
}

/// The condition on what the account sees.
fn seen(account: &Account, hidden: &[Account]) -> Document {
    let mut seen = doc! { "account": account.as_str(), "withdrawn": { "$ne": true } };
    if !hidden.is_empty() {
        let hidden: Vec<&str> = hidden.iter().map(AsRef::as_ref).collect();
        seen.insert("actor", doc! { "$nin": hidden });
    }
    seen
}

/// The condition on what the account has not read.
fn unread(account: &Account, hidden: &[Account], read_seq: i64, since: Option<Timestamp>) -> Document {
    let mut unread = seen(account, hidden);
    // Without it the index of the times is used.
    if read_seq > 0 {
        unread.insert("seq", doc! { "$gt": read_seq });
    }
    if let Some(since) = since {
        unread.insert("occurred_at", doc! { "$gt": since.as_millisecond() });
    }
    unread
}

fn stored(notice: &Document) -> Result<StoredNotice, StoreError> {
    Ok(StoredNotice {
        id: parse_event(text(notice, "_id")?)?,
        seq: number(notice, "seq")?,
        actor: optional(notice, "actor").as_deref().map(parse_account).transpose()?,
        topic: text(notice, "topic")?.to_owned(),
        data: serde_json::from_str(text(notice, "data")?).map_err(|_| broken("a notice is not JSON"))?,
        occurred_at: timestamp(number(notice, "occurred_at")?)?,
    })
}

#[async_trait]
impl Inbox for MongoStore {
    async fn groups(&self, listing: &Listing<'_>) -> Result<Vec<NoticeGroup>, StoreError> {
        let notices = self.collection(NOTICES);
        let is_like = doc! { "$eq": ["$topic", LIKE] };
        let pipeline = [
            doc! { "$match": seen(listing.account, listing.hidden) },
            doc! { "$group": {
                "_id": { "$cond": [is_like, "$data", "$_id"] },
                "seq": { "$max": "$seq" },
                "count": { "$sum": 1_i64 },
            } },
            doc! { "$match": { "seq": { "$lt": listing.before } } },
            doc! { "$sort": { "seq": -1 } },
            doc! { "$limit": i64::from(listing.limit) },
        ];
        let groups: Vec<Document> = notices.aggregate(pipeline).await?.try_collect().await?;
        let mut counts = Vec::with_capacity(groups.len());
        for group in &groups {
            counts.push((number(group, "seq")?, number(group, "count")?));
        }
        let numbers: Vec<i64> = counts.iter().map(|(seq, _)| *seq).collect();
        let newest = doc! { "account": listing.account.as_str(), "seq": { "$in": numbers } };
        let newest: Vec<Document> = notices
            .find(newest)
            .sort(doc! { "seq": -1 })
            .await?
            .try_collect()
            .await?;
        let mut found = Vec::with_capacity(newest.len());
        for notice in &newest {
            let newest = stored(notice)?;
            let count = counts.iter().find(|(seq, _)| *seq == newest.seq);
            let count = count.and_then(|(_, count)| u64::try_from(*count).ok()).unwrap_or(1);
            found.push(NoticeGroup { newest, count });
        }
        Ok(found)
    }

    async fn likes(&self, listing: &Listing<'_>, date: i64) -> Result<Vec<StoredNotice>, StoreError> {
        let mut likes = seen(listing.account, listing.hidden);
        likes.extend(doc! { "topic": LIKE, "data": stored_like(date), "seq": { "$lt": listing.before } });
        let mut found = self
            .collection(NOTICES)
            .find(likes)
            .sort(doc! { "seq": -1 })
            .limit(i64::from(listing.limit))
            .await?;
        let mut notices = Vec::new();
        while let Some(notice) = found.try_next().await? {
            notices.push(stored(&notice)?);
        }
        Ok(notices)
    }

    async fn after(
        &self,
        account: &Account,
        hidden: &[Account],
        seq: i64,
        limit: u32,
    ) -> Result<Following, StoreError> {
        let mut later = seen(account, hidden);
        later.insert("seq", doc! { "$gt": seq });
        let mut found = self
            .collection(NOTICES)
            .find(later)
            .sort(doc! { "seq": 1 })
            .limit(i64::from(limit))
            .await?;
        let (mut following, mut read) = (Following::default(), 0);
        while let Some(notice) = found.try_next().await? {
            read += 1;
            following.push(number(&notice, "seq")?, stored(&notice));
        }
        following.more = read >= limit;
        Ok(following)
    }

    async fn kept(&self, account: &Account) -> Result<Option<(i64, i64)>, StoreError> {
        let (oldest, newest) = futures::try_join!(self.end(account, 1), self.end(account, -1))?;
        Ok(oldest.zip(newest))
    }

    async fn newest(&self, accounts: &[Account]) -> Result<HashMap<Account, i64>, StoreError> {
        let names: Vec<&str> = accounts.iter().map(AsRef::as_ref).collect();
        // In the order of the index, backwards: the server reads one key of each account.
        let pipeline = [
            doc! { "$match": { "account": { "$in": names } } },
            doc! { "$sort": { "account": -1, "seq": -1 } },
            doc! { "$group": { "_id": "$account", "newest": { "$first": "$seq" } } },
        ];
        let mut found = self.collection(NOTICES).aggregate(pipeline).await?;
        let mut newest = HashMap::with_capacity(accounts.len());
        while let Some(row) = found.try_next().await? {
            newest.insert(parse_account(text(&row, "_id")?)?, number(&row, "newest")?);
        }
        Ok(newest)
    }

    async fn handled(&self, account: &Account, events: &[EventId]) -> Result<Vec<EventId>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = events.iter().map(ToString::to_string).collect();
        let messages = doc! { "_id": { "$in": &ids }, "account": account.as_str(), "unread": null };
        let either = [
            doc! { "withdrawn": true },
            doc! { "seq": { "$lte": self.read_until(account).await? } },
        ];
        let handled = doc! { "_id": { "$in": ids }, "account": account.as_str(), "$or": either.as_slice() };
        let mut found = self
            .collection(NOTICES)
            .find(handled)
            .projection(doc! { "_id": 1 })
            .await?;
        let mut events = Vec::new();
        while let Some(notice) = found.try_next().await? {
            events.push(parse_event(text(&notice, "_id")?)?);
        }
        let mut found = self
            .collection(MESSAGES)
            .find(messages)
            .projection(doc! { "_id": 1 })
            .await?;
        while let Some(message) = found.try_next().await? {
            events.push(parse_event(text(&message, "_id")?)?);
        }
        Ok(events)
    }

    async fn read(&self, by: &Decision<'_>, seq: i64) -> Result<Vec<EventId>, StoreError> {
        let account = by.account;
        let notices = self.collection(NOTICES);
        let (newest, before) = futures::try_join!(self.end(account, -1), self.read_until(account))?;
        let seq = seq.min(newest.unwrap_or_default());
        if seq <= before {
            return Ok(Vec::new());
        }
        // Two calls at once may both settle a notice, which changes nothing.
        let read = doc! {
            "account": account.as_str(),
            "seq": { "$gt": before, "$lte": seq },
            "withdrawn": { "$ne": true },
        };
        let mut found = notices.find(read).projection(doc! { "_id": 1 }).await?;
        let mut events = Vec::new();
        while let Some(notice) = found.try_next().await? {
            events.push(parse_event(text(&notice, "_id")?)?);
        }
        self.settle(&events, by.at).await?;
        let authorized_at = by.authorized_at.as_millisecond();
        let later = doc! { "$max": { "read_seq": seq, "read_at": authorized_at } };
        self.upsert(READ, doc! { "_id": account.as_str() }, later).await?;
        // An erasure marks first: either the mark is seen here, or the document is seen there.
        if self.is_erased([Some((account, by.authorized_at)), None]).await? {
            let mine = doc! { "_id": account.as_str(), "read_at": { "$lte": authorized_at } };
            self.collection(READ).delete_one(mine).await?;
            return Ok(Vec::new());
        }
        Ok(events)
    }

    async fn read_state(&self, account: &Account) -> Result<ReadState, StoreError> {
        let read = self.collection(READ).find_one(doc! { "_id": account.as_str() }).await?;
        let Some(read) = read else {
            return Ok(ReadState::default());
        };
        let is_viewed = read.contains_key("viewed_at");
        Ok(ReadState {
            seq: number(&read, "read_seq")?,
            viewed_at: is_viewed.then(|| timestamp(number(&read, "viewed_at")?)).transpose()?,
        })
    }

    async fn unread(
        &self,
        account: &Account,
        hidden: &[Account],
        read_seq: i64,
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError> {
        let unread = unread(account, hidden, read_seq, since);
        Ok(self.collection(NOTICES).count_documents(unread).await?)
    }

    async fn unread_likes(
        &self,
        account: &Account,
        hidden: &[Account],
        date: i64,
        read_seq: i64,
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError> {
        let mut likes = unread(account, hidden, read_seq, since);
        likes.extend(doc! { "topic": LIKE, "data": stored_like(date) });
        Ok(self.collection(NOTICES).count_documents(likes).await?)
    }

    async fn viewed(&self, views: &[View]) -> Result<(), StoreError> {
        let erased = self.erasures_of(views).await?;
        let kept: Vec<&View> = views.iter().filter(|view| !is_resigned(view, &erased)).collect();
        let updates: Vec<Document> = kept.iter().map(|view| view_update(view)).collect();
        retrying(|| self.database.update_each(READ, updates.clone())).await?;
        // An erasure marks first: either the mark is seen here, or the view is seen there.
        let erased = self.erasures_of(views).await?;
        let resigned: Vec<&View> = kept.into_iter().filter(|view| is_resigned(view, &erased)).collect();
        for view in resigned {
            if let Some(authorized_at) = view.authorized_at {
                let up_to = doc! { "$lte": authorized_at.as_millisecond() };
                let erased = doc! { "_id": view.account.as_str(), "read_at": up_to };
                self.collection(READ).delete_one(erased).await?;
            }
        }
        Ok(())
    }
}

impl MongoStore {
    /// Returns the erasures of the accounts that opened a socket.
    async fn erasures_of(&self, views: &[View]) -> Result<HashMap<String, i64>, StoreError> {
        let opened = views.iter().filter(|view| view.authorized_at.is_some());
        let people: Vec<String> = opened.map(|view| view.account.fingerprint()).collect();
        if people.is_empty() {
            return Ok(HashMap::new());
        }
        self.erasures(people).await
    }

    /// Returns the lowest number of the account for the direction 1, the highest for -1.
    pub(super) async fn end(&self, account: &Account, direction: i32) -> Result<Option<i64>, StoreError> {
        let found = self
            .collection(NOTICES)
            .find_one(doc! { "account": account.as_str() })
            .sort(doc! { "seq": direction })
            .await?;
        found.map(|notice| number(&notice, "seq")).transpose()
    }
}
