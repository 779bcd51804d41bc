//! Contract tests of the port, on both engines.

mod requests;
mod schedule;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use sosohappy_access::{Denied, Names};
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context, Service};
use sosohappy_events::mixed;
use sosohappy_events::types::{AccountErased, ModerationOutcome};
use sosohappy_events::{Envelope, EventId, Mixed, Outgoing};
use sosohappy_store::Directory;
use sosohappy_store::outbox::Outbox;
use sosohappy_testkit::statements::{Cost, cost_of};
use sosohappy_testkit::{Bed, EngineSet, PATIENCE, on_both_engines};

use super::reports::{Moderation, NewReport};
use super::{ChangeError, FrameContent, Framed, Opened, Outcome, Store, WriteError, open};
use crate::domain::{
    Boundary, Change, ClientKey, ConversationId, Erasure, MOST_CHANGES, Marks, Message, MessageDate, MessageId,
    MessageIds, MessageText, NewChange, NewMessage, Party, Progress, Reaction, Receipt, RepeatKey, Stored, Undelivered,
};
use crate::events;
use crate::legacy_messages::Claimer;
use crate::receipts::read_event;
use crate::{DEFAULTS, SERVICE, Settings, history};

on_both_engines!(
    a_message_and_its_event_are_kept_together_and_in_order,
    a_frame_that_is_sent_again_is_the_same_message_for_ten_minutes,
    keys_of_repeated_frames_are_forgotten_with_time_and_with_their_message,
    a_conversation_is_paged_backwards,
    the_newest_of_each_conversation,
    conversations_beyond_a_thousand_are_reached_by_pages,
    every_conversation_is_listed_after_an_upgrade,
    conversations_whose_flagging_was_interrupted_are_listed,
    paging_by_date_reaches_every_message_once,
    messages_without_a_position_get_theirs,
    shown_messages_are_not_pending,
    a_resignation_takes_both_sides_up_to_its_moment,
    a_late_resignation_spares_what_the_account_received_since,
    an_older_token_writes_nothing_after_a_resignation,
    a_message_not_shown_in_time_is_pushed_once,
    a_message_to_a_resigned_account_is_refused,
    a_reported_message_is_copied_until_the_report_is_closed,
    copies_of_reported_messages_go_with_both_people,
    changes_of_one_person_do_not_limit_those_of_another,
    a_hidden_message_has_no_text_until_it_is_restored,
    a_large_resignation_is_erased_in_steps,
    legacy_messages_are_read_and_erased_with_their_people,
    legacy_messages_appear_when_the_names_of_their_people_arrive,
    many_legacy_messages_are_taken_over_at_once,
    a_round_of_claims_ends_while_a_spring_dm_writes,
    a_resignation_and_messages_that_cross_leave_nothing,
    a_spring_dm_reads_every_id_before_during_and_after,
    push_tokens_are_those_set_last_and_go_with_their_account,
    frames_have_numbers_without_a_gap_in_the_order_of_their_conversations,
    a_frame_with_the_same_id_is_the_same_message_for_seven_days,
    numbers_are_not_given_again_after_a_resignation,
    messages_of_a_release_without_numbers_get_their_frames,
    watermarks_only_rise,
    watermarks_go_with_a_resignation,
);

struct Kept {
    store: Arc<dyn Store>,
    outbox: Arc<dyn Outbox>,
    directory: Arc<dyn Directory>,
    ids: MessageIds,
    context: Context,
}

impl Kept {
    async fn open(bed: &Bed) -> Self {
        Self::open_in(bed, &Mixed::none()).await
    }

    async fn open_in(bed: &Bed, mixed: &Mixed) -> Self {
        Self::open_as(bed, mixed, &[]).await
    }

    async fn open_with(bed: &Bed, settings: &[(&str, &str)]) -> Self {
        Self::open_as(bed, &Mixed::none(), settings).await
    }

    async fn open_as(bed: &Bed, mixed: &Mixed, settings: &[(&str, &str)]) -> Self {
        let settings = bed.settings::<Settings>("dm", DEFAULTS, settings).await.get();
        let context = bed.context(SERVICE);
        let Opened {
            store,
            outbox,
            directory,
            ..
        } = open(&settings, mixed, &context).await.expect("the store opens");
        Self {
            store,
            outbox,
            directory,
            ids: MessageIds::new(&context),
            context,
        }
    }

    fn message(&self, from: &str, to: &str, date: i64, stored: i64) -> NewMessage {
        let message = Message {
            id: self.ids.next(),
            sender: Party {
                account: account(from),
                nickname: from.to_owned(),
            },
            receiver: Party {
                account: account(to),
                nickname: to.to_owned(),
            },
            date: MessageDate::try_from(DATE + date).unwrap(),
            text: MessageText::stored(format!("{from} {to} {date}")),
        };
        NewMessage {
            message,
            repeat_key: None,
            client_key: None,
            reply_to: None,
            authorized_at: at(0),
            stored_at: at(stored),
            push_due: None,
            is_held: false,
        }
    }

    fn event(&self, message: &NewMessage) -> Outgoing {
        events::sent(&message.message, message.stored_at, false, None, &self.context).to_outgoing()
    }

    async fn keep(&self, message: &NewMessage) -> Result<Outcome, WriteError> {
        self.keep_as(&mut message.clone()).await
    }

    /// Stores a message as the socket does it: under a greater id when its conversation got a later message.
    async fn keep_as(&self, message: &mut NewMessage) -> Result<Outcome, WriteError> {
        loop {
            match self.store.keep(message, &self.event(message), &|| ()).await {
                Err(WriteError::Behind(last)) => message.message.id = self.ids.next_after(&last),
                kept => return kept,
            }
        }
    }

    /// A frame that is the same each time.
    fn frame(&self, from: &str, to: &str, stored: i64) -> NewMessage {
        let mut message = self.message(from, to, 0, stored);
        message.repeat_key = Some(RepeatKey::of(&message.message));
        message
    }

    async fn say(&self, from: &str, to: &str, date: i64, stored: i64) -> NewMessage {
        let mut message = self.message(from, to, date, stored);
        self.keep_as(&mut message).await.expect("the message is kept");
        message
    }

    async fn conversation(&self, one: &str, other: &str, before: Option<i64>, limit: u32) -> Vec<String> {
        let boundary = before.map(|before| Boundary {
            date: DATE + before,
            is_future: before >= FUTURE,
        });
        let people = (&account(one), &account(other));
        texts(history::page(&*self.store, people, boundary, limit).await.unwrap())
    }

    async fn newest(&self, name: &str) -> Vec<String> {
        let newest = self.store.newest(&account(name), None, 10).await.unwrap();
        texts(newest.messages.into_iter().map(|stored| stored.message).collect())
    }

    async fn pending(&self) -> Vec<Outgoing> {
        self.outbox
            .pending(1000)
            .await
            .unwrap()
            .pending
            .into_iter()
            .map(|pending| pending.record)
            .collect()
    }

    async fn erase(&self, name: &str, until: i64, event: EventId) {
        let erasure = Erasure {
            account: account(name),
            nickname: name.to_owned(),
            until: at(until),
            event,
            now: at(until),
        };
        self.directory.erase(&erasure.account, erasure.until).await.unwrap();
        self.store.erase(&erasure, &self.receipt(name, event)).await.unwrap();
    }

    fn receipt(&self, name: &str, resignation: EventId) -> Outgoing {
        let receipt = AccountErased {
            account: account(name),
            service: SERVICE.to_owned(),
            resignation,
        };
        Envelope::new(receipt, &self.context).to_outgoing()
    }
}

const DATE: i64 = 2_023_090_513_248_392;
/// Above [`DATE`]: of a phone whose clock is ahead.
const FUTURE: i64 = 1_000_000_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn account(name: &str) -> Account {
    format!("{name}@example.com+kakao").parse().unwrap()
}

fn texts(messages: Vec<Message>) -> Vec<String> {
    messages.into_iter().map(|message| message.text.into_string()).collect()
}

async fn a_message_and_its_event_are_kept_together_and_in_order(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let mut events = Vec::new();
    for number in 0..20 {
        let message = kept.message("kim", "lee", number, number);
        let event = kept.event(&message);
        kept.store.keep(&message, &event, &|| ()).await.unwrap();
        events.push(event);
        let people = (&account("lee"), &account("kim"));
        let read = history::page(&*kept.store, people, None, 1).await.unwrap();
        assert_eq!(read, [message.message]);
    }
    assert_eq!(kept.pending().await, events);
}

/// Case E3.
async fn a_frame_that_is_sent_again_is_the_same_message_for_ten_minutes(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let other = Kept::open(&bed).await;
    let frames: Vec<_> = (0..16).map(|number| kept.frame("kim", "lee", number)).collect();
    let replicas = [&kept, &other];
    let at_once = frames
        .iter()
        .zip(replicas.iter().cycle())
        .map(|(frame, kept)| kept.keep(frame));
    let outcomes: Vec<_> = join_all(at_once).await.into_iter().map(Result::unwrap).collect();
    let stored = outcomes.iter().filter(|&&outcome| outcome == Outcome::Stored).count();
    assert_eq!(stored, 1, "{outcomes:?}");
    assert_eq!(kept.conversation("kim", "lee", None, 20).await.len(), 1);
    assert_eq!(kept.pending().await.len(), 1, "one event");
    assert_eq!(kept.keep(&kept.frame("lee", "kim", 0)).await.unwrap(), Outcome::Stored);

    let window = RepeatKey::WINDOW.as_secs();
    assert_eq!(
        kept.keep(&kept.frame("kim", "lee", window - 1)).await.unwrap(),
        Outcome::Repeated
    );
    assert_eq!(
        kept.keep(&kept.frame("kim", "lee", window + 20)).await.unwrap(),
        Outcome::Stored
    );
    assert_eq!(
        kept.keep(&kept.frame("kim", "lee", window + 21)).await.unwrap(),
        Outcome::Repeated
    );
    assert_eq!(kept.conversation("kim", "lee", None, 20).await.len(), 3);
}

async fn keys_of_repeated_frames_are_forgotten_with_time_and_with_their_message(bed: Bed) {
    let kept = Kept::open(&bed).await;
    kept.keep(&kept.frame("kim", "lee", 0)).await.unwrap();
    let window = RepeatKey::WINDOW.as_secs();
    kept.store.forget_repeat_keys(at(window - 1)).await.unwrap();
    assert_eq!(
        kept.keep(&kept.frame("kim", "lee", 1)).await.unwrap(),
        Outcome::Repeated
    );
    kept.store.forget_repeat_keys(at(window)).await.unwrap();
    // It would be repeated if the key was there.
    assert_eq!(kept.keep(&kept.frame("kim", "lee", 1)).await.unwrap(), Outcome::Stored);

    kept.erase("kim", 5, EventId::new(&kept.context)).await;
    let mut anew = kept.frame("kim", "lee", 10);
    anew.authorized_at = at(9);
    assert_eq!(kept.keep(&anew).await.unwrap(), Outcome::Stored);
}

async fn a_conversation_is_paged_backwards(bed: Bed) {
    let kept = Kept::open(&bed).await;
    for number in 0..5 {
        kept.say("kim", "lee", number, 0).await;
        kept.say("lee", "kim", number, 0).await;
        kept.say("kim", "park", number, 0).await;
    }
    kept.say("kim", "kim", 3, 0).await;
    assert_eq!(
        kept.conversation("kim", "lee", None, 2).await,
        ["kim lee 4", "lee kim 4"]
    );
    assert_eq!(
        kept.conversation("lee", "kim", Some(4), 3).await,
        ["kim lee 2", "lee kim 2", "kim lee 3", "lee kim 3"],
        "a page runs on through its oldest date"
    );
    assert_eq!(
        kept.conversation("kim", "lee", Some(1), 20).await,
        ["kim lee 0", "lee kim 0"]
    );
    assert!(kept.conversation("kim", "lee", Some(0), 20).await.is_empty());
    assert_eq!(kept.conversation("kim", "lee", None, 500).await.len(), 10);
    assert_eq!(kept.conversation("kim", "kim", None, 20).await, ["kim kim 3"]);
    assert!(kept.conversation("lee", "park", None, 20).await.is_empty());
}

/// Case E7: by one statement; `a_page_of_conversations_is_one_query` counts the commands of MongoDB.
async fn the_newest_of_each_conversation(bed: Bed) {
    let kept = Kept::open(&bed).await;
    assert!(kept.newest("kim").await.is_empty());
    kept.say("kim", "lee", 5, 0).await;
    kept.say("lee", "kim", 4, 0).await;
    kept.say("park", "kim", 7, 0).await;
    kept.say("kim", "kim", 1, 0).await;
    kept.say("park", "lee", 9, 0).await;
    assert_eq!(kept.newest("kim").await, ["kim kim 1", "park kim 7", "lee kim 4"]);
    assert_eq!(kept.newest("lee").await, ["park lee 9", "lee kim 4"]);
    let kim = account("kim");
    let (cost, all) = cost_of("conversations", &bed, kept.store.newest(&kim, None, 1000)).await;
    assert_eq!(all.unwrap().messages.len(), 3);
    if bed.set == EngineSet::Embedded {
        assert_eq!(cost, Cost { reads: 1, writes: 0 });
    }
    let first = kept.store.newest(&kim, None, 1).await.unwrap().messages;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].message.text.as_str(), "kim kim 1");
}

/// Case E7.
async fn conversations_beyond_a_thousand_are_reached_by_pages(bed: Bed) {
    const CONVERSATIONS: usize = 1009;
    let kept = Kept::open(&bed).await;
    let mut messages = Vec::new();
    for number in 0..CONVERSATIONS {
        let mut message = kept.message("kim", &format!("p{number}"), 0, 0).message;
        // As of a legacy Spring service, which many are taken over from at once.
        message.id = MessageId::stored(format!("5e000000{number:016x}"));
        messages.push(message);
    }
    kept.store.take_over(&messages, false).await.unwrap();
    // Answered: it comes first. One is settled, of the other a page reads both messages.
    let settled = kept.say("p3", "kim", 1, 0).await.message;
    kept.store.settle(&settled.conversation()).await.unwrap();
    let unsettled = kept.say("p2", "kim", 1, 0).await.message;
    let (mut read, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = kept.store.newest(&account("kim"), before.as_ref(), 400).await.unwrap();
        read.extend(page.messages.into_iter().map(|stored| stored.message));
        pages += 1;
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert!(read.is_sorted_by(|one, other| one.id.position() > other.id.position()));
    assert_eq!(read[..2], [unsettled.clone(), settled]);
    kept.store.settle(&unsettled.conversation()).await.unwrap();
    let conversations: std::collections::HashSet<_> = read.iter().map(Message::conversation).collect();
    assert_eq!(conversations.len(), CONVERSATIONS);
    let all = kept.store.newest(&account("kim"), None, 2000).await.unwrap();
    assert_eq!((all.messages.len(), all.next), (CONVERSATIONS, None));
}

/// Messages of an earlier release are in the list, and a conversation whose newest message is gone too.
async fn every_conversation_is_listed_after_an_upgrade(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let kept = Kept::open(&bed).await;
    let first = kept.say("kim", "lee", 1, 0).await;
    kept.say("lee", "kim", 2, 0).await;
    kept.say("park", "kim", 3, 0).await;
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let database = client.default_database().unwrap();
    let messages = database.collection::<Document>("message");
    let former = doc! { "$unset": { "newestOf": "" } };
    messages.update_many(doc! {}, former).await.unwrap();
    database
        .collection::<Document>("marker")
        .delete_many(doc! {})
        .await
        .unwrap();
    assert_eq!(kept.newest("kim").await, Vec::<String>::new());
    Kept::open(&bed).await;
    assert_eq!(kept.newest("kim").await, ["park kim 3", "lee kim 2"]);
    let flagged = doc! { "newestOf": { "$gt": "" } };
    assert_eq!(messages.count_documents(flagged).await.unwrap(), 2);

    messages.delete_one(doc! { "date": DATE + 2 }).await.unwrap();
    kept.store.settle(&first.message.conversation()).await.unwrap();
    assert_eq!(kept.newest("kim").await, ["park kim 3", "kim lee 1"]);
}

/// A process is killed after it has taken messages over.
async fn conversations_whose_flagging_was_interrupted_are_listed(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let kept = Kept::open(&bed).await;
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let database = client.default_database().unwrap();
    let (messages, unsettled) = (
        database.collection::<Document>("message"),
        database.collection::<Document>("unsettled"),
    );
    let mut message = kept.message("kim", "lee", 1, 0).message;
    message.id = MessageId::stored(format!("5e000000{:016x}", 1));
    let conversation = message.conversation();
    kept.store.take_over(&[message], false).await.unwrap();
    assert_eq!(kept.newest("kim").await, ["kim lee 1"]);
    assert_eq!(unsettled.count_documents(doc! {}).await.unwrap(), 0);

    let former = doc! { "$unset": { "newestOf": "" } };
    messages.update_many(doc! {}, former).await.unwrap();
    let noted = doc! { "_id": ObjectId::from_bytes([0; 12]), "conversations": [conversation.as_str()] };
    unsettled.insert_one(noted).await.unwrap();
    assert_eq!(kept.newest("kim").await, [""; 0]);
    Kept::open(&bed).await;
    assert_eq!(kept.newest("kim").await, ["kim lee 1"]);
    kept.store.sweep(at(0), at(0)).await.unwrap();
    assert_eq!(unsettled.count_documents(doc! {}).await.unwrap(), 0);
}

/// Dates repeat, go back and lie in the future; paging by the date of the oldest message still reaches every message once.
async fn paging_by_date_reaches_every_message_once(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let ties = [(0, 3), (7, 23), (8, 1), (FUTURE, 2), (9, 4), (7, 1), (10, 30), (2, 5)];
    let dates = ties.into_iter().flat_map(|(date, count)| vec![date; count]);
    let mut sent = Vec::new();
    for (number, date) in dates.enumerate() {
        let mut message = kept.message("kim", "lee", date, 0);
        message.message.text = MessageText::stored(number.to_string());
        kept.keep(&message).await.unwrap();
        sent.push(number.to_string());
    }
    for limit in [1, 5, 20] {
        let (mut read, mut boundary) = (
            Vec::new(),
            Some(Boundary {
                date: DATE + FUTURE + 1,
                is_future: true,
            }),
        );
        loop {
            let people = (&account("lee"), &account("kim"));
            let page = history::page(&*kept.store, people, boundary, limit).await.unwrap();
            let Some(oldest) = page.first() else { break };
            boundary = Some(Boundary {
                date: oldest.date.into(),
                is_future: i64::from(oldest.date) >= DATE + FUTURE,
            });
            let mut page = texts(page);
            page.append(&mut read);
            read = page;
        }
        assert_eq!(read, sent, "{limit} a page");
    }
    assert_eq!(
        kept.newest("lee").await,
        [sent.last().unwrap().as_str()],
        "the last one sent"
    );
    let past = kept.conversation("kim", "lee", Some(6), 20).await;
    assert_eq!(past.len(), 8, "of a date that no message has: those of earlier dates");
}

/// A replica of an earlier release stores messages without a position.
async fn messages_without_a_position_get_theirs(bed: Bed) {
    let kept = Kept::open(&bed).await;
    for number in 0..3 {
        kept.say("kim", "lee", number, 0).await;
    }
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let messages = client.default_database().unwrap().collection::<Document>("message");
        let former = doc! { "$unset": { "position": "" } };
        messages.update_many(doc! { "date": DATE + 1 }, former).await.unwrap();
        // An id that no release of ours has made stops neither the others nor a start.
        let corrupt = doc! { "_id": 7, "conversation": "somewhere" };
        messages.insert_one(corrupt).await.unwrap();
        Kept::open(&bed).await;
    }
    kept.store.fill_positions().await.unwrap();
    assert_eq!(
        kept.conversation("kim", "lee", Some(2), 20).await,
        ["kim lee 0", "kim lee 1"]
    );
}

async fn shown_messages_are_not_pending(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let shown = kept.say("kim", "lee", 0, 0).await.message.id;
    let other = kept.say("kim", "lee", 1, 0).await.message.id;
    kept.store.delivered(&[], at(1)).await.unwrap();
    kept.store.delivered(std::slice::from_ref(&shown), at(1)).await.unwrap();
    assert!(!kept.store.waits(&shown).await.unwrap());
    assert!(kept.store.waits(&other).await.unwrap());
    assert!(!kept.store.waits(&kept.ids.next()).await.unwrap(), "not there");
}

async fn a_message_not_shown_in_time_is_pushed_once(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let (mut lost, mut shown) = (kept.message("kim", "lee", 0, 10), kept.message("kim", "lee", 1, 10));
    for message in [&mut lost, &mut shown] {
        message.push_due = Some(at(15));
        kept.keep(message).await.unwrap();
    }
    kept.say("kim", "lee", 2, 10).await;
    // The relay has published all three.
    let rows: Vec<String> = kept
        .outbox
        .pending(10)
        .await
        .unwrap()
        .pending
        .into_iter()
        .map(|row| row.row)
        .collect();
    kept.outbox.published(&rows).await.unwrap();
    kept.store
        .delivered(std::slice::from_ref(&shown.message.id), at(11))
        .await
        .unwrap();

    assert_eq!(kept.store.undelivered(at(14), 10).await.unwrap(), []);
    let due = kept.store.undelivered(at(15), 10).await.unwrap();
    let expected = Undelivered {
        message: lost.message.clone(),
        stored_at: at(10),
    };
    assert_eq!(due, [expected]);
    let push = kept.event(&lost);
    for _ in 0..2 {
        kept.store.push(&lost.message.id, &push, at(15)).await.unwrap();
    }
    kept.store
        .push(&shown.message.id, &kept.event(&shown), at(15))
        .await
        .unwrap();
    assert_eq!(kept.pending().await, [push], "once, and not for what was shown");
    assert_eq!(kept.store.undelivered(at(100), 10).await.unwrap(), []);
}

async fn a_resignation_takes_both_sides_up_to_its_moment(bed: Bed) {
    let kept = Kept::open(&bed).await;
    kept.say("kim", "lee", 0, 10).await;
    kept.say("lee", "kim", 1, 20).await;
    kept.say("kim", "kim", 2, 20).await;
    let others = kept.say("lee", "park", 3, 10).await;
    // Sent after the moment, before anybody here had heard of it.
    kept.say("lee", "kim", 4, 21).await;
    let event = EventId::new(&kept.context);
    kept.erase("kim", 20, event).await;
    // It is not known yet whether the receiver was the account that resigned or one that signed up since.
    assert_eq!(kept.conversation("kim", "lee", None, 20).await, ["lee kim 4"]);
    kept.store.sweep(at(0), at(19)).await.unwrap();
    assert_eq!(kept.conversation("kim", "lee", None, 20).await, ["lee kim 4"]);
    kept.store.sweep(at(0), at(20)).await.unwrap();
    if bed.set == EngineSet::Embedded {
        // MongoDB has no collection of them.
        let touched = "UPDATE conversation SET account = account WHERE account LIKE 'kim%'";
        assert_eq!(bed.sql("dm", touched).await, 0, "no conversation names the account");
    }
    assert!(kept.newest("kim").await.is_empty());
    assert_eq!(kept.newest("lee").await, ["lee park 3"]);
    assert!(kept.conversation("kim", "lee", None, 20).await.is_empty());
    let receipts = || async {
        let pending = kept.pending().await;
        pending.iter().filter(|record| record.topic == "erased").count()
    };
    assert_eq!(receipts().await, 1);
    let messages: Vec<_> = kept
        .pending()
        .await
        .into_iter()
        .filter(|record| record.topic != "erased")
        .collect();
    assert_eq!(
        messages,
        [kept.event(&others)],
        "what has not gone out does not go out any more"
    );

    // The same address signs up again.
    kept.directory
        .set_nickname(&account("kim"), Some("kim"), at(30))
        .await
        .unwrap();
    kept.say("lee", "kim", 5, 31).await;
    kept.erase("kim", 20, event).await;
    assert_eq!(
        kept.newest("kim").await,
        ["lee kim 5"],
        "the same event again changes nothing"
    );
    assert!(receipts().await >= 1, "and is answered again");
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    assert_eq!(kept.newest("kim").await, ["lee kim 5"], "nor does a late one");
    kept.erase("kim", 40, EventId::new(&kept.context)).await;
    assert!(kept.newest("kim").await.is_empty());
    assert_eq!(kept.newest("lee").await, ["lee park 3"]);
}

/// Case E9: the account signs up again, and a message to it is stored before this service hears of the resignation or of the new name.
async fn a_late_resignation_spares_what_the_account_received_since(bed: Bed) {
    let kept = Kept::open(&bed).await;
    kept.say("lee", "kim", 0, 10).await;
    kept.say("lee", "kim", 1, 31).await;
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    assert_eq!(kept.conversation("kim", "lee", None, 20).await, ["lee kim 1"]);
    let name = async |name: &str, second: i64| {
        let set = kept
            .directory
            .set_nickname(&account("kim"), Some(name), at(second))
            .await;
        set.unwrap();
    };
    name("kim", 30).await;
    name("sun", 50).await;
    // Another copy of the resignation, after a rename.
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    kept.store.sweep(at(0), at(100)).await.unwrap();
    assert_eq!(kept.conversation("kim", "lee", None, 20).await, ["lee kim 1"]);
    assert_eq!(kept.newest("lee").await, ["lee kim 1"]);
}

#[tokio::test]
async fn a_corrupt_message_keeps_no_other_from_its_push() {
    let bed = Bed::new(EngineSet::Embedded).await;
    let kept = Kept::open(&bed).await;
    let (mut broken, mut whole) = (kept.message("kim", "lee", 0, 10), kept.message("kim", "park", 1, 10));
    for message in [&mut broken, &mut whole] {
        message.push_due = Some(at(15));
        kept.keep(message).await.unwrap();
    }
    let corrupt = "UPDATE message SET sender = 'nobody' WHERE receiver LIKE 'lee%'";
    assert_eq!(bed.sql("dm", corrupt).await, 1);
    let due = kept.store.undelivered(at(15), 1).await.unwrap();
    assert_eq!(due, [], "the broken one is met first, and given up");
    let due = kept.store.undelivered(at(15), 1).await.unwrap();
    let ids: Vec<_> = due.iter().map(|found| &found.message.id).collect();
    assert_eq!(ids, [&whole.message.id]);
}

async fn a_message_to_a_resigned_account_is_refused(bed: Bed) {
    let kept = Kept::open(&bed).await;
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    let refused = kept.keep(&kept.message("lee", "kim", 0, 21)).await;
    assert!(matches!(refused, Err(WriteError::ReceiverResigned)), "{refused:?}");
    assert!(kept.newest("lee").await.is_empty());
    kept.directory
        .set_nickname(&account("kim"), Some("sun"), at(30))
        .await
        .unwrap();
    kept.say("lee", "kim", 1, 31).await;
    assert_eq!(kept.newest("kim").await, ["lee kim 1"]);
    kept.store.sweep(at(0), at(100)).await.unwrap();
    assert_eq!(kept.newest("kim").await, ["lee kim 1"]);
}

async fn changes_of_one_person_do_not_limit_those_of_another(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let message = kept.say("kim", "lee", 0, 10).await;
    let react = async |by: &str, number: i64| {
        let reaction = if number % 2 == 0 { "🩷" } else { "👍" };
        let change = NewChange {
            message: message.message.id.clone(),
            by: account(by),
            change: Change::React(Reaction::new(reaction.to_owned())),
            authorized_at: at(20),
            at: at(20),
        };
        kept.store.change(&change, &kept.event(&message)).await
    };
    for number in 0..MOST_CHANGES {
        assert!(react("lee", number).await.unwrap().is_some(), "{number}");
    }
    assert!(matches!(react("lee", MOST_CHANGES).await, Err(ChangeError::TooOften)));
    let changed = react("kim", 0).await.unwrap().expect("another person's change");
    assert_eq!(changed.revision, MOST_CHANGES + 1);
}

async fn a_hidden_message_has_no_text_until_it_is_restored(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let message = kept.say("kim", "lee", 0, 10).await;
    let moderate = async |author: &str, reporter: Option<&str>, hidden, second| {
        let moderation = Moderation {
            message: message.message.id.clone(),
            author: account(author),
            reporter: reporter.map(account),
            hidden,
            at: at(second),
        };
        kept.store.moderate(&moderation).await.unwrap()
    };
    let shown = async || {
        let stored = kept
            .store
            .message(&message.message.id)
            .await
            .unwrap()
            .expect("a message");
        let text = stored.message.text.as_str().to_owned();
        (text, stored.state.retracted_at)
    };
    let visible = ("kim lee 0".to_owned(), None);
    for (author, reporter) in [("lee", None), ("kim", Some("park")), ("kim", Some("kim"))] {
        let outcome = moderate(author, reporter, true, 20).await;
        assert_eq!(outcome, ModerationOutcome::NotFound, "{author} {reporter:?}");
        assert_eq!(shown().await, visible, "{author} {reporter:?}");
    }
    assert_eq!(moderate("kim", Some("lee"), true, 30).await, ModerationOutcome::Applied);
    let hidden = (String::new(), Some(at(30)));
    assert_eq!(shown().await, hidden);
    for second in [30, 25] {
        let outcome = moderate("kim", Some("lee"), true, second).await;
        assert_eq!(outcome, ModerationOutcome::Applied, "delivered again, or late");
        assert_eq!(shown().await, hidden);
    }
    // No person changes what they do not see.
    let change = |change| NewChange {
        message: message.message.id.clone(),
        by: account("kim"),
        change,
        authorized_at: at(35),
        at: at(35),
    };
    let edit = change(Change::Edit(MessageText::new("other".to_owned(), 10).unwrap()));
    let edited = kept.store.change(&edit, &kept.event(&message)).await;
    assert!(matches!(edited, Err(ChangeError::Retracted)));
    let earlier = moderate("kim", None, false, 20).await;
    assert_eq!(earlier, ModerationOutcome::Superseded);
    assert_eq!(shown().await, hidden);
    for _ in 0..2 {
        assert_eq!(moderate("kim", None, false, 40).await, ModerationOutcome::Applied);
        assert_eq!(shown().await, visible);
    }
    let again = moderate("kim", Some("lee"), true, 30).await;
    assert_eq!(again, ModerationOutcome::Superseded, "an earlier decision");
    assert_eq!(shown().await, visible);

    // What the sender retracts while it is hidden is not restored.
    assert_eq!(moderate("kim", None, true, 50).await, ModerationOutcome::Applied);
    let retract = change(Change::Retract);
    let retracted = kept.store.change(&retract, &kept.event(&message)).await.unwrap();
    assert!(retracted.is_some());
    assert_eq!(moderate("kim", None, false, 60).await, ModerationOutcome::Applied);
    assert_eq!(shown().await, (String::new(), Some(at(35))));
}

fn report_of(report: i64, message: &NewMessage, author: &str, reporter: &str) -> NewReport {
    NewReport {
        report,
        message: message.message.id.clone(),
        author: account(author),
        reporter: account(reporter),
        at: at(30),
    }
}

impl Kept {
    async fn reported(&self, report: i64) -> Option<String> {
        self.store
            .reported(report)
            .await
            .unwrap()
            .map(|reported| format!("{} {}", reported.date, reported.text))
    }
}

async fn a_reported_message_is_copied_until_the_report_is_closed(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let message = kept.say("kim", "lee", 0, 10).await;
    let copied = Some(format!("{DATE} kim lee 0"));
    for (number, author, reporter) in [(1, "kim", "park"), (2, "lee", "kim"), (3, "park", "lee")] {
        let report = report_of(number, &message, author, reporter);
        assert!(!kept.store.keep_reported(&report).await.unwrap(), "{author} {reporter}");
        assert_eq!(kept.reported(number).await, None, "{author} {reporter}");
    }
    requests::ask(&kept, 1).await;
    let mut waiting = kept.message("kim", "lee", 2, 10);
    waiting.is_held = true;
    kept.keep_as(&mut waiting).await.unwrap();
    let report = report_of(5, &waiting, "kim", "lee");
    assert!(!kept.store.keep_reported(&report).await.unwrap(), "not received yet");
    assert_eq!(kept.reported(5).await, None);
    let report = report_of(4, &message, "kim", "lee");
    for _ in 0..2 {
        assert!(kept.store.keep_reported(&report).await.unwrap());
        assert_eq!(kept.reported(4).await, copied);
    }
    kept.store.close_reported(4, at(40)).await.unwrap();
    assert_eq!(kept.reported(4).await, None);
    // Closed before its report arrives, or the report is delivered again.
    let other = kept.say("kim", "lee", 1, 10).await;
    kept.store.close_reported(6, at(40)).await.unwrap();
    for number in [4, 6] {
        kept.store
            .keep_reported(&report_of(number, &other, "kim", "lee"))
            .await
            .unwrap();
        assert_eq!(kept.reported(number).await, None, "{number}");
    }

    let open = report_of(7, &other, "kim", "lee");
    assert!(kept.store.keep_reported(&open).await.unwrap());
    kept.store.forget_reported(at(30)).await.unwrap();
    assert!(kept.reported(7).await.is_some());
    kept.store.forget_reported(at(31)).await.unwrap();
    assert_eq!(kept.reported(7).await, None);
}

async fn copies_of_reported_messages_go_with_both_people(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let (one, other) = (
        kept.say("kim", "lee", 0, 10).await,
        kept.say("park", "kim", 1, 10).await,
    );
    let between_others = kept.say("park", "lee", 2, 10).await;
    for (number, message, author, reporter) in [
        (1, &one, "kim", "lee"),
        (2, &other, "park", "kim"),
        (3, &between_others, "park", "lee"),
    ] {
        let report = report_of(number, message, author, reporter);
        assert!(kept.store.keep_reported(&report).await.unwrap());
    }
    kept.erase("kim", 30, EventId::new(&kept.context)).await;
    assert_eq!((kept.reported(1).await, kept.reported(2).await), (None, None));
    assert!(kept.reported(3).await.is_some());
    // A report that is delivered after the resignation finds no message.
    assert!(
        !kept
            .store
            .keep_reported(&report_of(4, &one, "kim", "lee"))
            .await
            .unwrap()
    );
    assert_eq!(kept.reported(4).await, None);
}

async fn a_large_resignation_is_erased_in_steps(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let messages: Vec<_> = (0..1100)
        .map(|number| {
            let other = format!("p{}", number % 60);
            if number % 2 == 0 {
                kept.message("kim", &other, number, 1)
            } else {
                kept.message(&other, "kim", number, 1)
            }
        })
        .collect();
    for some in messages.chunks(50) {
        for kept in join_all(some.iter().map(|message| kept.keep(message))).await {
            kept.unwrap();
        }
    }
    kept.say("p0", "p1", 7, 1).await;
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    assert!(kept.newest("kim").await.is_empty());
    assert_eq!(kept.newest("p0").await, ["p0 p1 7"]);
    assert_eq!(kept.pending().await.len(), 2, "one message and the receipt");
}

/// Each name belongs to the account of that name; `nobody` to no account.
#[derive(Debug)]
struct Plainly;

#[async_trait]
impl Names for Plainly {
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        Ok((nickname != "nobody").then(|| account(nickname)))
    }

    async fn account_of_fresh(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        self.account_of(nickname).await
    }

    async fn nicknames_of(&self, _: &[Account]) -> Result<Vec<Option<String>>, Denied> {
        Err(Denied::Unavailable)
    }
}

fn claimer(kept: &Kept) -> Claimer {
    Claimer::new(kept.store.clone(), Arc::new(Plainly), kept.directory.clone())
}

/// Knows the people of a directory.
#[derive(Debug)]
struct Listed(Arc<dyn Directory>);

#[async_trait]
impl Names for Listed {
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        self.0.account_of(nickname).await.map_err(|_| Denied::Unavailable)
    }

    async fn account_of_fresh(&self, _: &str) -> Result<Option<Account>, Denied> {
        Err(Denied::Unavailable)
    }

    async fn nicknames_of(&self, _: &[Account]) -> Result<Vec<Option<String>>, Denied> {
        Err(Denied::Unavailable)
    }
}

/// They were written long before the service started, behind more documents than a page that are no messages.
async fn legacy_messages_appear_when_the_names_of_their_people_arrive(bed: Bed) {
    const CROWD: usize = 40;
    if bed.set == EngineSet::Embedded {
        return;
    }
    let kept = Kept::open(&bed).await;
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let messages = client.default_database().unwrap().collection::<Document>("message");
    let old_id = |number: usize| ObjectId::parse_str(format!("5e00000000000000{number:08x}")).unwrap();
    let unreadable: Vec<_> = (0..600)
        .map(|number| doc! { "_id": old_id(number), "sender": "kim" })
        .collect();
    messages.insert_many(unreadable).await.unwrap();
    let message = |number: usize, from: &str, date: i64| {
        let text = format!("{from} lee {date}");
        doc! { "_id": old_id(1000 + number), "date": DATE + date, "sender": from, "receiver": "lee", "text": text }
    };
    messages.insert_one(message(0, "kim", 1)).await.unwrap();
    for number in 1..=CROWD {
        let from = format!("crowd{number}");
        messages.insert_one(message(number, &from, 2)).await.unwrap();
    }

    let names = Arc::new(Listed(kept.directory.clone()));
    let mut claimer = Claimer::new(kept.store.clone(), names, kept.directory.clone());
    let arrives = async |name: &str| {
        let account = account(name);
        let set = kept.directory.set_nickname(&account, Some(name), at(1));
        set.await.unwrap();
    };
    let now = at(1000);
    claimer.round(now).await.unwrap();
    assert_eq!(kept.newest("lee").await, Vec::<String>::new());
    arrives("lee").await;
    claimer.round(now).await.unwrap();
    assert_eq!(kept.newest("lee").await, Vec::<String>::new(), "the others are unknown");
    arrives("kim").await;
    claimer.round(now).await.unwrap();
    assert_eq!(kept.newest("lee").await, ["kim lee 1"]);
    for number in 1..=CROWD {
        arrives(&format!("crowd{number}")).await;
    }
    claimer.round(now).await.unwrap();
    let newest = kept.store.newest(&account("lee"), None, 100).await.unwrap();
    assert_eq!(newest.messages.len(), 1 + CROWD);

    // A Spring replica writes on.
    let text = doc! { "date": DATE + 3, "sender": "kim", "receiver": "lee", "text": "kim lee 3" };
    messages.insert_one(text).await.unwrap();
    claimer.round(now).await.unwrap();
    assert_eq!(
        kept.conversation("kim", "lee", None, 20).await,
        ["kim lee 1", "kim lee 3"]
    );
}

/// Only its document store can hold what it wrote.
async fn legacy_messages_are_read_and_erased_with_their_people(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let settings = bed.settings::<Settings>("dm", DEFAULTS, &[]).await.get();
    if settings.messages.url.scheme() != "mongodb" {
        claimer(&kept).round(at(0)).await.unwrap();
        return;
    }
    let database = sosohappy_store::mongo::Database::open(&settings.messages.url, &kept.context);
    let database = database.await.unwrap();
    let messages = database.database().collection::<Document>("message");
    for (from, to, date) in [
        ("kim", "lee", 1),
        ("lee", "kim", 2),
        ("park", "lee", 3),
        ("nobody", "kim", 4),
        ("kim", "nobody", 5),
    ] {
        let mut room = [from, to];
        room.sort_unstable();
        let text = format!("{from} {to} {date}");
        let message =
            doc! { "messageRoomId": room.join(","), "date": DATE + date, "sender": from, "receiver": to, "text": text };
        messages.insert_one(message).await.unwrap();
    }
    messages
        .insert_one(doc! { "sender": "kim", "receiver": "lee", "date": 1 })
        .await
        .unwrap();
    kept.say("kim", "lee", 6, 10).await;

    let mut claimer = claimer(&kept);
    for _ in 0..2 {
        claimer.round(at(0)).await.unwrap();
    }
    assert_eq!(
        kept.conversation("kim", "lee", None, 20).await,
        ["kim lee 1", "lee kim 2", "kim lee 6"]
    );
    assert_eq!(kept.newest("lee").await, ["kim lee 6", "park lee 3"]);

    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    assert_eq!(kept.newest("lee").await, ["park lee 3"]);
    assert_eq!(
        messages.count_documents(doc! {}).await.unwrap(),
        1,
        "also what nobody could claim"
    );
}

async fn an_older_token_writes_nothing_after_a_resignation(bed: Bed) {
    let kept = Kept::open(&bed).await;
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    let mut late = kept.message("kim", "lee", 0, 30);
    late.authorized_at = at(20);
    let refused = kept.keep(&late).await;
    assert!(matches!(refused, Err(WriteError::Resigned)), "{refused:?}");
    late.authorized_at = at(21);
    kept.keep(&late).await.expect("who signs up again may write");
    assert_eq!(kept.conversation("kim", "lee", None, 20).await, ["kim lee 0"]);

    kept.store.sweep(at(20), at(0)).await.unwrap();
    late = kept.message("kim", "lee", 2, 31);
    assert!(kept.keep(&late).await.is_err());
    kept.store.sweep(at(21), at(0)).await.unwrap();
    kept.keep(&late).await.expect("no token is that old any more");
}

async fn a_resignation_and_messages_that_cross_leave_nothing(bed: Bed) {
    let kept = Kept::open(&bed).await;
    for round in 0..5 {
        let name = format!("kim{round}");
        let messages: Vec<_> = (0..20)
            .map(|number| match number % 2 {
                0 => kept.message(&name, "lee", number, 40),
                _ => kept.message("lee", &name, number, 40),
            })
            .collect();
        let sending = join_all(messages.iter().map(|message| kept.keep(message)));
        let (sent, ()) = futures::join!(sending, kept.erase(&name, 50, EventId::new(&kept.context)));
        for result in sent {
            assert!(
                matches!(
                    result,
                    Ok(Outcome::Stored) | Err(WriteError::Resigned | WriteError::ReceiverResigned)
                ),
                "{result:?}"
            );
        }
        assert!(kept.newest(&name).await.is_empty(), "round {round}");
        assert!(kept.newest("lee").await.is_empty(), "round {round}");
    }
}

async fn push_tokens_are_those_set_last_and_go_with_their_account(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let store = &kept.store;
    let tokens = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let kim = account("kim");
    assert_eq!(store.devices_of(&kim).await.unwrap(), tokens(&[]));
    store
        .set_devices(&kim, &tokens(&["phone", "tablet"]), at(20))
        .await
        .unwrap();
    store.set_devices(&kim, &tokens(&["older"]), at(10)).await.unwrap();
    assert_eq!(store.devices_of(&kim).await.unwrap(), tokens(&["phone", "tablet"]));
    store.set_devices(&kim, &tokens(&["phone"]), at(30)).await.unwrap();
    assert_eq!(store.devices_of(&kim).await.unwrap(), tokens(&["phone"]));
    kept.erase("kim", 40, EventId::new(&kept.context)).await;
    assert_eq!(store.devices_of(&kim).await.unwrap(), tokens(&[]));
}

/// Of a message collection that only MongoDB shares with a Spring dm.
async fn a_spring_dm_reads_every_id_before_during_and_after(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let messages = client.default_database().unwrap().collection::<Document>("message");
    let texts = doc! { "_id": { "$type": "string" } };
    let before = Kept::open(&bed).await;
    before.say("kim", "lee", 1, 1).await;
    let waiting = before.say("kim", "lee", 2, 2).await;
    assert_eq!(messages.count_documents(texts.clone()).await.unwrap(), 2);

    let spring = Mixed::new(Live::new(mixed::spring(&[Service::Dm])));
    let during = Kept::open_in(&bed, &spring).await;
    assert!(!during.store.rewrite_ids("one").await.unwrap(), "the relay has them");
    let pending = during.outbox.pending(10).await.unwrap().pending;
    let rows: Vec<_> = pending.into_iter().map(|pending| pending.row).collect();
    during.outbox.published(&rows).await.unwrap();
    // A process that is killed after the copy leaves both, of which the original has the place in the conversation.
    let original = messages.find_one(doc! { "date": DATE + 1 }).await.unwrap().unwrap();
    assert!(during.store.rewrite_ids("one").await.unwrap());
    let copy = doc! { "date": DATE + 1 };
    messages
        .update_one(copy, doc! { "$unset": { "place": "" } })
        .await
        .unwrap();
    messages.insert_one(&original).await.unwrap();
    assert_eq!(
        during.conversation("kim", "lee", None, 10).await.len(),
        2,
        "nothing is shown twice"
    );
    assert!(
        !during.store.rewrite_ids("other").await.unwrap(),
        "another replica has the lease"
    );
    while during.store.rewrite_ids("one").await.unwrap() {}
    during.say("kim", "lee", 3, 3).await;
    assert_eq!(messages.count_documents(texts.clone()).await.unwrap(), 0);
    // An export finds them under their own ids.
    let first = during.store.page(&MessageId::stored(String::new()), 2).await.unwrap();
    let rest = during.store.page(&first[1].id, 2).await.unwrap();
    assert_eq!(texts_of(&first), ["kim lee 1", "kim lee 2"]);
    assert_eq!(texts_of(&rest), ["kim lee 3"]);
    assert_eq!(messages.count_documents(doc! {}).await.unwrap(), 3);

    // Marks find a message by its own id, and its event is published once.
    assert!(during.store.waits(&waiting.message.id).await.unwrap());
    during
        .store
        .delivered(std::slice::from_ref(&waiting.message.id), at(9))
        .await
        .unwrap();
    assert!(!during.store.waits(&waiting.message.id).await.unwrap());
    let pending = during.outbox.pending(10).await.unwrap().pending;
    assert_eq!(pending.len(), 1);
    during
        .outbox
        .published(std::slice::from_ref(&pending[0].row))
        .await
        .unwrap();
    assert!(during.outbox.pending(10).await.unwrap().pending.is_empty());

    // A Spring dm may come back at any time.
    let after = Kept::open(&bed).await;
    after.say("lee", "kim", 4, 4).await;
    assert_eq!(messages.count_documents(texts).await.unwrap(), 0);
    assert_eq!(after.conversation("kim", "lee", None, 10).await.len(), 4);
    after.erase("kim", 5, EventId::new(&after.context)).await;
    assert_eq!(messages.count_documents(doc! {}).await.unwrap(), 0);
}

/// Names that arrive are looked at between rounds only.
async fn a_round_of_claims_ends_while_a_spring_dm_writes(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let kept = Kept::open(&bed).await;
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let messages = client.default_database().unwrap().collection::<Document>("message");
    let written = messages.clone();
    let writing = tokio::spawn(async move {
        for number in 0_i64.. {
            let message = doc! { "sender": "kim", "receiver": "lee", "date": DATE + number, "text": "busy" };
            written.insert_one(message).await.unwrap();
        }
    });
    let mut claimer = claimer(&kept);
    while kept.newest("kim").await.is_empty() {
        let round = tokio::time::timeout(PATIENCE, claimer.round(at(0))).await;
        round.expect("the round ends").unwrap();
    }
    writing.abort();
}

fn texts_of(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

/// More than one statement names. Those of a person who has resigned since are left out.
async fn many_legacy_messages_are_taken_over_at_once(bed: Bed) {
    const MANY: usize = 1_200;
    let kept = Kept::open(&bed).await;
    kept.erase("gone", 20, EventId::new(&kept.context)).await;
    let party = |name: &str| Party {
        account: account(name),
        nickname: name.to_owned(),
    };
    let legacy = |number: usize| Message {
        id: MessageId::stored(format!("5e000000{number:016x}")),
        sender: party(&format!("p{}", number % 60)),
        receiver: party(if number % 100 == 7 { "gone" } else { "lee" }),
        date: MessageDate::try_from(DATE + i64::try_from(number).unwrap()).unwrap(),
        text: MessageText::stored(format!("{number}")),
    };
    let messages: Vec<Message> = (0..MANY).map(legacy).collect();
    let ids: Vec<MessageId> = messages.iter().map(|message| message.id.clone()).collect();
    let of_gone: HashSet<MessageId> = (7..MANY).step_by(100).map(|number| ids[number].clone()).collect();
    assert_eq!(kept.store.take_over(&messages, true).await.unwrap(), of_gone);
    assert!(
        kept.store.owned(&ids).await.unwrap().is_empty(),
        "a dry run stores nothing"
    );

    assert_eq!(kept.store.take_over(&messages, false).await.unwrap(), of_gone);
    let owned = kept.store.owned(&ids).await.unwrap();
    assert_eq!(owned.len(), MANY - of_gone.len());
    assert!(owned.is_disjoint(&of_gone));
    let wanted: Vec<String> = (3..MANY).step_by(60).map(|number| number.to_string()).collect();
    assert_eq!(kept.conversation("p3", "lee", None, 50).await, wanted);
    assert_eq!(kept.newest("p3").await, [wanted.last().unwrap().as_str()]);
    assert!(
        kept.pending()
            .await
            .iter()
            .all(|record| record.topic != "directMessage")
    );

    // As after a run that was killed, or beside one that claims them.
    if bed.set == EngineSet::Real {
        assert_eq!(kept.store.take_over(&messages, false).await.unwrap(), of_gone);
        assert_eq!(kept.conversation("p3", "lee", None, 50).await, wanted);
    }
}

/// The message that a frame is about.
fn stored_in(framed: &Framed) -> &Stored {
    match &framed.content {
        FrameContent::Message(stored) | FrameContent::Change(stored, _) => stored,
        FrameContent::RoomMessage(_) | FrameContent::RoomChange(..) => panic!("a message of a room: {framed:?}"),
    }
}

/// Returns numbers and texts of an account's frames.
async fn frames(kept: &Kept, name: &str) -> Vec<(i64, String)> {
    let mut frames = Vec::new();
    let mut after = 0;
    loop {
        let page = kept.store.frames_after(&account(name), after, 7).await.unwrap();
        let texts = page
            .content
            .into_iter()
            .map(|framed| (framed.seq, stored_in(&framed).message.text.as_str().to_owned()));
        frames.extend(texts);
        if !page.more {
            return frames;
        }
        after = page.until.unwrap();
    }
}

async fn frames_have_numbers_without_a_gap_in_the_order_of_their_conversations(bed: Bed) {
    let replicas = [Kept::open(&bed).await, Kept::open(&bed).await];
    let stored = (0..40).map(|number| {
        let kept = &replicas[number % 2];
        let (from, to) = [("kim", "lee"), ("lee", "kim"), ("park", "kim"), ("kim", "kim")][number % 4];
        async move { kept.say(from, to, i64::try_from(number).unwrap(), 0).await }
    });
    join_all(stored).await;
    // A process may have left messages without numbers; two readers number them at once.
    let (one, other) = futures::join!(frames(&replicas[0], "kim"), frames(&replicas[1], "kim"));
    assert_eq!(one, other);
    let numbers: Vec<i64> = one.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    assert_eq!(replicas[0].store.kept(&account("kim")).await.unwrap(), Some((1, 40)));
    for (with, count) in [("lee", 20), ("park", 10), ("kim", 10)] {
        let history = replicas[1].conversation("kim", with, None, 100).await;
        assert_eq!(history.len(), count);
        let framed: Vec<&String> = one
            .iter()
            .map(|(_, text)| text)
            .filter(|text| history.contains(text))
            .collect();
        assert!(framed.iter().copied().eq(&history), "{framed:?} {history:?}");
    }
    let page = replicas[0].store.frames_after(&account("lee"), 0, 100).await.unwrap();
    let numbers: Vec<_> = page.content.iter().map(|framed| stored_in(framed).number).collect();
    assert_eq!(numbers, (1..=20).map(Some).collect::<Vec<_>>());
    let conversation = ConversationId::between(&account("kim"), &account("lee"));
    let last = &page.content[19];
    let seq = replicas[1]
        .store
        .seq_of(&account("lee"), &stored_in(last).message.id)
        .await
        .unwrap();
    assert_eq!(seq, Some(20));
    let others = replicas[1]
        .store
        .seq_of(&account("park"), &stored_in(last).message.id)
        .await
        .unwrap();
    assert_eq!(others, None);

    // Messages at the end of a page of MongoDB's, in the middle and at its beginning.
    for seen in [1, 14, 16, 20] {
        let last = replicas[0].store.last_seen(&account("lee"), &conversation, seen).await;
        let index = usize::try_from(seen - 1).unwrap();
        let expected = stored_in(&page.content[index]).message.id.position();
        assert_eq!(last.unwrap(), Some(expected), "{seen}");
    }
    let last = replicas[0].store.last_seen(&account("lee"), &conversation, 0).await;
    assert_eq!(last.unwrap(), None);
    // Frames of other conversations come between.
    let newest = one.iter().rfind(|(_, text)| !text.contains("lee")).expect("a frame").0;
    let last = replicas[0]
        .store
        .last_seen(&account("kim"), &conversation, newest)
        .await;
    let before = one.iter().rfind(|(seq, text)| *seq < newest && text.contains("lee"));
    let last = last.unwrap().expect("a message");
    let page = page.content.iter().find(|framed| {
        let message = &stored_in(framed).message;
        before.is_some_and(|(_, text)| message.text.as_str() == text)
    });
    assert_eq!(Some(last), page.map(|framed| stored_in(framed).message.id.position()));
}

async fn a_frame_with_the_same_id_is_the_same_message_for_seven_days(bed: Bed) {
    let replicas = [Kept::open(&bed).await, Kept::open(&bed).await];
    let key = ClientKey::of(&account("kim"), "c1");
    let frame = |number: usize, stored: i64| {
        let mut message = replicas[number % 2].message("kim", "lee", i64::try_from(number).unwrap(), stored);
        message.client_key = Some(key.clone());
        message
    };
    let frames: Vec<_> = (0..8).map(|number| frame(number, 0)).collect();
    let at_once = frames
        .iter()
        .enumerate()
        .map(|(number, frame)| replicas[number % 2].keep(frame));
    let outcomes: Vec<_> = join_all(at_once).await.into_iter().map(Result::unwrap).collect();
    let stored = outcomes.iter().filter(|&&outcome| outcome == Outcome::Stored).count();
    assert_eq!(stored, 1, "{outcomes:?}");
    let (store, week) = (&replicas[0].store, ClientKey::WINDOW.as_secs());
    let known = store
        .with_client_key(&key, at(week - 1))
        .await
        .unwrap()
        .expect("it is known");
    assert_eq!(store.message(&known.message.id).await.unwrap(), Some(known));
    assert_eq!(store.with_client_key(&key, at(week)).await.unwrap(), None);
    store.forget_repeat_keys(at(week - 1)).await.unwrap();
    assert_eq!(replicas[1].keep(&frame(8, week - 1)).await.unwrap(), Outcome::Repeated);
    assert_eq!(replicas[1].keep(&frame(9, week)).await.unwrap(), Outcome::Stored);
    store.forget_repeat_keys(at(2 * week)).await.unwrap();
    assert_eq!(replicas[0].keep(&frame(10, week + 1)).await.unwrap(), Outcome::Stored);
    assert_eq!(replicas[0].conversation("kim", "lee", None, 10).await.len(), 3);
}

async fn numbers_are_not_given_again_after_a_resignation(bed: Bed) {
    let kept = Kept::open(&bed).await;
    kept.say("lee", "park", 0, 1).await;
    kept.say("kim", "lee", 1, 1).await;
    kept.say("lee", "kim", 2, 1).await;
    assert_eq!(frames(&kept, "lee").await.len(), 3);
    assert_eq!(frames(&kept, "kim").await.len(), 2);
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    assert_eq!(kept.store.kept(&account("kim")).await.unwrap(), None);
    assert_eq!(frames(&kept, "lee").await, [(1, "lee park 0".to_owned())]);
    kept.say("park", "lee", 3, 21).await;
    assert_eq!(frames(&kept, "lee").await.last(), Some(&(4, "park lee 3".to_owned())));
    kept.erase("lee", 30, EventId::new(&kept.context)).await;
    assert_eq!(
        kept.store.kept(&account("lee")).await.unwrap(),
        None,
        "also those of other people's messages"
    );
}

/// A replica of the release before stores messages without a number during a roll-out; who reads their records gives them frames.
async fn messages_of_a_release_without_numbers_get_their_frames(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let kept = Kept::open(&bed).await;
    kept.say("kim", "lee", 0, 0).await;
    assert_eq!(frames(&kept, "lee").await.len(), 1);
    let former = kept.say("kim", "lee", 1, 0).await;
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let messages = client.default_database().unwrap().collection::<Document>("message");
    let fields = doc! { "$unset": { "number": "", "place": "", "unnumbered": "" } };
    messages.update_one(doc! { "date": DATE + 1 }, fields).await.unwrap();
    assert_eq!(frames(&kept, "lee").await.len(), 1);
    for _ in 0..2 {
        kept.store.enlist(&former.message.id).await.unwrap();
        for name in ["kim", "lee"] {
            let last = frames(&kept, name).await;
            assert_eq!(last[1..], [(2, "kim lee 1".to_owned())]);
        }
    }
    kept.say("lee", "kim", 2, 0).await;
    let page = kept.store.frames_after(&account("kim"), 0, 10).await.unwrap();
    let numbers: Vec<_> = page
        .content
        .iter()
        .map(|framed| (framed.seq, stored_in(framed).number))
        .collect();
    assert_eq!(numbers, [(1, Some(1)), (2, None), (3, Some(2))]);
}

async fn watermarks_only_rise(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    let mut said = Vec::new();
    for number in 0..4 {
        let mut message = kept.message("kim", "lee", number, 0);
        message.client_key = Some(ClientKey::of(&kim, &number.to_string()));
        kept.keep_as(&mut message).await.unwrap();
        said.push(message.message.id);
    }
    let old = kept.say("park", "lee", 0, 0).await.message.id;
    let conversation = ConversationId::between(&kim, &lee);
    let marks = async |of: &Account, other: &Account| kept.store.marks(of, &[other]).await.unwrap()[&conversation];
    assert_eq!(kept.store.unread(&lee, &[]).await.unwrap(), 5);

    let delivered = kept
        .store
        .delivered(&[said[1].clone(), old, said[0].clone()], at(1))
        .await
        .unwrap();
    let receipt = Receipt {
        reader: lee.clone(),
        sender: kim.clone(),
        progress: Progress::Delivered,
        message: said[1].clone(),
        number: 2,
        at: at(1),
    };
    assert_eq!(
        delivered,
        std::slice::from_ref(&receipt),
        "none for a client that has no ids"
    );
    assert_eq!(kept.store.delivered(&said[..2], at(2)).await.unwrap(), []);
    let seen = Marks {
        unread: 0,
        delivered: 2,
        read: 0,
    };
    assert_eq!(marks(&kim, &lee).await, seen);

    let event_of = |receipt: &Receipt| read_event(receipt, at(0), &kept.context);
    let read = async |up_to: Option<usize>| {
        let up_to = up_to.map(|number| said[number].position());
        let read = kept.store.read(&lee, &kim, up_to.as_ref(), at(3), &event_of);
        read.await.unwrap()
    };
    let expected = Receipt {
        progress: Progress::Read,
        message: said[2].clone(),
        number: 3,
        at: at(3),
        ..receipt
    };
    assert_eq!(read(Some(2)).await, Some(expected));
    assert_eq!(read(Some(1)).await, None);
    assert_eq!(kept.store.unread(&lee, &[]).await.unwrap(), 2);
    assert_eq!(
        marks(&kim, &lee).await,
        Marks {
            unread: 0,
            delivered: 3,
            read: 3
        }
    );
    assert_eq!(
        marks(&lee, &kim).await,
        Marks {
            unread: 1,
            delivered: 0,
            read: 0
        }
    );
    assert!(!kept.store.waits(&said[2]).await.unwrap(), "what was read is delivered");
    assert!(kept.store.waits(&said[3]).await.unwrap());
    assert_eq!(read(None).await.map(|receipt| receipt.number), Some(4));
    assert_eq!(read(None).await, None);
    assert_eq!(
        kept.store.delivered(&said[3..], at(4)).await.unwrap(),
        [],
        "it was read before"
    );
    assert_eq!(kept.store.unread(&lee, &[]).await.unwrap(), 1);
    assert_eq!(
        kept.store
            .read(&kim, &account("park"), None, at(5), &event_of)
            .await
            .unwrap(),
        None
    );
    let pending = kept.pending().await;
    let reads = pending.iter().filter(|record| record.topic == "messageReceipt");
    let reads: Vec<String> = reads
        .map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap())
        .collect();
    let named = |message: &MessageId| reads.iter().filter(|read| read.contains(message.as_str())).count();
    assert_eq!(
        (reads.len(), named(&said[2]), named(&said[3])),
        (2, 1, 1),
        "an event for each receipt"
    );
}

async fn watermarks_go_with_a_resignation(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    for number in 0..3 {
        kept.say("kim", "lee", number, 1).await;
    }
    for (hidden, unread) in [("kim", 0), ("park", 3)] {
        let count = kept.store.unread(&lee, &[account(hidden)]).await.unwrap();
        assert_eq!(count, unread, "{hidden} is in a block with the reader");
    }
    kept.store
        .read(&lee, &kim, None, at(2), &|receipt| {
            read_event(receipt, at(0), &kept.context)
        })
        .await
        .unwrap()
        .expect("a receipt");
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    assert_eq!(kept.store.unread(&lee, &[]).await.unwrap(), 0);
    kept.directory.set_nickname(&kim, Some("kim"), at(30)).await.unwrap();
    let mut anew = kept.message("kim", "lee", 0, 31);
    anew.authorized_at = at(30);
    kept.keep_as(&mut anew).await.unwrap();
    let marks = kept.store.marks(&kim, &[&lee]).await.unwrap();
    assert_eq!(
        marks[&ConversationId::between(&kim, &lee)],
        Marks::default(),
        "the numbers began anew"
    );
    // A message is not unread while moderators hide it.
    for (hidden, second, unread) in [(true, 40, 0), (false, 50, 1)] {
        let moderation = Moderation {
            message: anew.message.id.clone(),
            author: kim.clone(),
            reporter: None,
            hidden,
            at: at(second),
        };
        kept.store.moderate(&moderation).await.unwrap();
        let marks = kept.store.marks(&lee, &[&kim]).await.unwrap();
        let of_kim = marks[&ConversationId::between(&kim, &lee)].unread;
        assert_eq!((kept.store.unread(&lee, &[]).await.unwrap(), of_kim), (unread, unread));
    }
}
