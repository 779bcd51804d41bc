//! Frames of version 2 to rooms.

use std::collections::HashMap;

use sosohappy_access::Caller;
use sosohappy_common::Account;
use sosohappy_events::Envelope;
use sosohappy_events::types::{RoomMessageSent, RoomPush};
use sosohappy_realtime::Numbered;
use sosohappy_realtime::stream::Incoming;

use super::typed::{self, MessageData};
use super::{DmProtocol, existing};
use crate::domain::{
    ClientKey, MessageDate, MessageId, MessageState, MessageText, NewRoomMessage, Party, Room, RoomMessage, RoomName,
};
use crate::error::Error;
use crate::names::PresentNames;
use crate::refusal::{NotTaken, Refusal};
use crate::store::{FrameContent, Posted};

impl DmProtocol {
    /// Returns a room of which the account is a member.
    pub(super) async fn own_room(&self, room: &str, account: &Account) -> Result<Room, NotTaken> {
        let room = self.store.room(room).await?;
        let own = room.filter(|room| room.member(account).is_some());
        Ok(own.ok_or(Refusal::RoomUnknown)?)
    }

    /// Stores a message of a room and answers `accepted`. The same id again in the same room is answered as the first time.
    pub(super) async fn take_room_message(
        &self,
        caller: &Caller,
        frame: &Incoming,
        room: String,
        data: MessageData,
    ) -> Result<String, NotTaken> {
        let id = typed::id(frame)?;
        let key = ClientKey::of(&caller.account, &format!("room:{room}:{id}"));
        let stored = match self.post(caller, room, data, &key).await {
            Ok(Some(message)) => message,
            Err(closed @ NotTaken::Closed(_)) => return Err(closed),
            repeated => {
                let known = self.store.room_message_with_key(&key, self.context.clock.now()).await?;
                match (known, repeated) {
                    (Some(known), _) => known,
                    (None, Err(refused)) => return Err(refused),
                    // The message with the key was erased since it was found.
                    (None, Ok(_)) => return Err(Refusal::Unavailable.into()),
                }
            }
        };
        let seq = self.store.seq_in_room(&caller.account, &stored.id).await?;
        Ok(typed::accepted(id, &stored.id, stored.date, seq))
    }

    /// Checks a message and stores it; `None` if it is stored already.
    async fn post(
        &self,
        caller: &Caller,
        room: String,
        data: MessageData,
        key: &ClientKey,
    ) -> Result<Option<RoomMessage>, NotTaken> {
        let text = MessageText::new(data.text, self.settings.get().messages.max_characters).map_err(Refusal::from)?;
        let stored_at = self.context.clock.now();
        let sent_at = match data.date {
            Some(given) => existing(given)?,
            None => MessageDate::at(stored_at),
        };
        let room = self.own_room(&room, &caller.account).await?;
        let reply_to = data.reply_to.map(MessageId::stored);
        if let Some(answered) = &reply_to {
            let answered = self.store.room_message(answered).await?;
            if answered.is_none_or(|answered| answered.room != room.id) {
                return Err(Refusal::ReplyUnknown.into());
            }
        }
        let message = RoomMessage {
            id: self.ids.next(),
            sender: Party {
                account: caller.account.clone(),
                nickname: self.nickname(&caller.account).await?,
            },
            room: room.id.clone(),
            date: sent_at,
            text,
            number: 0,
            stored_at,
            reply_to,
            state: MessageState::default(),
        };
        let new = NewRoomMessage {
            message,
            client_key: key.clone(),
            authorized_at: caller.issued_at,
        };
        let blocked = self.directory.blocked_with(&caller.account).await?;
        let event_of = |members: &[Account], number: i64| {
            let event = posted_event(&new.message, &room.name, &blocked, members, number);
            let mut event = Envelope::new(event, &self.context).authorized(new.authorized_at);
            event.meta.id = new.message.id.event().unwrap_or(event.meta.id);
            event.meta.occurred_at = stored_at;
            event.to_outgoing()
        };
        match self.store.post(&new, &event_of).await? {
            Posted::Stored => {
                self.relay.wake();
                self.metrics.stored.inc();
                Ok(Some(new.message))
            }
            Posted::Repeated => {
                self.metrics.resent.inc();
                Ok(None)
            }
            Posted::NoMember => Err(Refusal::RoomUnknown.into()),
        }
    }

    /// Returns the frame of a message in the stream of each of these members who sees it, as a page of that stream has it.
    /// The message, who sees it, the blocks of its sender and its data are read and made once, and not for each member. Without members who have to
    /// read their streams.
    pub async fn room_frames(
        &self,
        message: &MessageId,
        members: &[&Account],
    ) -> Result<HashMap<Account, Numbered>, Error> {
        let numbers = self.store.room_frames(message, members).await?;
        if numbers.is_empty() {
            return Ok(HashMap::new());
        }
        let Some(message) = self.store.room_message(message).await? else {
            return Ok(HashMap::new());
        };
        // Not everybody sees all of them.
        if !message.state.reactions.is_empty() {
            return Ok(HashMap::new());
        }
        let blocked = async { Ok::<_, Error>(self.directory.blocked_with(&message.sender.account).await?) };
        let names = async { Ok::<_, Error>(PresentNames::of_people(&*self.names, message.people().cloned()).await?) };
        let (blocked, names) = tokio::try_join!(blocked, names)?;
        let (id, data) = (message.id.clone(), typed::room_message_data(&message, &names));
        let content = FrameContent::RoomMessage(Box::new(message));
        let seen = numbers.into_iter().filter(|(member, _)| !blocked.contains(member));
        let frames = seen.map(|(member, seq)| {
            let frame = Numbered {
                seq,
                frame: typed::room_message(seq, &id, &data).into(),
                on_shown: self.on_shown(&member, &content),
            };
            (member, frame)
        });
        Ok(frames.collect())
    }

    /// Tells the other members' devices that the caller is writing; nothing is kept.
    pub(super) async fn take_typing_in_room(&self, caller: &Caller, room: &str) -> Result<(), NotTaken> {
        let room = self.own_room(room, &caller.account).await?;
        let blocked = self.directory.blocked_with(&caller.account).await?;
        let sender = self.nickname(&caller.account).await?;
        let others = room
            .members
            .into_iter()
            .map(|member| member.account)
            .filter(|account| *account != caller.account && !blocked.contains(account));
        self.unnumbered.typing_in_room(&sender, &room.id, others).await;
        Ok(())
    }
}

/// Makes the event of a message from the members of its room, of whom none joins later than it, and its number there. Members in a block with
/// the sender, who do not see it, get no push.
fn posted_event(
    message: &RoomMessage,
    room_name: &RoomName,
    blocked: &[Account],
    members: &[Account],
    number: i64,
) -> RoomMessageSent {
    let sender = &message.sender;
    let others = members
        .iter()
        .filter(|member| **member != sender.account && !blocked.contains(member));
    RoomMessageSent {
        room: message.room.clone(),
        message: message.id.to_string(),
        members: members.to_vec(),
        change: None,
        push: Some(RoomPush {
            sender: sender.account.clone(),
            nickname: sender.nickname.clone(),
            room_name: room_name.as_str().to_owned(),
            number,
            date: message.date.into(),
            text: message.text.as_str().to_owned(),
            receivers: others.cloned().collect(),
        }),
    }
}
