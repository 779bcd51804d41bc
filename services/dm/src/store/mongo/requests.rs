//! Requests.
//!
//! A message that waits is a document of [`MESSAGES`] with [`HELD`]; its `accounts` name its sender alone, so that nothing lists it for the
//! receiver. The decision is one update of the request; what follows from it (events, messages that are released) is done in steps that
//! every replica can repeat, while the request is `completing`.

use std::collections::HashSet;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::Account;
use sosohappy_events::Outgoing;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::{ID_INDEX, OUTBOX, outbox_field};

use super::MongoStore;
use super::documents::{ids_of, owners, stored_of, timestamp};
use super::fields::{HELD, MESSAGES, NEWEST_OF, POSITION, REVISION, UNNUMBERED, UNREAD, unread};
use super::indexes::{index, sparse, unique};
use crate::domain::{ConversationId, Decision, Party, Position, Request, RequestState, Stored};
use crate::store::{RequestPage, Requests, Unfinished, is_full, push_held};

/// `_id` (the conversation), `id`, `asker`, `receiver`, `askerNickname`, `receiverNickname`, `accounts` (SHA-256 of both), `introduction`,
/// `state`, `askedAt`, `decidedAt`, `completing`.
const REQUESTS: &str = "message_request";

const REQUEST_ID_INDEX: &str = "message_request_id";

/// `_id` (the request's id, a colon, the number of the event), `at`, and the event until it is published.
pub(super) const REQUEST_EVENTS: &str = "message_request_event";

/// Requests that one statement lets be completed again.
const RESUMED: usize = 1000;

impl MongoStore {
    pub(super) async fn make_request_indexes(&self) -> Result<(), StoreError> {
        let indexes = [
            unique(REQUEST_ID_INDEX, doc! { "id": 1 }),
            index("message_request_accounts", doc! { "accounts": 1 }),
            index("message_request_receiver", doc! { "receiver": 1, "state": 1, "id": -1 }),
            index("message_request_state", doc! { "state": 1, "id": 1 }),
            sparse("message_request_completing", doc! { "completing": 1 }),
        ];
        self.collection(REQUESTS).create_indexes(indexes).await?;
        let held = sparse("message_held", doc! { HELD: 1 });
        self.collection(MESSAGES).create_index(held).await?;
        let events = index("message_request_event_at", doc! { "at": 1 });
        self.collection(REQUEST_EVENTS).create_index(events).await?;
        Ok(())
    }

    /// Deletes the requests of a person (SHA-256 of the account), and the messages that wait for it, up to the resignation.
    pub(super) async fn forget_requests(&self, person: &str, until: Timestamp) -> Result<(), StoreError> {
        let up_to = doc! { "$lte": until.as_millisecond() };
        let waiting = doc! { HELD: person, "storedAt": up_to.clone() };
        self.delete_messages(MESSAGES, &waiting).await?;
        let theirs = doc! { "accounts": person, "askedAt": up_to };
        self.collection(REQUESTS).delete_many(theirs).await?;
        Ok(())
    }

    /// Deletes documents of events that were published, from before that moment.
    pub(super) async fn sweep_request_events(&self, before: i64) -> Result<(), StoreError> {
        let published = doc! { "at": { "$lt": before }, OUTBOX: null };
        self.collection(REQUEST_EVENTS).delete_many(published).await?;
        Ok(())
    }

    /// Whether the request of a conversation is in that state.
    pub(super) async fn has_request(
        &self,
        conversation: &ConversationId,
        state: RequestState,
    ) -> Result<bool, StoreError> {
        let wanted = doc! { "_id": conversation.as_str(), "state": state.name() };
        Ok(self.collection(REQUESTS).find_one(wanted).await?.is_some())
    }

    /// Completes a request again if it is accepted: a message may wait in it that was stored after the last round.
    pub(super) async fn resume_request(&self, conversation: &str) -> Result<(), StoreError> {
        let accepted = doc! { "_id": conversation, "state": RequestState::Accepted.name(), "completing": null };
        let completing = doc! { "$set": { "completing": true } };
        self.collection(REQUESTS).update_one(accepted, completing).await?;
        Ok(())
    }

    /// Completes accepted requests of which messages wait: a process was killed between storing a message and its second look at the request.
    pub(super) async fn resume_requests(&self) -> Result<(), StoreError> {
        let mut held = self
            .collection(MESSAGES)
            .find(doc! { HELD: { "$gt": "" } })
            .projection(doc! { "conversation": 1 })
            .await?;
        let mut conversations = HashSet::new();
        while let Some(message) = held.try_next().await? {
            if let Ok(conversation) = message.get_str("conversation") {
                conversations.insert(conversation.to_owned());
            }
            if conversations.len() == RESUMED {
                self.resume_requests_of(std::mem::take(&mut conversations)).await?;
            }
        }
        self.resume_requests_of(conversations).await
    }

    async fn resume_requests_of(&self, conversations: HashSet<String>) -> Result<(), StoreError> {
        if conversations.is_empty() {
            return Ok(());
        }
        let conversations: Vec<String> = conversations.into_iter().collect();
        let accepted = doc! {
            "_id": { "$in": conversations },
            "state": RequestState::Accepted.name(),
            "completing": null,
        };
        let completing = doc! { "$set": { "completing": true } };
        self.collection(REQUESTS).update_many(accepted, completing).await?;
        Ok(())
    }

    async fn update_request(&self, conversation: &ConversationId, update: Document) -> Result<(), StoreError> {
        let request = doc! { "_id": conversation.as_str() };
        self.collection(REQUESTS).update_one(request, update).await?;
        Ok(())
    }

    async fn insert_events(&self, request: &str, at: Timestamp, events: &[Outgoing]) -> Result<(), StoreError> {
        for (number, event) in events.iter().enumerate() {
            let document = doc! {
                "_id": format!("{request}:{}:{number}", at.as_millisecond()),
                "at": at.as_millisecond(),
                OUTBOX: outbox_field(event),
            };
            match self
                .collection(REQUEST_EVENTS)
                .insert_one(document)
                .await
                .map_err(StoreError::from)
            {
                Ok(_) => {}
                Err(StoreError::Conflict(rule)) if rule == ID_INDEX => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Requests for MongoStore {
    async fn request(&self, conversation: &ConversationId) -> Result<Option<Request>, StoreError> {
        let found = self
            .collection(REQUESTS)
            .find_one(doc! { "_id": conversation.as_str() })
            .await?;
        found.as_ref().map(request_of).transpose()
    }

    async fn request_with_id(&self, id: &str) -> Result<Option<Request>, StoreError> {
        let found = self.collection(REQUESTS).find_one(doc! { "id": id }).await?;
        found.as_ref().map(request_of).transpose()
    }

    async fn requests_to(
        &self,
        receiver: &Account,
        before: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<Request>, StoreError> {
        let mut wanted = doc! { "receiver": receiver.as_str(), "state": RequestState::Pending.name() };
        if let Some(before) = before {
            wanted.insert("id", doc! { "$lt": before.as_str() });
        }
        let requests = self.collection(REQUESTS);
        let found = requests
            .find(wanted)
            .sort(doc! { "id": -1 })
            .limit(limit.into())
            .await?;
        let found: Vec<Document> = found.try_collect().await?;
        found.iter().map(request_of).collect()
    }

    async fn unfinished_requests(&self, kind: Unfinished, after: &str, limit: u32) -> Result<RequestPage, StoreError> {
        let mut wanted = match kind {
            Unfinished::Pending => doc! { "state": RequestState::Pending.name() },
            Unfinished::Completing => doc! { "completing": true },
        };
        wanted.insert("id", doc! { "$gt": after });
        let requests = self.collection(REQUESTS);
        let found = requests.find(wanted).sort(doc! { "id": 1 }).limit(limit.into()).await?;
        let found: Vec<Document> = found.try_collect().await?;
        let mut page = RequestPage::default();
        if is_full(found.len(), limit) {
            let last = found.last().and_then(|request| request.get_str("id").ok());
            page.next = last.map(str::to_owned);
        }
        for document in &found {
            page.push(request_of(document));
        }
        Ok(page)
    }

    async fn ask(&self, request: &Request) -> Result<bool, StoreError> {
        let accounts = [
            request.asker.account.fingerprint(),
            request.receiver.account.fingerprint(),
        ];
        let document = doc! {
            "_id": request.conversation().as_str(),
            "id": &request.id,
            "asker": request.asker.account.as_str(),
            "receiver": request.receiver.account.as_str(),
            "askerNickname": &request.asker.nickname,
            "receiverNickname": &request.receiver.nickname,
            "accounts": accounts.as_slice(),
            "state": request.state.name(),
            "askedAt": request.asked_at.as_millisecond(),
        };
        match self
            .collection(REQUESTS)
            .insert_one(document)
            .await
            .map_err(StoreError::from)
        {
            Ok(_) => Ok(true),
            // Of the same request both indexes are violated, and an engine names either.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX || rule == REQUEST_ID_INDEX => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn decide(&self, decision: &Decision, events: &[Outgoing]) -> Result<bool, StoreError> {
        let former: Vec<&str> = decision
            .verdict
            .former_states()
            .iter()
            .map(|state| state.name())
            .collect();
        let undecided = doc! { "_id": decision.conversation.as_str(), "state": { "$in": former } };
        let decided = doc! { "$set": {
            "state": decision.verdict.state().name(),
            "decidedAt": decision.at.as_millisecond(),
            "completing": true,
        } };
        let Some(request) = self
            .collection(REQUESTS)
            .find_one_and_update(undecided, decided)
            .await?
        else {
            return Ok(false);
        };
        let id = request
            .get_str("id")
            .map_err(|error| StoreError::Corrupt(error.into()))?;
        self.insert_events(id, decision.at, events).await?;
        Ok(true)
    }

    async fn repeat_events(&self, request: &Request, events: &[Outgoing]) -> Result<(), StoreError> {
        let at = request.decided_at.unwrap_or(request.asked_at);
        self.insert_events(&request.id, at, events).await
    }

    async fn held(&self, conversation: &ConversationId, limit: u32) -> Result<Vec<Stored>, StoreError> {
        let waiting = doc! { "conversation": conversation.as_str(), HELD: { "$gt": "" } };
        let messages = self.collection(MESSAGES);
        let mut found = messages
            .find(waiting)
            .sort(doc! { POSITION: 1 })
            .projection(doc! { OUTBOX: 0 })
            .await?;
        let mut held = Vec::new();
        while !is_full(held.len(), limit)
            && let Some(document) = found.try_next().await?
        {
            push_held(&mut held, stored_of(&document));
        }
        Ok(held)
    }

    /// Only after the event has been published that it was stored with: the relay, which then takes the field away, must not take this one.
    async fn release(
        &self,
        held: &Stored,
        push_due: Option<Timestamp>,
        event: &Outgoing,
        _now: Timestamp,
    ) -> Result<bool, StoreError> {
        let message = &held.message;
        let receiver = &message.receiver.account;
        let revision = held.state.revision;
        // A message without changes has none.
        let revisions = if revision == 0 {
            vec![Bson::Null, Bson::Int64(0)]
        } else {
            vec![Bson::Int64(revision)]
        };
        let waiting = doc! {
            "_id": ids_of([&message.id]),
            HELD: { "$gt": "" },
            OUTBOX: null,
            REVISION: { "$in": revisions },
        };
        let accounts = owners(&message.sender.account, receiver)
            .get("accounts")
            .cloned()
            .unwrap_or(Bson::Null);
        // The newest, until another is released: a crash before the conversation is settled leaves it in the receiver's list.
        let mut set = doc! { "accounts": accounts.clone(), NEWEST_OF: accounts, OUTBOX: outbox_field(event) };
        // A message that was retracted while it waited has no text to be read or pushed.
        if held.state.retracted_at.is_none() {
            set.insert(UNREAD, unread(receiver, &message.conversation()));
            if let Some(due) = push_due {
                set.insert("pushDueAt", due.as_millisecond());
            }
        }
        let released = doc! {
            "$set": set,
            "$unset": { HELD: "" },
            "$addToSet": { UNNUMBERED: receiver.fingerprint() },
        };
        let messages = self.collection(MESSAGES);
        if messages.update_one(waiting, released).await?.modified_count > 0 {
            return Ok(true);
        }
        // Released by another replica, erased, changed since it was read, or its first event waits.
        let still = doc! { "_id": ids_of([&message.id]), HELD: { "$gt": "" } };
        Ok(messages.find_one(still).await?.is_none())
    }

    async fn completed(&self, request: &Request) -> Result<(), StoreError> {
        let read = doc! {
            "_id": request.conversation().as_str(),
            "decidedAt": request.decided_at.map(Timestamp::as_millisecond),
        };
        let completed = doc! { "$unset": { "completing": "" } };
        self.collection(REQUESTS).update_one(read, completed).await?;
        Ok(())
    }

    async fn set_introduction(
        &self,
        conversation: &ConversationId,
        nickname: &str,
        introduction: Option<&str>,
    ) -> Result<(), StoreError> {
        let known = doc! { "askerNickname": nickname, "introduction": introduction };
        self.update_request(conversation, doc! { "$set": known }).await
    }
}

fn request_of(document: &Document) -> Result<Request, StoreError> {
    let read = || -> anyhow::Result<Request> {
        let text = |field: &str| -> anyhow::Result<String> { Ok(document.get_str(field)?.to_owned()) };
        let decided = document.contains_key("decidedAt");
        Ok(Request {
            id: text("id")?,
            asker: Party {
                account: text("asker")?.parse()?,
                nickname: text("askerNickname")?,
            },
            receiver: Party {
                account: text("receiver")?.parse()?,
                nickname: text("receiverNickname")?,
            },
            introduction: document.get_str("introduction").ok().map(str::to_owned),
            state: RequestState::named(document.get_str("state")?),
            asked_at: timestamp(document, "askedAt")?,
            decided_at: decided.then(|| timestamp(document, "decidedAt")).transpose()?,
            is_completing: document.get_bool("completing").unwrap_or_default(),
        })
    };
    read()
        .context("a request in the database is not one")
        .map_err(StoreError::Corrupt)
}
