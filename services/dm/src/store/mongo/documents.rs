//! The documents of messages: how they are written and read.

use anyhow::Context as _;
use jiff::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::Account;
use sosohappy_events::Outgoing;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::{OUTBOX, outbox_field};

use super::fields::{
    CLIENT_KEY, EDITED_AT, HELD, HIDDEN_AT, MESSAGE_ID, NEWEST_OF, NUMBER, POSITION, REACTIONS, REPEAT_KEY,
    RETRACTED_AT, REVISION, UNNUMBERED, UNREAD, unread,
};
use crate::domain::{
    ConversationId, Message, MessageDate, MessageId, MessageState, MessageText, NewMessage, Party, Stored, Unclaimed,
    Undelivered,
};

/// The message that a message answers.
const REPLY_TO: &str = "replyTo";

/// Makes the document of a message, with its event in it. It has no number yet.
pub(super) fn document(
    NewMessage {
        message,
        repeat_key,
        client_key,
        reply_to,
        authorized_at,
        stored_at,
        push_due,
        is_held,
    }: &NewMessage,
    event: &Outgoing,
    has_object_id: bool,
) -> Document {
    let (sender, receiver) = (&message.sender, &message.receiver);
    let mut nicknames = [sender.nickname.as_str(), receiver.nickname.as_str()];
    nicknames.sort_unstable();
    let object_id = message
        .id
        .object_id()
        .filter(|_| has_object_id)
        .map(ObjectId::from_bytes);
    let id = object_id.map_or_else(|| Bson::from(message.id.as_str()), Bson::ObjectId);
    let mut document = doc! {
        "_id": id,
        "messageRoomId": nicknames.join(","),
        "date": i64::from(message.date),
        "sender": &sender.nickname,
        "receiver": &receiver.nickname,
        "text": message.text.as_str(),
        POSITION: message.id.position().as_str(),
        "madeAt": authorized_at.as_millisecond(),
        "storedAt": stored_at.as_millisecond(),
        OUTBOX: outbox_field(event),
    };
    document.extend(owners(&sender.account, &receiver.account));
    if *is_held {
        document.insert(HELD, receiver.account.fingerprint());
        document.insert("accounts", vec![sender.account.fingerprint()]);
    }
    // The newest, until another is stored.
    if let Some(accounts) = document.get("accounts").cloned() {
        document.insert(NEWEST_OF, accounts.clone());
        document.insert(UNNUMBERED, accounts);
    }
    if sender.account != receiver.account && !is_held {
        document.insert(UNREAD, unread(&receiver.account, &message.conversation()));
    }
    if has_object_id {
        document.insert(MESSAGE_ID, message.id.as_str());
    }
    if let Some(due) = push_due {
        document.insert("pushDueAt", due.as_millisecond());
    }
    if let Some(key) = repeat_key {
        document.insert(REPEAT_KEY, key.as_str());
    }
    if let Some(key) = client_key {
        document.insert(CLIENT_KEY, key.as_str());
    }
    if let Some(answered) = reply_to {
        document.insert(REPLY_TO, answered.as_str());
    }
    document
}

/// The fields of a message that the legacy Spring services have, without its id.
pub(super) fn legacy_document(message: &Message) -> Document {
    let (sender, receiver) = (message.sender.nickname.as_str(), message.receiver.nickname.as_str());
    let mut nicknames = [sender, receiver];
    nicknames.sort_unstable();
    doc! {
        "messageRoomId": nicknames.join(","),
        "date": i64::from(message.date),
        "sender": sender,
        "receiver": receiver,
        "text": message.text.as_str(),
    }
}

/// The fields that a message of the legacy Spring services gets: its accounts, and times before those of all other messages.
pub(super) fn taken_over(id: &MessageId, sender: &Account, receiver: &Account) -> Document {
    let mut owned = owners(sender, receiver);
    owned.extend(doc! { "madeAt": 0_i64, "storedAt": 0_i64, POSITION: id.position().as_str() });
    owned
}

/// Messages by their ids, whichever `_id` they have: a text, an `ObjectId` made of it, or that of a Spring dm.
pub(super) fn ids_of<'a>(messages: impl IntoIterator<Item = &'a MessageId>) -> Document {
    let mut ids = Vec::new();
    for message in messages {
        ids.push(Bson::from(message.as_str()));
        let made = message.object_id().map(ObjectId::from_bytes);
        ids.extend(
            made.or_else(|| ObjectId::parse_str(message.as_str()).ok())
                .map(Bson::ObjectId),
        );
    }
    doc! { "$in": ids }
}

/// Whether that is the `_id` of the message's document, in either form.
pub(super) fn is_id_of(message: &MessageId, id: &Bson) -> bool {
    let made = message.object_id().map(ObjectId::from_bytes);
    id.as_str() == Some(message.as_str()) || id.as_object_id().is_some_and(|id| Some(id) == made)
}

/// The fields that name the owners of a message.
pub(super) fn owners(sender: &Account, receiver: &Account) -> Document {
    let mut accounts = vec![sender.fingerprint(), receiver.fingerprint()];
    accounts.dedup();
    doc! {
        "senderAccount": sender.as_str(),
        "receiverAccount": receiver.as_str(),
        "from": sender.fingerprint(),
        "accounts": accounts,
        "conversation": ConversationId::between(sender, receiver).as_str(),
    }
}

/// Returns `None` for a document that cannot be shown as a message; it stays unchanged.
pub(super) fn unclaimed(document: &Document) -> Option<Unclaimed> {
    MessageDate::try_from(document.get_i64("date").ok()?).ok()?;
    document.get_str("text").ok()?;
    Some(Unclaimed {
        id: MessageId::stored(document.get_object_id("_id").ok()?.to_hex()),
        sender: document.get_str("sender").ok()?.to_owned(),
        receiver: document.get_str("receiver").ok()?.to_owned(),
    })
}

pub(super) fn timestamp(document: &Document, field: &str) -> Result<Timestamp, StoreError> {
    let time = document
        .get_i64(field)
        .map_err(anyhow::Error::from)
        .and_then(|millis| Ok(Timestamp::from_millisecond(millis)?));
    time.context("a time in the database is not one")
        .map_err(StoreError::Corrupt)
}

pub(super) fn undelivered_of(document: &Document) -> Result<Undelivered, StoreError> {
    Ok(Undelivered {
        message: message_of(document)?,
        stored_at: timestamp(document, "storedAt")?,
    })
}

/// Since when moderators hide a message.
pub(super) fn hidden_at(document: &Document) -> Result<Option<Timestamp>, StoreError> {
    let is_hidden = document.contains_key(HIDDEN_AT);
    is_hidden.then(|| timestamp(document, HIDDEN_AT)).transpose()
}

pub(super) fn stored_of(document: &Document) -> Result<Stored, StoreError> {
    Ok(Stored {
        message: message_of(document)?,
        number: document.get_i64(NUMBER).ok(),
        stored_at: timestamp(document, "storedAt")?,
        reply_to: document
            .get_str(REPLY_TO)
            .ok()
            .map(|id| MessageId::stored(id.to_owned())),
        state: state_of(document)?,
        is_held: document.contains_key(HELD),
    }
    .hidden_since(hidden_at(document)?))
}

pub(super) fn state_of(document: &Document) -> Result<MessageState, StoreError> {
    let time = |field: &str| {
        let there = document.contains_key(field);
        there.then(|| timestamp(document, field)).transpose()
    };
    let mut state = MessageState {
        revision: document.get_i64(REVISION).unwrap_or_default(),
        edited_at: time(EDITED_AT)?,
        retracted_at: time(RETRACTED_AT)?,
        ..MessageState::default()
    };
    let reactions = document.get_document(REACTIONS).into_iter().flatten();
    for (_, reaction) in reactions {
        let read = || -> anyhow::Result<(Account, String)> {
            let reaction = reaction.as_document().context("a reaction is no document")?;
            let account = reaction.get_str("account")?.parse()?;
            Ok((account, reaction.get_str("reaction")?.to_owned()))
        };
        let (account, reaction) = read().map_err(StoreError::Corrupt)?;
        state.reactions.insert(account, reaction);
    }
    Ok(state)
}

pub(super) fn message_of(document: &Document) -> Result<Message, StoreError> {
    read(document)
        .context("a message in the database is not one")
        .map_err(StoreError::Corrupt)
}

/// The id of a message of ours, or of the legacy Spring services.
pub(super) fn id_of(document: &Document) -> anyhow::Result<MessageId> {
    let id = match (document.get_str(MESSAGE_ID), document.get_object_id("_id")) {
        (Ok(id), _) => id.to_owned(),
        (Err(_), Ok(id)) => id.to_hex(),
        (Err(_), Err(_)) => document.get_str("_id")?.to_owned(),
    };
    Ok(MessageId::stored(id))
}

fn read(document: &Document) -> anyhow::Result<Message> {
    let text = |field: &str| -> anyhow::Result<String> { Ok(document.get_str(field)?.to_owned()) };
    Ok(Message {
        id: id_of(document)?,
        sender: Party {
            account: text("senderAccount")?.parse()?,
            nickname: text("sender")?,
        },
        receiver: Party {
            account: text("receiverAccount")?.parse()?,
            nickname: text("receiver")?,
        },
        date: MessageDate::try_from(document.get_i64("date")?)?,
        text: MessageText::stored(text("text")?),
    })
}
