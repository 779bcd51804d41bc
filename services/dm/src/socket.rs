//! The protocol of the socket. Version 1: frames of messages in, the same frames and errors out. Version 2: typed frames.

mod frame;
mod rooms;
mod typed;

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use sosohappy_access::{Acting, Caller, Names, Revocations, act};
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::correlation::Correlation;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context, Problem};
use sosohappy_events::Mixed;
use sosohappy_realtime::stream::{self, Incoming};
use sosohappy_realtime::{Close, Marks, Numbered, OnShown, Origin, Page, Protocol, SocketId, Stream, Version};
use sosohappy_store::{Directory, StoreError};
use tracing::Instrument as _;

use crate::domain::{
    Admission, Changed, ClientKey, ConversationId, MOST_MISSED, Message, MessageDate, MessageId, MessageIds,
    MessageState, MessageText, NewMessage, Party, Position, Receipt, RepeatKey, ShownMessage, Stored,
};
use crate::error::Error;
use crate::events;
use crate::metrics::DmMetrics;
use crate::names::PresentNames;
use crate::receipts;
use crate::refusal::{NotTaken, Refusal};
use crate::requests::Requests;
use crate::settings::Settings;
use crate::settling::Settling;
use crate::store::{FrameContent, Framed, Outcome, Range, Store, WriteError};
use crate::unnumbered::Unnumbered;
pub use frame::Frame;
use typed::{MessageData, ReadData, Target, TypingData};
pub use typed::{SentMessage, SentRoomMessage};

#[derive(Debug)]
pub struct DmProtocol {
    pub settings: Live<Settings>,
    pub context: Context,
    pub ids: MessageIds,
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub names: Arc<dyn Names>,
    pub revocations: Revocations,
    pub mixed: Mixed,
    pub relay: RelayHandle,
    pub settling: Settling,
    pub delivered: Marks<ShownMessage>,
    pub unnumbered: Unnumbered,
    pub requests: Requests,
    pub metrics: DmMetrics,
}

/// How often a message is admitted again because its request was decided meanwhile.
const ADMISSIONS: u32 = 5;

impl Protocol for DmProtocol {
    async fn begin(&self, caller: &Caller, since: Option<i64>) -> Result<Option<Stream>, Problem> {
        let kept = self.store.kept(&caller.account).await.map_err(Error::from)?;
        Ok(Some(match since {
            Some(since) => Stream::since(since, kept, MOST_MISSED),
            None => Stream::new_only(kept),
        }))
    }

    async fn page(&self, caller: &Caller, after: i64) -> Result<Page, Problem> {
        Ok(self.frames_after(&caller.account, after).await?)
    }

    async fn frame(&self, caller: &Caller, origin: Origin<'_>, text: &str) -> Result<Option<String>, Close> {
        match origin.version() {
            Version::One => match self.traced("message", None, self.take(caller, origin, text)).await {
                Ok(()) => Ok(None),
                Err(NotTaken::Refused(refusal)) => {
                    self.metrics.refused(refusal);
                    Ok(Some(refusal.frame()))
                }
                Err(NotTaken::Closed(reason)) => Err(reason),
            },
            Version::Two => {
                let frame = Incoming::parse(text).map_err(|_| Close::BadFrame)?;
                let work = self.take_typed(caller, origin, &frame);
                match self.traced(&frame.topic, frame.traceparent.as_deref(), work).await {
                    Ok(answer) => Ok(answer),
                    Err(NotTaken::Refused(refusal)) => {
                        self.metrics.refused(refusal);
                        Ok(Some(typed::refused(frame.id.as_deref(), refusal)))
                    }
                    Err(NotTaken::Closed(reason)) => Err(reason),
                }
            }
        }
    }

    fn overdue(&self) -> Option<String> {
        self.metrics.refused(Refusal::Overdue);
        Some(Refusal::Overdue.frame())
    }

    fn over_limit(&self) -> Option<String> {
        self.metrics.refused(Refusal::RateLimited);
        Some(Refusal::RateLimited.frame())
    }
}

/// The sender of a message.
pub struct Author {
    pub account: Account,
    /// Of the moment.
    pub nickname: String,
    /// When the token was issued that the message is sent with.
    pub authorized_at: Timestamp,
    /// The socket that the message came in on.
    pub socket: Option<SocketId>,
}

/// A message that is to be sent.
pub struct Draft {
    /// The receiver's nickname.
    pub receiver: String,
    /// The receiver, if that was found out before.
    pub receiver_account: Option<Account>,
    pub date: MessageDate,
    pub text: String,
    pub reply_to: Option<MessageId>,
    /// Of a frame with an id; other frames have a [`RepeatKey`].
    pub client_key: Option<ClientKey>,
}

impl DmProtocol {
    /// Runs the work on a frame as a request of its own, in the trace of its client if it names one.
    async fn traced<T>(&self, topic: &str, traceparent: Option<&str>, work: impl Future<Output = T>) -> T {
        let (service, entropy) = (self.context.service, &*self.context.entropy);
        let (correlation, span) = Correlation::of_frame(service, typed::known(topic), traceparent, entropy);
        correlation.scope(work).instrument(span).await
    }

    /// An accepted message is not answered: the published app expects no answer.
    async fn take(&self, caller: &Caller, origin: Origin<'_>, text: &str) -> Result<(), NotTaken> {
        let frame = Frame::parse(text).ok_or(NotTaken::Closed(Close::BadFrame))?;
        let author = author(caller, origin, self.own(caller, origin, frame.sender).await?);
        let draft = Draft {
            receiver: frame.receiver,
            receiver_account: None,
            date: existing(frame.date)?,
            text: frame.text,
            reply_to: None,
            client_key: None,
        };
        self.send(author, draft).await?;
        Ok(())
    }

    /// Returns the answer to a frame of version 2.
    async fn take_typed(
        &self,
        caller: &Caller,
        origin: Origin<'_>,
        frame: &Incoming,
    ) -> Result<Option<String>, NotTaken> {
        match frame.topic.as_str() {
            "message" => Ok(Some(self.take_message(caller, origin, frame).await?)),
            "read" => self.take_read(caller, frame).await.map(|()| None),
            "typing" => self.take_typing(caller, frame).await.map(|()| None),
            _ => Err(Refusal::UnknownTopic.into()),
        }
    }

    /// The caller has read the messages of a person, or of a room, whose frames come up to that number. The frame there may be about a change of
    /// an older message.
    async fn take_read(&self, caller: &Caller, frame: &Incoming) -> Result<(), NotTaken> {
        let ReadData { receiver, room_id, seq } = typed::data(frame)?;
        let seq = frame.seq.or(seq).filter(|seq| *seq > 0).ok_or(Refusal::InvalidFrame)?;
        let target = typed::target(receiver, room_id)?;
        let reader = &caller.account;
        let at = self.store.frames_after(reader, seq - 1, 1).await?;
        if at.until != Some(seq) {
            return Err(Refusal::SeqUnknown.into());
        }
        // None of a message that was erased since.
        let content = at.content.into_iter().next().map(|framed| framed.content);
        match target {
            Target::Person(receiver) => {
                let other = self.names.account_of(&receiver).await?;
                let other = other.ok_or(Refusal::ReceiverUnknown)?;
                if self.is_unknown_to(reader, &other).await? {
                    return Err(Refusal::Blocked.into());
                }
                let conversation = ConversationId::between(reader, &other);
                let up_to = match content {
                    Some(FrameContent::Message(stored)) if stored.message.conversation() == conversation => {
                        Some(stored.message.id.position())
                    }
                    Some(FrameContent::Change(stored, _)) if stored.message.conversation() == conversation => {
                        self.store.last_seen(reader, &conversation, seq).await?
                    }
                    None => self.store.last_seen(reader, &conversation, seq).await?,
                    Some(_) => return Err(Refusal::SeqUnknown.into()),
                };
                if let Some(up_to) = up_to {
                    self.mark_read(caller, &other, Some(&up_to)).await?;
                }
            }
            Target::Room(room) => {
                let up_to = match content {
                    Some(FrameContent::RoomMessage(message)) if message.room == room => Some(message.number),
                    Some(FrameContent::RoomChange(message, _)) if message.room == room => {
                        self.store.last_seen_in_room(reader, &room, seq).await?
                    }
                    None => self.store.last_seen_in_room(reader, &room, seq).await?,
                    Some(_) => return Err(Refusal::SeqUnknown.into()),
                };
                if let Some(up_to) = up_to {
                    self.mark_room_read(caller, &room, up_to).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns whether a person is hidden from the reader, as if there were none: one in a block with whom the reader has no conversation.
    pub async fn is_unknown_to(&self, reader: &Account, other: &Account) -> Result<bool, StoreError> {
        if !self.directory.blocked(reader, other).await? {
            return Ok(false);
        }
        let (conversation, all) = (ConversationId::between(reader, other), Range::default());
        let newest = self.store.newest_within(&conversation, reader, &all, 1).await?;
        Ok(newest.is_empty())
    }

    /// The reader has read the messages of a person, up to a position or all.
    pub async fn mark_read(
        &self,
        reader: &Caller,
        sender: &Account,
        up_to: Option<&Position>,
    ) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        let event_of = |receipt: &Receipt| receipts::read_event(receipt, reader.issued_at, &self.context);
        let receipt = self.store.read(&reader.account, sender, up_to, now, &event_of).await?;
        if receipt.is_some() {
            self.relay.wake();
        }
        self.unnumbered.tell(receipt.as_slice()).await;
        Ok(())
    }

    /// The member has read the messages of a room up to a number.
    async fn mark_room_read(&self, reader: &Caller, room: &str, number: i64) -> Result<(), StoreError> {
        let Caller { account, issued_at, .. } = reader;
        let event = receipts::room_read_event(account, *issued_at, room, number, &self.context);
        let now = self.context.clock.now();
        if self.store.read_room(room, account, number, now, &event).await? {
            self.relay.wake();
        }
        Ok(())
    }

    /// Tells the receiver's devices, if there are any; nothing is kept.
    async fn take_typing(&self, caller: &Caller, frame: &Incoming) -> Result<(), NotTaken> {
        let TypingData { receiver, room_id } = typed::data(frame)?;
        let receiver = match typed::target(receiver, room_id)? {
            Target::Person(receiver) => receiver,
            Target::Room(room) => return self.take_typing_in_room(caller, &room).await,
        };
        let receiver = self
            .names
            .account_of(&receiver)
            .await?
            .ok_or(Refusal::ReceiverUnknown)?;
        if self.directory.blocked(&caller.account, &receiver).await? {
            return Err(Refusal::Blocked.into());
        }
        let sender = self.nickname(&caller.account).await?;
        self.unnumbered.typing(&sender, receiver).await;
        Ok(())
    }

    /// Returns the present nickname of an account. A message from an account without a profile could not be answered.
    pub async fn nickname(&self, account: &Account) -> Result<String, NotTaken> {
        let names = self.names.nicknames_of(std::slice::from_ref(account)).await?;
        Ok(names.into_iter().flatten().next().ok_or(Refusal::Unavailable)?)
    }

    /// Stores a message and answers `accepted`. The same id again is answered as the first time, whatever the frame says.
    async fn take_message(&self, caller: &Caller, origin: Origin<'_>, frame: &Incoming) -> Result<String, NotTaken> {
        let id = typed::id(frame)?;
        let key = ClientKey::of(&caller.account, id);
        let sent = match typed::data::<MessageData>(frame) {
            Ok(data) => match typed::target(data.receiver.clone(), data.room_id.clone()) {
                Ok(Target::Room(room)) => return self.take_room_message(caller, frame, room, data).await,
                Ok(Target::Person(receiver)) => self.send_typed(caller, origin, receiver, data, &key).await,
                Err(refused) => Err(refused),
            },
            Err(refused) => Err(refused),
        };
        let stored = match sent {
            Ok(Some(stored)) => stored,
            Err(closed @ NotTaken::Closed(_)) => return Err(closed),
            repeated => {
                let known = self.store.with_client_key(&key, self.context.clock.now()).await?;
                match (known, repeated) {
                    (Some(known), _) => known,
                    (None, Err(refused)) => return Err(refused),
                    // The message with the key was erased since it was found.
                    (None, Ok(_)) => return Err(Refusal::Unavailable.into()),
                }
            }
        };
        let seq = self.store.seq_of(&caller.account, &stored.message.id).await?;
        Ok(typed::accepted(id, &stored.message.id, stored.message.date, seq))
    }

    async fn send_typed(
        &self,
        caller: &Caller,
        origin: Origin<'_>,
        receiver: String,
        data: MessageData,
        key: &ClientKey,
    ) -> Result<Option<Stored>, NotTaken> {
        let author = author(caller, origin, self.nickname(&caller.account).await?);
        let sent_at = match data.date {
            Some(given) => existing(given)?,
            None => MessageDate::at(self.context.clock.now()),
        };
        let draft = Draft {
            receiver,
            receiver_account: None,
            date: sent_at,
            text: data.text,
            reply_to: data.reply_to.map(MessageId::stored),
            client_key: Some(key.clone()),
        };
        self.send(author, draft).await
    }

    /// Checks a message and stores it; `None` if it is stored already.
    pub async fn send(&self, author: Author, draft: Draft) -> Result<Option<Stored>, NotTaken> {
        let text = MessageText::new(draft.text, self.settings.get().messages.max_characters).map_err(Refusal::from)?;
        let receiver = match draft.receiver_account {
            Some(receiver) => Some(receiver),
            None => self.names.account_of(&draft.receiver).await?,
        };
        let receiver = receiver.ok_or(Refusal::ReceiverUnknown)?;
        if self.directory.blocked(&author.account, &receiver).await? {
            return Err(Refusal::Blocked.into());
        }
        if [&author.account, &receiver]
            .iter()
            .any(|account| self.revocations.is_suspended(account))
        {
            return Err(Refusal::Suspended.into());
        }
        let message = Message {
            id: self.ids.next(),
            sender: Party {
                account: author.account,
                nickname: author.nickname,
            },
            receiver: Party {
                account: receiver,
                nickname: draft.receiver,
            },
            date: draft.date,
            text,
        };
        if let Some(answered) = &draft.reply_to {
            let answered = self.store.message(answered).await?;
            let is_here = answered.is_some_and(|answered| answered.message.conversation() == message.conversation());
            if !is_here {
                return Err(Refusal::ReplyUnknown.into());
            }
        }
        let admit = self
            .requests
            .admit(&message.sender, &message.receiver, author.authorized_at);
        let is_held = admit.instrument(tracing::info_span!("admit")).await? == Admission::Held;
        let stored_at = self.context.clock.now();
        let message = NewMessage {
            repeat_key: draft.client_key.is_none().then(|| RepeatKey::of(&message)),
            client_key: draft.client_key,
            reply_to: draft.reply_to,
            message,
            authorized_at: author.authorized_at,
            stored_at,
            push_due: self.push_due(stored_at, is_held),
            is_held,
        };
        self.keep(message, author.socket).await
    }

    fn push_due(&self, stored_at: Timestamp, is_held: bool) -> Option<Timestamp> {
        let is_pushed_later = self.mixed.pushes_by_spring_notice() && !is_held;
        is_pushed_later.then(|| stored_at + self.settings.get().messages.delivery_timeout)
    }

    /// Returns the caller's nickname as it is now. A client that was renamed has frames on the way with the name it had before: they count,
    /// under the present name, because another account may have taken the former one.
    async fn own(&self, caller: &Caller, origin: Origin<'_>, sender: String) -> Result<String, NotTaken> {
        match act::own(caller, &*self.names, Acting::Nickname(&sender)).await {
            Ok(()) => {
                origin.had_nickname(&sender);
                Ok(sender)
            }
            Err(problem) if problem.status() == StatusCode::FORBIDDEN && origin.has_had_nickname(&sender) => {
                // Of the directory, not of its cache: the name that was just refused must not come back as the present one.
                let present = self
                    .directory
                    .nicknames_of(std::slice::from_ref(&caller.account))
                    .await?;
                let present = present.into_iter().flatten().find(|present| *present != sender);
                Ok(present.ok_or(Refusal::Unavailable)?)
            }
            Err(problem) if problem.status() == StatusCode::FORBIDDEN => Err(NotTaken::Closed(Close::Policy)),
            Err(_) => Err(Refusal::Unavailable.into()),
        }
    }

    /// Stores a message, under a greater id if its conversation got a later message meanwhile; `None` if it is stored already.
    async fn keep(&self, mut message: NewMessage, origin: Option<SocketId>) -> Result<Option<Stored>, NotTaken> {
        let mut admitted = 0;
        loop {
            let event = if message.is_held {
                self.requests.asked(&message, origin).await?
            } else {
                let (stored_at, is_pushed_later) = (message.stored_at, message.push_due.is_some());
                let event = events::sent(&message.message, stored_at, is_pushed_later, origin, &self.context);
                event.authorized(message.authorized_at).to_outgoing()
            };
            let stored = || self.relay.wake();
            let store = self.store.keep(&message, &event, &stored);
            match store.instrument(tracing::info_span!("store")).await {
                Ok(Outcome::Stored) => break,
                Ok(Outcome::Repeated) => {
                    self.metrics.resent.inc();
                    return Ok(None);
                }
                Err(WriteError::Behind(last)) => message.message.id = self.ids.next_after(&last),
                // The request was decided after the message was admitted.
                Err(WriteError::RequestDecided | WriteError::Unreleased) if admitted < ADMISSIONS => {
                    admitted += 1;
                    self.admit_again(&mut message).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.metrics.stored.inc();
        let conversation = message.message.conversation();
        if message.is_held
            && let Err(error) = self.requests.release_accepted(&conversation).await
        {
            // It is stored; the next round completes the request.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "releasing message failed; retrying"
            );
        }
        self.settling.settle(conversation);
        Ok(Some(Stored {
            message: message.message,
            // Only frames of the stream have it.
            number: None,
            stored_at: message.stored_at,
            reply_to: message.reply_to,
            state: MessageState::default(),
            is_held: message.is_held,
        }))
    }

    /// Decides again whether a message waits. Messages of an accepted request that wait are released before it.
    async fn admit_again(&self, message: &mut NewMessage) -> Result<(), NotTaken> {
        if !self.requests.release_accepted(&message.message.conversation()).await? {
            return Err(Refusal::Unavailable.into());
        }
        let (sender, receiver) = (&message.message.sender, &message.message.receiver);
        message.is_held = self.requests.admit(sender, receiver, message.authorized_at).await? == Admission::Held;
        message.push_due = self.push_due(message.stored_at, message.is_held);
        Ok(())
    }

    /// Returns the numbered frames after a number, with the present nicknames. Frames of a room have its messages as they are now: those that
    /// the account no longer sees there, because it has left, are left out, and what people in a block with it have sent or done there.
    async fn frames_after(&self, account: &Account, after: i64) -> Result<Page, Error> {
        let mut found = self.store.frames_after(account, after, stream::PAGE).await?;
        let mut people = Vec::new();
        let mut rooms = Vec::new();
        for framed in &found.content {
            match &framed.content {
                FrameContent::Message(stored) | FrameContent::Change(stored, _) => {
                    people.extend(stored.message.people().cloned());
                }
                FrameContent::RoomMessage(message) | FrameContent::RoomChange(message, _) => {
                    if !rooms.contains(&message.room) {
                        rooms.push(message.room.clone());
                    }
                    people.extend(message.people().cloned());
                }
            }
            if let FrameContent::RoomChange(_, change) = &framed.content {
                people.push(change.by.clone());
            }
        }
        // Not the rooms with all their members: each of up to a hundred members has a page of its own.
        let joined_after = async { Ok::<_, Error>(self.store.joined_after(account, &rooms).await?) };
        let blocked = async {
            if rooms.is_empty() {
                return Ok(Vec::new());
            }
            Ok::<_, Error>(self.directory.blocked_with(account).await?)
        };
        let names = async { Ok::<_, Error>(PresentNames::of_people(&*self.names, people.into_iter()).await?) };
        let (joined_after, blocked, names) = tokio::try_join!(joined_after, blocked, names)?;
        for framed in &mut found.content {
            if let FrameContent::RoomMessage(message) | FrameContent::RoomChange(message, _) = &mut framed.content {
                message.hide_reactions_of(&blocked);
            }
        }
        let is_visible = |framed: &&Framed| match &framed.content {
            FrameContent::RoomMessage(message) | FrameContent::RoomChange(message, _) => {
                let is_others = |change: &Changed| blocked.contains(&change.by);
                let joined = joined_after.get(&message.room);
                joined.is_some_and(|joined| *joined < message.number)
                    && !blocked.contains(&message.sender.account)
                    && !matches!(&framed.content, FrameContent::RoomChange(_, change) if is_others(change))
            }
            FrameContent::Message(_) | FrameContent::Change(..) => true,
        };
        let frames = found.content.iter().filter(is_visible).map(|framed| Numbered {
            seq: framed.seq,
            frame: typed::framed(framed, &names).into(),
            on_shown: self.on_shown(account, &framed.content),
        });
        Ok(Page {
            frames: frames.collect(),
            until: found.until.unwrap_or(after),
            more: found.more,
        })
    }

    /// An acknowledgement of the receiver marks the message as delivered; one of a member of a room settles the push there.
    fn on_shown(&self, account: &Account, content: &FrameContent) -> OnShown {
        let (message, is_in_room) = match content {
            FrameContent::Message(stored) if stored.message.receiver.account == *account => (&stored.message.id, false),
            FrameContent::RoomMessage(message) if message.sender.account != *account => (&message.id, true),
            _ => return OnShown::new(|| ()),
        };
        let shown = self.metrics.shown.clone();
        let mark = ShownMessage {
            reader: account.clone(),
            message: message.clone(),
            is_in_room,
        };
        self.delivered.on_shown(mark, move || shown.inc())
    }
}

fn author(caller: &Caller, origin: Origin<'_>, nickname: String) -> Author {
    Author {
        account: caller.account.clone(),
        nickname,
        authorized_at: caller.issued_at,
        socket: Some(origin.id()),
    }
}

/// Returns a date whose day, hour and minute exist.
fn existing(date: i64) -> Result<MessageDate, NotTaken> {
    let date = MessageDate::try_from(date).ok().filter(|date| date.exists());
    Ok(date.ok_or(Refusal::InvalidDate)?)
}
