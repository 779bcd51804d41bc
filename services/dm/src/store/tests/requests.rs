//! Messages that wait in requests, rooms, and the frames that are kept.

use futures::future::join_all;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_events::types::{
    MessageReceipt, ModerationOutcome, ReceiptProgress, Relation, RoomMessageSent, RoomPush,
};
use sosohappy_events::{Envelope, EventId, Outgoing, Topic};
use sosohappy_store::StoreError;
use sosohappy_store::outbox::Pending;
use sosohappy_testkit::statements::{Cost, cost_of};
use sosohappy_testkit::{Bed, EngineSet, on_both_engines};

use super::{Kept, account, at, frames};
use crate::domain::{
    Change, Changed, ClientKey, ConversationId, Decision, Joining, MOST_CHANGES, MOST_UNREAD, Member, MessageDate,
    MessageId, MessageState, MessageText, NewChange, NewMessage, NewRoomMessage, Party, Reaction, Receipt, Request,
    RequestState, Room, RoomMessage, RoomName, Stored, Verdict,
};
use crate::receipts::{read_event, room_read_event};
use crate::store::reports::{Moderation, NewReport, Reportable};
use crate::store::{ChangeError, FrameContent, JoinOutcome, Posted, Range, RoomOutcome, Unfinished, WriteError};

on_both_engines!(
    messages_that_wait_are_released_once_in_order,
    a_message_that_changed_since_it_was_read_is_not_released_as_it_was,
    a_decision_is_made_once_and_its_events_are_stored_with_it,
    unfinished_requests_are_read_page_by_page_past_a_corrupt_one,
    a_message_waits_only_in_a_pending_request,
    messages_that_wait_come_before_a_later_message,
    a_waiting_message_that_cannot_be_decoded_blocks_no_other,
    a_resignation_takes_requests_of_both_sides,
    messages_of_a_room_are_numbered_without_a_gap_for_all_senders,
    a_message_of_a_room_is_stored_by_as_many_statements_for_a_hundred_as_for_one,
    changes_of_a_message_in_a_room_reach_those_who_see_it,
    members_react_to_a_message_of_a_room_once_each,
    moderators_see_hide_and_restore_a_message_of_a_room,
    a_report_of_a_member_who_has_left_counts_for_what_it_saw,
    texts_of_a_room_are_not_published_after_their_message_is_retracted_or_erased,
    reading_and_leaving_a_room_are_published_once,
    changes_go_with_their_message_in_a_room,
    a_message_of_a_room_that_cannot_be_decoded_stops_no_stream,
    numbers_of_a_room_are_not_given_again_after_a_resignation,
    unread_messages_of_a_room_are_those_that_a_member_can_open,
    a_member_sees_a_room_from_its_joining_until_it_leaves,
    a_message_of_a_room_is_numbered_in_many_streams_at_once,
    many_rooms_are_listed_by_as_many_statements_as_one,
    a_message_has_frames_for_members_who_joined_while_it_was_stored,
    an_interrupted_deletion_of_a_room_is_continued,
    changes_of_a_message_that_is_gone_are_deleted,
    changes_of_a_later_release_are_skipped_and_stay,
    a_room_of_an_account_that_has_resigned_is_swept,
    an_account_that_has_resigned_is_not_added_to_a_room,
    a_creator_who_is_not_in_a_room_is_forgotten_there,
    an_account_that_was_added_to_a_room_before_its_resignation_was_known_is_swept,
    an_older_token_posts_nothing_after_a_resignation,
    frames_beyond_those_that_are_kept_are_deleted,
);

fn party(name: &str) -> Party {
    Party {
        account: account(name),
        nickname: name.to_owned(),
    }
}

fn conversation() -> ConversationId {
    ConversationId::between(&account("kim"), &account("lee"))
}

pub(super) async fn ask(kept: &Kept, asked: i64) -> Request {
    ask_person(kept, "lee", asked).await
}

async fn ask_person(kept: &Kept, receiver: &str, asked: i64) -> Request {
    let request = Request {
        id: kept.ids.next().to_string(),
        asker: party("kim"),
        receiver: party(receiver),
        introduction: None,
        state: RequestState::Pending,
        asked_at: at(asked),
        decided_at: None,
        is_completing: false,
    };
    assert!(kept.store.ask(&request).await.unwrap());
    assert!(!kept.store.ask(&request).await.unwrap(), "a conversation has one");
    request
}

async fn decide(kept: &Kept, request: &Request, verdict: Verdict, second: i64) -> bool {
    let decision = Decision {
        conversation: request.conversation(),
        verdict,
        at: at(second),
    };
    let event = kept.event(&kept.message("kim", "lee", second, second));
    kept.store.decide(&decision, &[event]).await.unwrap()
}

async fn complete(kept: &Kept) {
    let request = kept.store.request(&conversation()).await.unwrap();
    kept.store.completed(&request.expect("a request")).await.unwrap();
}

/// The receivers of the unfinished requests, read in pages of two.
async fn unfinished(kept: &Kept, kind: Unfinished) -> Vec<String> {
    let (mut receivers, mut after) = (Vec::new(), String::new());
    loop {
        let page = kept.store.unfinished_requests(kind, &after, 2).await.unwrap();
        receivers.extend(page.content.into_iter().map(|request| request.receiver.nickname));
        let Some(next) = page.next else { return receivers };
        after = next;
    }
}

async fn wait(kept: &Kept, number: i64, stored: i64) -> NewMessage {
    let mut message = kept.message("kim", "lee", number, stored);
    message.is_held = true;
    kept.keep_as(&mut message).await.unwrap();
    message
}

fn rows(pending: &[Pending]) -> Vec<String> {
    pending.iter().map(|pending| pending.row.clone()).collect()
}

/// Publishes what is in the outbox.
async fn publish(kept: &Kept) -> Vec<Outgoing> {
    let pending = kept.outbox.pending(1000).await.unwrap().pending;
    kept.outbox.published(&rows(&pending)).await.unwrap();
    pending.into_iter().map(|pending| pending.record).collect()
}

async fn messages_that_wait_are_released_once_in_order(bed: Bed) {
    let kept = Kept::open(&bed).await;
    ask(&kept, 1).await;
    for number in 0..3 {
        wait(&kept, number, number + 1).await;
    }
    assert_eq!(frames(&kept, "kim").await.len(), 3);
    assert_eq!(frames(&kept, "lee").await, []);
    assert!(kept.newest("lee").await.is_empty());
    assert_eq!(kept.newest("kim").await, ["kim lee 2"]);
    assert_eq!(kept.conversation("lee", "kim", None, 20).await, [""; 0]);
    assert_eq!(kept.conversation("kim", "lee", None, 20).await.len(), 3);
    assert_eq!(kept.store.unread(&account("lee"), &[]).await.unwrap(), 0);
    let event_of = |receipt: &Receipt| read_event(receipt, at(0), &kept.context);
    let receipt = kept
        .store
        .read(&account("lee"), &account("kim"), None, at(5), &event_of)
        .await
        .unwrap();
    assert_eq!(receipt, None, "nobody learns that it was read");
    assert!(kept.store.own(&account("lee"), None, 10).await.unwrap().is_empty());

    let asked = rows(&kept.outbox.pending(1000).await.unwrap().pending);
    publish(&kept).await;
    let held = kept.store.held(&conversation(), 10).await.unwrap();
    assert_eq!(held.len(), 3);
    for (number, message) in held.iter().enumerate() {
        let event = kept.event(&kept.message("kim", "lee", 9, 9));
        let release = || kept.store.release(message, None, &event, at(10));
        let (one, other) = futures::join!(release(), release());
        assert!(one.unwrap() && other.unwrap(), "the second changes nothing");
        // A relay that paused beyond its lease after it had published the events of before.
        kept.outbox.published(&asked).await.unwrap();
        assert_eq!(publish(&kept).await.len(), 1, "message {number}");
    }
    assert!(kept.store.held(&conversation(), 10).await.unwrap().is_empty());
    assert_eq!(
        kept.newest("lee").await,
        ["kim lee 2"],
        "also of a process that is killed now"
    );
    kept.store.settle(&conversation()).await.unwrap();
    let texts = |frames: Vec<(i64, String)>| frames.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    assert_eq!(
        texts(frames(&kept, "lee").await),
        ["kim lee 0", "kim lee 1", "kim lee 2"]
    );
    assert_eq!(frames(&kept, "kim").await.len(), 3, "the sender has them already");
    assert_eq!(kept.newest("lee").await, ["kim lee 2"]);
    assert_eq!(kept.store.unread(&account("lee"), &[]).await.unwrap(), 3);
    assert_eq!(kept.store.own(&account("lee"), None, 10).await.unwrap().len(), 3);
}

async fn a_message_that_changed_since_it_was_read_is_not_released_as_it_was(bed: Bed) {
    let kept = Kept::open(&bed).await;
    ask(&kept, 1).await;
    let waiting = wait(&kept, 0, 1).await;
    publish(&kept).await;
    let held = async || kept.store.held(&conversation(), 10).await.unwrap().remove(0);
    let release = async |held: &Stored| {
        let event = kept.event(&waiting);
        kept.store.release(held, None, &event, at(10)).await.unwrap()
    };
    let before = held().await;
    let retract = NewChange {
        message: waiting.message.id.clone(),
        by: account("kim"),
        change: Change::Retract,
        authorized_at: at(5),
        at: at(5),
    };
    let changed = kept.store.change(&retract, &kept.event(&waiting)).await.unwrap();
    assert!(changed.is_some());
    publish(&kept).await;
    assert!(!release(&before).await, "its event would have the former text");
    assert!(publish(&kept).await.is_empty());
    assert!(release(&held().await).await);
    assert_eq!(publish(&kept).await.len(), 1);
}

async fn a_decision_is_made_once_and_its_events_are_stored_with_it(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let request = ask(&kept, 1).await;
    let decide = async |verdict: Verdict, second: i64| decide(&kept, &request, verdict, second).await;
    let waiting = kept.store.requests_to(&account("lee"), None, 10).await.unwrap();
    assert_eq!(waiting, std::slice::from_ref(&request));
    assert!(
        kept.store
            .requests_to(&account("kim"), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(decide(Verdict::Refuse, 2).await);
    assert!(!decide(Verdict::Refuse, 3).await, "it is refused already");
    assert!(!decide(Verdict::AcceptPending, 3).await, "the refusal stands");
    let found = kept.store.request(&conversation()).await.unwrap();
    assert_eq!(found.map(|found| found.state), Some(RequestState::Refused));
    assert!(decide(Verdict::Accept, 4).await, "its receiver may accept it later");
    assert!(!decide(Verdict::Accept, 5).await);
    assert!(
        !decide(Verdict::Refuse, 6).await,
        "one that was accepted may not be refused"
    );
    assert_eq!(publish(&kept).await.len(), 2);
    assert!(
        kept.store
            .requests_to(&account("lee"), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(unfinished(&kept, Unfinished::Pending).await, [""; 0]);
    let completing = kept
        .store
        .unfinished_requests(Unfinished::Completing, "", 10)
        .await
        .unwrap()
        .content;
    assert_eq!(completing.len(), 1);
    assert_eq!(
        (completing[0].state, completing[0].decided_at),
        (RequestState::Accepted, Some(at(4)))
    );
    let event = kept.event(&kept.message("kim", "lee", 4, 4));
    kept.store.repeat_events(&completing[0], &[event]).await.unwrap();
    assert_eq!(publish(&kept).await.len(), 0, "they were stored");
    let refused = Request {
        decided_at: Some(at(2)),
        ..completing[0].clone()
    };
    kept.store.completed(&refused).await.unwrap();
    assert_eq!(unfinished(&kept, Unfinished::Completing).await, ["lee"], "decided anew");
    complete(&kept).await;
    assert_eq!(unfinished(&kept, Unfinished::Completing).await, [""; 0]);
    kept.store
        .set_introduction(&conversation(), "sun", Some("hello"))
        .await
        .unwrap();
    let found = kept.store.request_with_id(&request.id).await.unwrap().unwrap();
    assert_eq!(
        (found.asker.nickname.as_str(), found.introduction.as_deref()),
        ("sun", Some("hello"))
    );
}

async fn unfinished_requests_are_read_page_by_page_past_a_corrupt_one(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let mut requests = Vec::new();
    for number in 0..7 {
        requests.push(ask_person(&kept, &format!("p{number}"), 1).await);
    }
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let found = client
            .default_database()
            .unwrap()
            .collection::<Document>("message_request");
        let corrupt = doc! { "$set": { "asker": "nobody" } };
        let changed = found
            .update_one(doc! { "receiverNickname": "p3" }, corrupt)
            .await
            .unwrap();
        assert_eq!(changed.matched_count, 1);
    } else {
        let corrupt = "UPDATE message_request SET asker = 'nobody' WHERE receiver_nickname = 'p3'";
        assert_eq!(bed.sql("dm", corrupt).await, 1);
    }
    let readable = ["p0", "p1", "p2", "p4", "p5", "p6"];
    assert_eq!(unfinished(&kept, Unfinished::Pending).await, readable);
    assert_eq!(unfinished(&kept, Unfinished::Completing).await, [""; 0]);
    for request in &requests {
        assert!(decide(&kept, request, Verdict::AcceptPending, 2).await);
    }
    assert_eq!(unfinished(&kept, Unfinished::Pending).await, [""; 0]);
    assert_eq!(unfinished(&kept, Unfinished::Completing).await, readable);

    // A replica of a later release has decided it otherwise.
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let later = doc! { "$set": { "state": "expired" } };
        let changed = collection(&client, "message_request")
            .update_one(doc! { "receiverNickname": "p5" }, later)
            .await
            .unwrap();
        assert_eq!(changed.modified_count, 1);
    } else {
        let later = "UPDATE message_request SET state = 'expired' WHERE receiver_nickname = 'p5'";
        assert_eq!(bed.sql("dm", later).await, 1);
    }
    let known = ["p0", "p1", "p2", "p4", "p6"];
    assert_eq!(unfinished(&kept, Unfinished::Completing).await, known);
    let found = kept.store.request_with_id(&requests[5].id).await.unwrap();
    assert_eq!(found.map(|request| request.state), Some(RequestState::Unknown));
}

/// The decision is stored before the message: its sender was admitted before that.
async fn a_message_waits_only_in_a_pending_request(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let held = async || {
        let mut message = kept.message("kim", "lee", 0, 1);
        message.is_held = true;
        kept.keep_as(&mut message).await
    };
    let refused = held().await;
    assert!(matches!(refused, Err(WriteError::RequestDecided)), "none: {refused:?}");
    let request = ask(&kept, 1).await;
    for verdict in [Verdict::Refuse, Verdict::Accept] {
        assert!(decide(&kept, &request, verdict, 2).await);
        let refused = held().await;
        assert!(
            matches!(refused, Err(WriteError::RequestDecided)),
            "{verdict:?}: {refused:?}"
        );
    }
    assert!(kept.store.held(&conversation(), 10).await.unwrap().is_empty());
    assert_eq!(kept.conversation("kim", "lee", None, 10).await, [""; 0]);
    // Admitted again, it is delivered.
    kept.say("kim", "lee", 1, 3).await;
    assert_eq!(kept.conversation("lee", "kim", None, 10).await, ["kim lee 1"]);
}

/// The message is stored before the decision.
async fn messages_that_wait_come_before_a_later_message(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let request = ask(&kept, 1).await;
    wait(&kept, 0, 1).await;
    assert!(decide(&kept, &request, Verdict::Accept, 2).await);
    publish(&kept).await;
    let mut answer = kept.message("lee", "kim", 1, 3);
    let refused = kept.keep_as(&mut answer).await;
    assert!(matches!(refused, Err(WriteError::Unreleased)), "{refused:?}");

    // A message that was left behind when the completing ended.
    complete(&kept).await;
    assert_eq!(unfinished(&kept, Unfinished::Completing).await, [""; 0]);
    kept.store.sweep(at(0), at(0)).await.unwrap();
    assert_eq!(unfinished(&kept, Unfinished::Completing).await, ["lee"]);

    let waiting = kept.store.held(&conversation(), 10).await.unwrap().remove(0);
    let event = kept.event(&kept.message("kim", "lee", 9, 9));
    assert!(kept.store.release(&waiting, None, &event, at(10)).await.unwrap());
    kept.keep_as(&mut answer).await.unwrap();
    for name in ["kim", "lee"] {
        let texts: Vec<String> = frames(&kept, name).await.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["kim lee 0", "lee kim 1"], "{name}");
    }
    // Nothing is left that would complete it again.
    complete(&kept).await;
    kept.store.sweep(at(0), at(0)).await.unwrap();
    assert_eq!(unfinished(&kept, Unfinished::Completing).await, [""; 0]);
}

async fn a_waiting_message_that_cannot_be_decoded_blocks_no_other(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let request = ask(&kept, 1).await;
    let mut waiting = Vec::new();
    for number in 0..3 {
        waiting.push(wait(&kept, number, number + 1).await);
    }
    // The first and the last.
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let corrupt = doc! { "$set": { "text": 7 } };
        let both = doc! { "text": { "$in": ["kim lee 0", "kim lee 2"] } };
        let changed = collection(&client, "message").update_many(both, corrupt).await;
        assert_eq!(changed.unwrap().matched_count, 2);
    } else {
        let corrupt = "UPDATE message SET sender = 'nobody' WHERE text IN ('kim lee 0', 'kim lee 2')";
        assert_eq!(bed.sql("dm", corrupt).await, 2);
    }
    publish(&kept).await;
    assert!(decide(&kept, &request, Verdict::Accept, 5).await);
    publish(&kept).await;
    let mut answer = kept.message("lee", "kim", 5, 6);
    let refused = kept.keep_as(&mut answer).await;
    assert!(matches!(refused, Err(WriteError::Unreleased)), "{refused:?}");
    let held = kept.store.held(&conversation(), 1).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].message.id, waiting[1].message.id);
    let event = kept.event(&waiting[1]);
    assert!(kept.store.release(&held[0], None, &event, at(10)).await.unwrap());
    assert!(kept.store.held(&conversation(), 10).await.unwrap().is_empty());
    kept.keep_as(&mut answer).await.unwrap();
    let texts: Vec<String> = frames(&kept, "lee").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["kim lee 1", "lee kim 5"]);
}

async fn a_resignation_takes_requests_of_both_sides(bed: Bed) {
    for name in ["kim", "lee"] {
        let kept = Kept::open(&bed).await;
        ask(&kept, 1).await;
        wait(&kept, 0, 2).await;
        kept.erase(name, 20, EventId::new(&kept.context)).await;
        assert_eq!(kept.store.request(&conversation()).await.unwrap(), None, "{name}");
        assert!(kept.store.held(&conversation(), 10).await.unwrap().is_empty(), "{name}");
        let any = Range::default();
        let left = kept
            .store
            .newest_within(&conversation(), &account("kim"), &any, 10)
            .await
            .unwrap();
        assert_eq!(left, [], "{name}");
        // Both sign up again.
        for (name, second) in [("kim", 21), ("lee", 22)] {
            kept.directory
                .set_nickname(&account(name), Some(name), at(second))
                .await
                .unwrap();
        }
        kept.store.sweep(at(21), at(0)).await.unwrap();
    }
}

async fn room(kept: &Kept, names: &[&str]) -> Room {
    let members = names.iter().map(|name| Member {
        account: account(name),
        joined_at: at(1),
        joined_after: 0,
        read: 0,
    });
    let room = Room {
        id: kept.ids.next().to_string(),
        name: RoomName::new("우리반").unwrap(),
        creator: account(names[0]),
        created_at: at(1),
        members: members.collect(),
        last_number: 0,
    };
    let outcome = kept.store.create_room(&room, at(1)).await.unwrap();
    assert_eq!(outcome, RoomOutcome::Created);
    room
}

/// Has kim add a person to a room, with a token of that second.
async fn join(kept: &Kept, room: &str, name: &str, second: i64) -> Result<JoinOutcome, WriteError> {
    join_by(kept, room, name, ("kim", second), second).await
}

async fn join_by(
    kept: &Kept,
    room: &str,
    name: &str,
    (by, authorized): (&str, i64),
    second: i64,
) -> Result<JoinOutcome, WriteError> {
    let joining = Joining {
        room,
        account: &account(name),
        by: &account(by),
        authorized_at: at(authorized),
        at: at(second),
    };
    kept.store.join_room(&joining).await
}

fn post(kept: &Kept, room: &Room, from: &str, text: &str, authorized_at: Timestamp) -> NewRoomMessage {
    NewRoomMessage {
        message: RoomMessage {
            id: kept.ids.next(),
            room: room.id.clone(),
            sender: party(from),
            date: MessageDate::at(at(1)),
            text: MessageText::stored(text.to_owned()),
            number: 0,
            stored_at: at(2),
            reply_to: None,
            state: MessageState::default(),
        },
        client_key: ClientKey::of(&account(from), text),
        authorized_at,
    }
}

/// Makes the same event, whatever the members and the number are.
fn always(event: &Outgoing) -> impl Fn(&[Account], i64) -> Outgoing + Send + Sync {
    move |_: &[Account], _: i64| event.clone()
}

async fn messages_of_a_room_are_numbered_without_a_gap_for_all_senders(bed: Bed) {
    let replicas = [Kept::open(&bed).await, Kept::open(&bed).await];
    let kept = &replicas[0];
    let room = room(kept, &["kim", "lee", "park"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let messages: Vec<_> = (0..30)
        .map(|number| {
            let from = ["kim", "lee", "park"][number % 3];
            (number % 2, post(kept, &room, from, &format!("text {number}"), at(1)))
        })
        .collect();
    let event_of = always(&event);
    let posted = join_all(
        messages
            .iter()
            .map(|(at, message)| replicas[*at].store.post(message, &event_of)),
    )
    .await;
    assert!(
        posted.iter().all(|posted| matches!(posted, Ok(Posted::Stored))),
        "{posted:?}"
    );
    let again = post(kept, &room, "kim", "text 0", at(1));
    assert_eq!(
        kept.store.post(&again, &always(&event)).await.unwrap(),
        Posted::Repeated
    );
    let known = kept
        .store
        .room_message_with_key(&again.client_key, at(3))
        .await
        .unwrap();
    assert_eq!(known.map(|known| known.id), Some(messages[0].1.message.id.clone()));
    let stranger = post(kept, &room, "choi", "hello", at(1));
    assert_eq!(
        kept.store.post(&stranger, &always(&event)).await.unwrap(),
        Posted::NoMember
    );

    let page = kept.store.room_page(&room.id, 0, None, 100).await.unwrap();
    let numbers: Vec<_> = page.iter().map(|message| message.number).collect();
    assert_eq!(numbers, (1..=30).rev().collect::<Vec<_>>());
    let page = kept.store.room_page(&room.id, 10, Some(15), 3).await.unwrap();
    let numbers: Vec<_> = page.iter().map(|message| message.number).collect();
    assert_eq!(numbers, [14, 13, 12]);
    for name in ["kim", "lee", "park"] {
        let found = kept.store.frames_after(&account(name), 0, 100).await.unwrap();
        let numbers: Vec<_> = found
            .content
            .iter()
            .map(|framed| match &framed.content {
                FrameContent::RoomMessage(message) => (framed.seq, message.number),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            numbers,
            (1..=30).map(|number| (number, number)).collect::<Vec<_>>(),
            "{name}"
        );
    }
    for (seq, last) in [(0, None), (27, Some(27)), (30, Some(30))] {
        let seen = kept.store.last_seen_in_room(&account("lee"), &room.id, seq).await;
        assert_eq!(seen.unwrap(), last, "{seq}");
    }
    assert_eq!(join(kept, &room.id, "choi", 3).await.unwrap(), JoinOutcome::Joined);
    assert_eq!(join(kept, &room.id, "choi", 3).await.unwrap(), JoinOutcome::Already);
    assert_eq!(join(kept, "nowhere", "choi", 3).await.unwrap(), JoinOutcome::NoRoom);
    let found = kept.store.room(&room.id).await.unwrap().unwrap();
    let choi = found.member(&account("choi")).unwrap();
    assert_eq!((choi.joined_after, found.may_be_unread(choi)), (30, false));
    for number in 0..96 {
        let joined = join(kept, &room.id, &format!("p{number}"), 4).await.unwrap();
        assert_eq!(joined, JoinOutcome::Joined);
    }
    assert_eq!(join(kept, &room.id, "late", 4).await.unwrap(), JoinOutcome::Full);
}

/// On MongoDB each member's stream is numbered when it is read.
async fn a_message_of_a_room_is_stored_by_as_many_statements_for_a_hundred_as_for_one(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let names: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut costs = Vec::new();
    for members in [&names[..1], &names[..]] {
        let room = room(&kept, members).await;
        let message = post(&kept, &room, "p0", &room.id, at(1));
        let event_of = always(&event);
        let (cost, posted) = cost_of("post", &bed, kept.store.post(&message, &event_of)).await;
        assert_eq!(posted.unwrap(), Posted::Stored);
        let change = change_in_room(&kept, &message.message.id, "p0", Change::Retract);
        let (changed, retracted) = cost_of("retract", &bed, change).await;
        assert!(retracted.unwrap().is_some());
        costs.push((cost, changed));
        for (name, expected) in [(members[0], 2), (members[members.len() - 1], 2)] {
            let page = kept.store.frames_after(&account(name), 0, 100).await.unwrap();
            let of_room = page.content.iter().filter(|framed| match &framed.content {
                FrameContent::RoomMessage(found) | FrameContent::RoomChange(found, _) => found.room == room.id,
                FrameContent::Message(_) | FrameContent::Change(..) => false,
            });
            assert_eq!(of_room.count(), expected, "{name}");
        }
    }
    if bed.set == EngineSet::Embedded {
        assert_eq!(costs[0], costs[1]);
        assert!(costs[0].0.writes > 0, "{costs:?}");
    }
}

async fn change_in_room(
    kept: &Kept,
    message: &MessageId,
    by: &str,
    change: Change,
) -> Result<Option<Changed>, ChangeError> {
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let change = NewChange {
        message: message.clone(),
        by: account(by),
        change,
        authorized_at: at(5),
        at: at(5),
    };
    kept.store.change_in_room(&change, &event).await
}

fn edit(text: &str) -> Change {
    Change::Edit(MessageText::new(text.to_owned(), 100).unwrap())
}

/// The frames of an account: of each the text and the revision.
async fn room_frames(kept: &Kept, name: &str) -> Vec<(String, i64)> {
    let found = kept.store.frames_after(&account(name), 0, 100).await.unwrap();
    let numbers: Vec<i64> = found.content.iter().map(|framed| framed.seq).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    let frames = found.content.into_iter().map(|framed| match framed.content {
        FrameContent::RoomMessage(message) => (message.text.as_str().to_owned(), 0),
        FrameContent::RoomChange(message, change) => (message.text.as_str().to_owned(), change.revision),
        other => panic!("{other:?}"),
    });
    frames.collect()
}

async fn changes_of_a_message_in_a_room_reach_those_who_see_it(bed: Bed) {
    let replicas = [Kept::open(&bed).await, Kept::open(&bed).await];
    let kept = &replicas[0];
    let room = room(kept, &["kim", "lee"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let message = post(kept, &room, "kim", "first", at(1));
    assert_eq!(
        kept.store.post(&message, &always(&event)).await.unwrap(),
        Posted::Stored
    );
    let id = message.message.id.clone();
    join(kept, &room.id, "park", 3).await.unwrap();

    let reaction = Change::React(Reaction::new("🩷".to_owned()));
    for (by, change) in [("lee", edit("theirs")), ("lee", Change::Retract), ("park", reaction)] {
        let refused = change_in_room(kept, &id, by, change).await;
        assert!(matches!(refused, Err(ChangeError::Unknown)), "{by}: {refused:?}");
    }
    let nowhere = MessageId::stored("nowhere".to_owned());
    let refused = change_in_room(kept, &nowhere, "kim", Change::Retract).await;
    assert!(matches!(refused, Err(ChangeError::Unknown)), "{refused:?}");
    assert_eq!(change_in_room(kept, &id, "kim", edit("first")).await.unwrap(), None);

    let edits = (0..4).map(|number| {
        let (kept, id) = (&replicas[number % 2], &id);
        async move { change_in_room(kept, id, "kim", edit(&format!("edit {number}"))).await }
    });
    let mut revisions: Vec<i64> = join_all(edits)
        .await
        .into_iter()
        .map(|edited| edited.unwrap().expect("a change").revision)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [1, 2, 3, 4]);
    let present = kept.store.room_message(&id).await.unwrap().unwrap();
    assert_eq!(
        (
            present.state.revision,
            present.state.edited_at,
            present.state.retracted_at
        ),
        (4, Some(at(5)), None)
    );
    let former = kept.store.changes(&id).await.unwrap();
    assert_eq!(former[0].content.as_deref(), Some("first"));
    let text = present.text.as_str().to_owned();
    let expected: Vec<_> = (0..=4).map(|revision| (text.clone(), revision)).collect();
    // Two readers number the frames at once.
    let (one, other) = futures::join!(room_frames(kept, "lee"), room_frames(&replicas[1], "lee"));
    assert_eq!((&one, &other), (&expected, &expected));
    assert_eq!(room_frames(kept, "kim").await, expected);
    assert_eq!(
        room_frames(kept, "park").await,
        [],
        "who joined later does not see the message"
    );

    let retracted = change_in_room(kept, &id, "kim", Change::Retract).await.unwrap();
    assert_eq!(retracted.map(|change| change.revision), Some(5));
    assert_eq!(change_in_room(kept, &id, "kim", Change::Retract).await.unwrap(), None);
    let refused = change_in_room(kept, &id, "kim", edit("again")).await;
    assert!(matches!(refused, Err(ChangeError::Retracted)), "{refused:?}");
    let page = kept.store.room_page(&room.id, 0, None, 10).await.unwrap();
    assert_eq!((page[0].text.as_str(), page[0].state.retracted_at), ("", Some(at(5))));
    let former = kept.store.changes(&id).await.unwrap();
    assert!(former.iter().all(|change| change.content.is_none()), "{former:?}");
    let expected: Vec<_> = (0..=5).map(|revision| (String::new(), revision)).collect();
    assert_eq!(room_frames(kept, "lee").await, expected);

    let message = post(kept, &room, "lee", "often", at(1));
    assert_eq!(
        kept.store.post(&message, &always(&event)).await.unwrap(),
        Posted::Stored
    );
    for number in 0..MOST_CHANGES {
        let edited = change_in_room(kept, &message.message.id, "lee", edit(&number.to_string())).await;
        assert!(edited.unwrap().is_some());
    }
    let refused = change_in_room(kept, &message.message.id, "lee", edit("more")).await;
    assert!(matches!(refused, Err(ChangeError::TooOften)), "{refused:?}");
    let retracted = change_in_room(kept, &message.message.id, "lee", Change::Retract).await;
    assert!(retracted.unwrap().is_some(), "it can always be taken back");
}

fn react(reaction: &str) -> Change {
    Change::React(Reaction::new(reaction.to_owned()))
}

async fn members_react_to_a_message_of_a_room_once_each(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee", "park"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let message = post(&kept, &room, "kim", "hello", at(1));
    assert_eq!(
        kept.store.post(&message, &always(&event)).await.unwrap(),
        Posted::Stored
    );
    let id = message.message.id;
    join(&kept, &room.id, "choi", 3).await.unwrap();
    for (by, change, is_new) in [
        ("lee", react("🩷"), true),
        ("park", react("👍"), true),
        ("lee", react("🎉"), true),
        ("lee", react("🎉"), false),
        ("kim", react("🩷"), true),
        ("park", Change::React(None), true),
        ("park", Change::React(None), false),
    ] {
        let made = change_in_room(&kept, &id, by, change.clone()).await.unwrap();
        assert_eq!(made.is_some(), is_new, "{by} {change:?}");
    }
    let refused = change_in_room(&kept, &id, "choi", react("🩷")).await;
    assert!(
        matches!(refused, Err(ChangeError::Unknown)),
        "who joined later: {refused:?}"
    );
    let reactions = async || {
        let stored = kept.store.room_message(&id).await.unwrap().unwrap();
        let reactions = stored.state.reactions.into_iter();
        reactions.collect::<Vec<(Account, String)>>()
    };
    let of = |name: &str, reaction: &str| (account(name), reaction.to_owned());
    assert_eq!(reactions().await, [of("kim", "🩷"), of("lee", "🎉")]);
    let expected: Vec<_> = (0..=5).map(|revision| ("hello".to_owned(), revision)).collect();
    for name in ["kim", "lee", "park"] {
        assert_eq!(room_frames(&kept, name).await, expected, "{name}");
    }

    // The changes of one person do not use up those of another.
    let mut refused = None;
    for number in 0..=2 * MOST_CHANGES {
        let reaction = if number % 2 == 0 { "👍" } else { "🎉" };
        if let Err(error) = change_in_room(&kept, &id, "lee", react(reaction)).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(ChangeError::TooOften)), "{refused:?}");
    let edited = change_in_room(&kept, &id, "kim", edit("edited")).await.unwrap();
    assert!(edited.is_some());

    kept.erase("lee", 20, EventId::new(&kept.context)).await;
    assert_eq!(reactions().await, [of("kim", "🩷")]);
    let left = kept.store.changes(&id).await.unwrap();
    assert!(left.iter().all(|change| change.by != account("lee")), "{left:?}");
    let frames = kept.store.frames_after(&account("park"), 0, 100).await.unwrap();
    assert_eq!(frames.content.len(), 1 + left.len());

    // With a token of before the resignation, while this service has not heard of it.
    let late = NewChange {
        message: id.clone(),
        by: account("park"),
        change: react("👍"),
        authorized_at: at(30),
        at: at(45),
    };
    assert!(kept.store.change_in_room(&late, &event).await.unwrap().is_some());
    kept.erase("park", 40, EventId::new(&kept.context)).await;
    assert_eq!(reactions().await, [of("kim", "🩷")]);
}

async fn a_report_of_a_member_who_has_left_counts_for_what_it_saw(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let say = async |text: &str| {
        let message = post(&kept, &room, "kim", text, at(1));
        let posted = kept.store.post(&message, &always(&event)).await.unwrap();
        assert_eq!(posted, Posted::Stored);
        message.message.id
    };
    let leave = async |name: &str, second: i64| {
        let event_of = |_: i64| event.clone();
        let left = kept
            .store
            .leave_room(&room.id, &account(name), at(second), &event_of)
            .await;
        assert!(left.unwrap());
    };
    let before = say("before").await;
    assert_eq!(join(&kept, &room.id, "park", 3).await.unwrap(), JoinOutcome::Joined);
    let seen = say("seen").await;
    leave("park", 10).await;
    leave("lee", 10).await;
    let after = say("after").await;
    let report = async |number: i64, message: &MessageId, reporter: &str| {
        let report = NewReport {
            report: number,
            message: message.clone(),
            author: account("kim"),
            reporter: account(reporter),
            at: at(12),
        };
        kept.store.keep_reported(&report).await.unwrap()
    };
    for (number, (message, reporter, is_kept)) in (1..).zip([
        (&seen, "park", true),
        (&seen, "lee", true),
        (&before, "lee", true),
        (&before, "park", false),
        (&after, "park", false),
        (&seen, "choi", false),
    ]) {
        assert_eq!(report(number, message, reporter).await, is_kept, "{number}");
    }
    let moderation = Moderation {
        message: seen.clone(),
        author: account("kim"),
        reporter: Some(account("park")),
        hidden: true,
        at: at(13),
    };
    let outcome = kept.store.moderate(&moderation).await.unwrap();
    assert_eq!(outcome, ModerationOutcome::Applied);
    // It is hidden from those who are in the room.
    let Some(Reportable::InRoom { members, .. }) = kept.store.reportable(&seen).await.unwrap() else {
        panic!("a message of a room");
    };
    assert_eq!(members, [account("kim")]);

    // The last time counts, for some days and until a resignation is known, also if the member has left after it.
    assert_eq!(join(&kept, &room.id, "park", 14).await.unwrap(), JoinOutcome::Joined);
    let last = say("last").await;
    leave("park", 25).await;
    assert!(!report(7, &after, "park").await);
    let former = async |message: &MessageId| match kept.store.reportable(message).await.unwrap() {
        Some(Reportable::InRoom { former, .. }) => former,
        other => panic!("{other:?}"),
    };
    assert_eq!(former(&last).await, [account("park").fingerprint()]);
    kept.erase("park", 20, EventId::new(&kept.context)).await;
    assert!(former(&last).await.is_empty());
    assert_eq!(former(&before).await, [account("lee").fingerprint()]);
    kept.store.sweep(at(10), at(0)).await.unwrap();
    assert!(report(8, &before, "lee").await);
    kept.store.sweep(at(11), at(0)).await.unwrap();
    assert!(former(&before).await.is_empty());
    assert!(!report(9, &before, "lee").await);
}

async fn moderators_see_hide_and_restore_a_message_of_a_room(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee", "park"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let message = post(&kept, &room, "kim", "unlawful", at(1));
    assert_eq!(
        kept.store.post(&message, &always(&event)).await.unwrap(),
        Posted::Stored
    );
    let id = message.message.id;
    join(&kept, &room.id, "choi", 3).await.unwrap();
    assert!(change_in_room(&kept, &id, "lee", react("🩷")).await.unwrap().is_some());
    for (who, whom) in [("park", "kim"), ("kim", "lee")] {
        let (who, whom) = (account(who), account(whom));
        let blocked = kept.directory.set_relation(Relation::Block, &who, &whom, at(4));
        blocked.await.unwrap();
    }

    let report = async |number: i64, author: &str, reporter: &str| {
        let report = NewReport {
            report: number,
            message: id.clone(),
            author: account(author),
            reporter: account(reporter),
            at: at(30),
        };
        kept.store.keep_reported(&report).await.unwrap()
    };
    let moderate = async |author: &str, reporter: Option<&str>, hidden: bool, second: i64| {
        let moderation = Moderation {
            message: id.clone(),
            author: account(author),
            reporter: reporter.map(account),
            hidden,
            at: at(second),
        };
        kept.store.moderate(&moderation).await.unwrap()
    };
    // Text, reactions and since when it has no text.
    let shown = async || {
        let mut page = kept.store.room_page(&room.id, 0, None, 10).await.unwrap();
        let shown = page.remove(0);
        let text = shown.text.as_str().to_owned();
        (text, shown.state.reactions.len(), shown.state.retracted_at)
    };
    let visible = ("unlawful".to_owned(), 1, None);
    for (number, (author, reporter)) in [
        ("lee", "kim"),
        ("lee", "park"),
        ("kim", "kim"),
        ("kim", "choi"),
        ("kim", "nobody"),
    ]
    .into_iter()
    .enumerate()
    {
        let number = i64::try_from(number).unwrap();
        assert!(!report(number, author, reporter).await, "{author} {reporter}");
        assert_eq!(kept.reported(number).await, None, "{author} {reporter}");
        let outcome = moderate(author, Some(reporter), true, 20).await;
        assert_eq!(outcome, ModerationOutcome::NotFound, "{author} {reporter}");
    }
    assert_eq!(shown().await, visible);

    // A block between author and reporter, by whichever of the two, is no reason to refuse.
    for (number, reporter) in [(9, "park"), (10, "lee"), (10, "lee")] {
        assert!(report(number, "kim", reporter).await, "{reporter}");
        let copy = kept.reported(number).await.expect("a copy");
        assert!(copy.ends_with(" unlawful"), "{copy}");
    }
    let hidden = (String::new(), 0, Some(at(30)));
    for (reporter, second) in [("park", 30), ("lee", 30), ("lee", 25)] {
        let outcome = moderate("kim", Some(reporter), true, second).await;
        assert_eq!(outcome, ModerationOutcome::Applied, "{reporter} {second}");
        assert_eq!(shown().await, hidden);
    }
    let frames: Vec<_> = (0..=1).map(|revision| (String::new(), revision)).collect();
    assert_eq!(room_frames(&kept, "lee").await, frames);
    let refused = change_in_room(&kept, &id, "kim", edit("other")).await;
    assert!(matches!(refused, Err(ChangeError::Retracted)), "{refused:?}");
    assert!(!report(11, "kim", "lee").await, "it has no text");
    assert!(kept.reported(10).await.is_some());

    assert_eq!(moderate("kim", None, false, 20).await, ModerationOutcome::Superseded);
    assert_eq!(shown().await, hidden);
    assert_eq!(moderate("kim", None, false, 40).await, ModerationOutcome::Applied);
    assert_eq!(shown().await, visible);
    let again = moderate("kim", Some("lee"), true, 30).await;
    assert_eq!(again, ModerationOutcome::Superseded);
    assert_eq!(shown().await, visible);

    // What the sender retracts while it is hidden is not restored.
    assert_eq!(moderate("kim", None, true, 50).await, ModerationOutcome::Applied);
    assert!(
        change_in_room(&kept, &id, "kim", Change::Retract)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(moderate("kim", None, false, 60).await, ModerationOutcome::Applied);
    let (text, _, retracted_at) = shown().await;
    assert_eq!((text.as_str(), retracted_at), ("", Some(at(5))));
    kept.erase("kim", 70, EventId::new(&kept.context)).await;
    assert_eq!(kept.reported(10).await, None);
    assert_eq!(moderate("kim", None, true, 80).await, ModerationOutcome::NotFound);
}

/// Makes the event of a message in a room as the socket does: under the message's id.
fn posted_event(kept: &Kept, message: &RoomMessage, members: &[Account], number: i64) -> Outgoing {
    let event = RoomMessageSent {
        room: message.room.clone(),
        message: message.id.to_string(),
        members: members.to_vec(),
        change: None,
        push: Some(RoomPush {
            sender: message.sender.account.clone(),
            nickname: message.sender.nickname.clone(),
            room_name: "우리반".to_owned(),
            number,
            date: message.date.into(),
            text: message.text.as_str().to_owned(),
            receivers: members.to_vec(),
        }),
    };
    let mut envelope = Envelope::new(event, &kept.context);
    envelope.meta.id = message.id.event().unwrap();
    envelope.to_outgoing()
}

async fn texts_of_a_room_are_not_published_after_their_message_is_retracted_or_erased(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee"]).await;
    let mut ids = Vec::new();
    for (from, text) in [("kim", "kept"), ("kim", "retracted"), ("lee", "erased")] {
        let message = post(&kept, &room, from, text, at(1));
        let event_of = |members: &[Account], number: i64| {
            assert_eq!(members, [account("kim"), account("lee")]);
            posted_event(&kept, &message.message, members, number)
        };
        assert_eq!(kept.store.post(&message, &event_of).await.unwrap(), Posted::Stored);
        ids.push(message.message.id);
    }
    let retracted = change_in_room(&kept, &ids[1], "kim", Change::Retract).await.unwrap();
    assert!(retracted.is_some());
    kept.erase("lee", 20, EventId::new(&kept.context)).await;
    let pushes: Vec<(String, i64)> = publish(&kept)
        .await
        .iter()
        .filter(|record| record.topic == Topic::RoomMessage.default_name())
        .filter_map(|record| {
            let event: RoomMessageSent = serde_json::from_slice(record.value.as_deref()?).unwrap();
            let push = event.push?;
            Some((push.text, push.number))
        })
        .collect();
    assert_eq!(pushes, [("kept".to_owned(), 1)]);
}

async fn reading_and_leaving_a_room_are_published_once(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    for text in ["one", "two"] {
        let message = post(&kept, &room, "kim", text, at(1));
        assert_eq!(
            kept.store.post(&message, &always(&event)).await.unwrap(),
            Posted::Stored
        );
    }
    publish(&kept).await;
    let lee = account("lee");
    let event_of = |number: i64| room_read_event(&lee, at(0), &room.id, number, &kept.context);
    for (number, is_further) in [(1, true), (1, false), (2, true), (1, false)] {
        let event = event_of(number);
        let raised = kept.store.read_room(&room.id, &lee, number, at(3), &event).await;
        assert_eq!(raised.unwrap(), is_further, "{number}");
    }
    let event = event_of(2);
    let stranger = kept.store.read_room(&room.id, &account("choi"), 2, at(3), &event).await;
    assert!(!stranger.unwrap());
    let mut read = read_up_to(&publish(&kept).await);
    read.sort_unstable();
    assert_eq!(read, [1, 2]);

    let message = post(&kept, &room, "kim", "three", at(1));
    assert_eq!(
        kept.store.post(&message, &always(&event)).await.unwrap(),
        Posted::Stored
    );
    publish(&kept).await;
    for has_left in [true, false] {
        let left = kept.store.leave_room(&room.id, &lee, at(4), &event_of).await;
        assert_eq!(left.unwrap(), has_left);
    }
    assert_eq!(read_up_to(&publish(&kept).await), [3], "the newest message");
}

/// Returns the numbers of the receipts of rooms among these records.
fn read_up_to(records: &[Outgoing]) -> Vec<i64> {
    let receipts = records
        .iter()
        .filter(|record| record.topic == Topic::MessageReceipt.default_name());
    let number = |record: &Outgoing| {
        let receipt: MessageReceipt = serde_json::from_slice(record.value.as_deref()?).unwrap();
        match receipt.progress {
            ReceiptProgress::ReadRoom { number, .. } => Some(number),
            ReceiptProgress::Shown { .. } | ReceiptProgress::Read { .. } => None,
        }
    };
    receipts.filter_map(number).collect()
}

async fn changes_go_with_their_message_in_a_room(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let (stays, ends) = (room(&kept, &["kim", "lee"]).await, room(&kept, &["lee"]).await);
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let mut ids = Vec::new();
    for (room, from) in [(&stays, "kim"), (&ends, "lee")] {
        let message = post(&kept, room, from, "text", at(1));
        assert_eq!(
            kept.store.post(&message, &always(&event)).await.unwrap(),
            Posted::Stored
        );
        let id = message.message.id;
        assert!(
            change_in_room(&kept, &id, from, edit("edited"))
                .await
                .unwrap()
                .is_some()
        );
        assert_eq!(kept.store.changes(&id).await.unwrap().len(), 1);
        ids.push(id);
    }
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    assert!(
        kept.store
            .leave_room(&ends.id, &account("lee"), at(3), &|_: i64| event.clone())
            .await
            .unwrap()
    );
    for id in &ids {
        assert_eq!(kept.store.changes(id).await.unwrap(), [], "{id}");
    }
    let left = kept.store.frames_after(&account("lee"), 0, 10).await.unwrap();
    assert!(left.content.is_empty(), "{left:?}");
}

async fn a_message_of_a_room_that_cannot_be_decoded_stops_no_stream(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    for text in ["one", "corrupt", "two"] {
        let message = post(&kept, &room, "kim", text, at(1));
        assert_eq!(
            kept.store.post(&message, &always(&event)).await.unwrap(),
            Posted::Stored
        );
    }
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let corrupt = doc! { "$set": { "senderAccount": "nobody" } };
        let changed = collection(&client, "room_message")
            .update_one(doc! { "text": "corrupt" }, corrupt)
            .await;
        assert_eq!(changed.unwrap().modified_count, 1);
    } else {
        let corrupt = "UPDATE room_message SET sender = 'nobody' WHERE text = 'corrupt'";
        assert_eq!(bed.sql("dm", corrupt).await, 1);
    }
    let found = kept.store.frames_after(&account("lee"), 0, 10).await.unwrap();
    let seen: Vec<i64> = found.content.iter().map(|framed| framed.seq).collect();
    assert_eq!((seen.as_slice(), found.until), ([1, 3].as_slice(), Some(3)));
    // It is there: its frame is not taken for one of a message that is gone.
    kept.erase("lee", 0, EventId::new(&kept.context)).await;
    assert_eq!(kept.store.kept(&account("lee")).await.unwrap(), Some((1, 3)));
}

async fn numbers_of_a_room_are_not_given_again_after_a_resignation(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    for from in ["kim", "lee"] {
        let message = post(&kept, &room, from, from, at(1));
        assert_eq!(
            kept.store.post(&message, &always(&event)).await.unwrap(),
            Posted::Stored
        );
    }
    join(&kept, &room.id, "park", 3).await.unwrap();
    if bed.set == EngineSet::Real {
        // The process that stored the last message was killed before it wrote its number to the room.
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let earlier = doc! { "$set": { "lastNumber": 1_i64 } };
        let changed = collection(&client, "room")
            .update_one(doc! { "_id": &room.id }, earlier)
            .await;
        assert_eq!(changed.unwrap().modified_count, 1);
    }
    kept.erase("lee", 20, EventId::new(&kept.context)).await;
    join(&kept, &room.id, "choi", 21).await.unwrap();
    let message = post(&kept, &room, "kim", "after", at(1));
    assert_eq!(
        kept.store.post(&message, &always(&event)).await.unwrap(),
        Posted::Stored
    );
    let found = kept.store.room(&room.id).await.unwrap().unwrap();
    assert_eq!(found.last_number, 3);
    for name in ["park", "choi"] {
        let member = found.member(&account(name)).unwrap();
        let rooms = std::slice::from_ref(&found);
        let unread = kept.store.unread_in_rooms(&member.account, rooms, &[]).await.unwrap();
        assert_eq!((member.joined_after, unread[&room.id]), (2, 1), "{name}");
        assert_eq!(room_frames(&kept, name).await, [("after".to_owned(), 0)], "{name}");
    }
}

async fn unread_messages_of_a_room_are_those_that_a_member_can_open(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee", "park"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let mut ids = Vec::new();
    for (number, from) in ["kim", "kim", "kim", "kim", "park", "park", "park"].iter().enumerate() {
        let message = post(&kept, &room, from, &number.to_string(), at(1));
        let posted = kept.store.post(&message, &always(&event)).await.unwrap();
        assert_eq!(posted, Posted::Stored);
        ids.push(message.message.id);
    }
    let unread = async |name: &str, hidden: Option<&str>| {
        let hidden: Vec<Account> = hidden.into_iter().map(account).collect();
        let found = kept.store.room(&room.id).await.unwrap().unwrap();
        let member = found.member(&account(name)).unwrap();
        assert_eq!(found.may_be_unread(member), name != "park");
        let rooms = std::slice::from_ref(&found);
        let unread = kept.store.unread_in_rooms(&account(name), rooms, &hidden).await;
        unread.unwrap().get(&room.id).copied().unwrap_or_default()
    };
    assert_eq!(
        unread("lee", None).await,
        u64::from(MOST_UNREAD),
        "no more are looked at"
    );
    assert_eq!(unread("lee", Some("park")).await, 2, "of the newest ones");
    assert_eq!((unread("kim", None).await, unread("park", None).await), (3, 0));
    let retracted = change_in_room(&kept, &ids[2], "kim", Change::Retract).await;
    assert!(retracted.unwrap().is_some());
    assert_eq!(unread("lee", Some("park")).await, 1);
    kept.store
        .read_room(&room.id, &account("lee"), 4, at(5), &event)
        .await
        .unwrap();
    assert_eq!((unread("lee", Some("park")).await, unread("lee", None).await), (0, 3));
    kept.erase("park", 20, EventId::new(&kept.context)).await;
    assert_eq!((unread("lee", None).await, unread("kim", None).await), (0, 0));
}

async fn a_member_sees_a_room_from_its_joining_until_it_leaves(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let (room, other) = (room(&kept, &["kim", "lee"]).await, room(&kept, &["lee"]).await);
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    for text in ["one", "two"] {
        let message = post(&kept, &room, "kim", text, at(1));
        let posted = kept.store.post(&message, &always(&event)).await.unwrap();
        assert_eq!(posted, Posted::Stored);
    }
    join(&kept, &room.id, "park", 3).await.unwrap();
    let asked = [room.id.clone(), other.id.clone(), "nowhere".to_owned()];
    let joined = async |name: &str| {
        let joined = kept.store.joined_after(&account(name), &asked).await.unwrap();
        let mut joined: Vec<(String, i64)> = joined.into_iter().collect();
        joined.sort_unstable();
        joined
    };
    let here = |number: i64| (room.id.clone(), number);
    assert_eq!(joined("kim").await, [here(0)]);
    assert_eq!(joined("park").await, [here(2)]);
    let mut both = vec![here(0), (other.id.clone(), 0)];
    both.sort_unstable();
    assert_eq!(joined("lee").await, both);
    assert!(joined("choi").await.is_empty());
    let of_no_room = kept.store.joined_after(&account("kim"), &[]).await.unwrap();
    assert!(of_no_room.is_empty());
    let event_of = |_: i64| event.clone();
    let left = kept
        .store
        .leave_room(&room.id, &account("park"), at(4), &event_of)
        .await;
    assert!(left.unwrap());
    assert!(joined("park").await.is_empty());
}

async fn a_message_of_a_room_is_numbered_in_many_streams_at_once(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let names = ["kim", "lee", "park"];
    let room = room(&kept, &names).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let people = names.map(account);
    let send = async |text: &str| {
        let message = post(&kept, &room, "kim", text, at(1));
        let posted = kept.store.post(&message, &always(&event)).await.unwrap();
        assert_eq!(posted, Posted::Stored);
        message.message.id
    };
    let numbers = async |id: &MessageId, people: &[&Account]| {
        let numbers = kept.store.room_frames(id, people).await.unwrap();
        let mut numbers: Vec<(Account, i64)> = numbers.into_iter().collect();
        numbers.sort_unstable();
        numbers
    };
    let expected = |numbers: &[(&str, i64)]| -> Vec<(Account, i64)> {
        numbers.iter().map(|(name, seq)| (account(name), *seq)).collect()
    };
    // Each stream has its frames in order, however they were numbered.
    let streams = async |last: [i64; 3]| {
        for (person, last) in people.iter().zip(last) {
            let page = kept.store.frames_after(person, 0, 100).await.unwrap();
            let found: Vec<i64> = page.content.iter().map(|framed| framed.seq).collect();
            assert_eq!(found, (1..=last).collect::<Vec<_>>(), "{person:?}");
        }
    };
    let [kim, lee, park] = &people;
    let choi = account("choi");
    let first = send("one").await;
    assert_eq!(
        numbers(&first, &[kim, lee, &choi]).await,
        expected(&[("kim", 1), ("lee", 1)])
    );
    streams([1, 1, 1]).await;
    let again = numbers(&first, &[kim, lee]).await;
    match bed.set {
        EngineSet::Embedded => assert_eq!(again, expected(&[("kim", 1), ("lee", 1)])),
        EngineSet::Real => assert!(again.is_empty(), "each reads its stream"),
    }

    kept.say("kim", "lee", 5, 5).await;
    let second = send("two").await;
    let found = numbers(&second, &[kim, lee, park]).await;
    match bed.set {
        EngineSet::Embedded => assert_eq!(found, expected(&[("kim", 3), ("lee", 3), ("park", 2)])),
        // The streams of the other two lack the direct message, too.
        EngineSet::Real => assert_eq!(found, expected(&[("park", 2)])),
    }
    streams([3, 3, 2]).await;

    let third = send("three").await;
    let event_of = |_: i64| event.clone();
    let left = kept.store.leave_room(&room.id, lee, at(6), &event_of).await;
    assert!(left.unwrap());
    assert_eq!(
        numbers(&third, &[kim, lee, park]).await,
        expected(&[("kim", 4), ("park", 3)])
    );
    streams([4, 4, 3]).await;
}

/// `commands_of_a_list_of_rooms_are_counted` counts the commands of MongoDB.
async fn many_rooms_are_listed_by_as_many_statements_as_one(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let (lee, mut ids, mut costs) = (account("lee"), Vec::new(), Vec::new());
    for number in 0..3 {
        let room = room(&kept, &["kim", "lee"]).await;
        for text in 0..number {
            let message = post(&kept, &room, "kim", &format!("{} {text}", room.id), at(1));
            let posted = kept.store.post(&message, &always(&event)).await.unwrap();
            assert_eq!(posted, Posted::Stored);
        }
        ids.push(room.id);
        let (listed, rooms) = cost_of("rooms", &bed, kept.store.rooms_of(&lee)).await;
        let rooms = rooms.unwrap();
        let (counted, unread) = cost_of("unread", &bed, kept.store.unread_in_rooms(&lee, &rooms, &[])).await;
        let unread = unread.unwrap();
        let found: Vec<_> = rooms
            .iter()
            .map(|room| {
                (
                    &room.id,
                    room.last_number,
                    unread.get(&room.id).copied().unwrap_or_default(),
                )
            })
            .collect();
        let expected: Vec<_> = ids
            .iter()
            .zip(0..)
            .map(|(id, last): (_, u32)| (id, i64::from(last), u64::from(last)))
            .collect();
        assert_eq!(found, expected);
        costs.push((listed, counted));
    }
    if bed.set == EngineSet::Embedded {
        let reads = |reads| Cost { reads, writes: 0 };
        assert_eq!(
            costs,
            [(reads(3), reads(0)), (reads(3), reads(1)), (reads(3), reads(1))]
        );
    }
}

/// The process that stored it is killed before it has looked at the members again.
async fn a_message_has_frames_for_members_who_joined_while_it_was_stored(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let message = post(&kept, &room, "kim", "hello", at(1));
    assert_eq!(
        kept.store.post(&message, &always(&event)).await.unwrap(),
        Posted::Stored
    );
    join(&kept, &room.id, "park", 3).await.unwrap();
    let (id, members) = (message.message.id, [account("kim"), account("lee")]);
    let late = async || kept.store.enlist_late(&room.id, &id, &members).await.unwrap();
    assert!(late().await.is_empty(), "who joined later does not see it");
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let park = doc! { "_id": &room.id, "members.person": account("park").fingerprint() };
        let earlier = doc! { "$set": { "members.$.joinedAfter": 0_i64 } };
        let changed = collection(&client, "room").update_one(park, earlier).await.unwrap();
        assert_eq!(changed.modified_count, 1);
    } else {
        let earlier = "UPDATE room_member SET joined_after = 0 WHERE account LIKE 'park%'";
        assert_eq!(bed.sql("dm", earlier).await, 1);
    }
    for _ in 0..2 {
        assert_eq!(late().await, [account("park")]);
        if bed.set == EngineSet::Real {
            assert_eq!(room_frames(&kept, "park").await, [("hello".to_owned(), 0)]);
        }
    }
    let nowhere = kept.store.enlist_late("nowhere", &id, &members).await.unwrap();
    assert!(nowhere.is_empty());
}

fn collection(client: &mongodb::Client, name: &str) -> mongodb::Collection<Document> {
    client.default_database().unwrap().collection(name)
}

/// A process that leaves a room is killed after each step. SQLite has one step.
async fn an_interrupted_deletion_of_a_room_is_continued(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let kept = Kept::open(&bed).await;
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let (rooms, messages) = (collection(&client, "room"), collection(&client, "room_message"));
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let (stays, ends) = (room(&kept, &["kim"]).await, room(&kept, &["kim"]).await);
    let mut ids = Vec::new();
    for room in [&stays, &ends] {
        for text in ["one", "two"] {
            let message = post(&kept, room, "kim", &format!("{text} {}", room.id), at(1));
            assert_eq!(
                kept.store.post(&message, &always(&event)).await.unwrap(),
                Posted::Stored
            );
            let id = message.message.id;
            assert!(
                change_in_room(&kept, &id, "kim", edit("edited"))
                    .await
                    .unwrap()
                    .is_some()
            );
            ids.push(id);
        }
    }
    // The member is out of the room, and nothing more.
    let left = doc! { "$set": { "members": [], "left": true } };
    rooms.update_one(doc! { "_id": &ends.id }, left).await.unwrap();
    assert_eq!(kept.store.room(&ends.id).await.unwrap(), None);
    let joined = join(&kept, &ends.id, "lee", 3).await.unwrap();
    assert_eq!(joined, JoinOutcome::NoRoom);
    let refused = kept
        .store
        .post(&post(&kept, &ends, "kim", "late", at(1)), &always(&event))
        .await;
    assert_eq!(refused.unwrap(), Posted::NoMember);
    let hour = 3600;
    kept.store.sweep(at(0), at(hour)).await.unwrap();
    let of_room = doc! { "room": &ends.id };
    assert_eq!(messages.count_documents(of_room.clone()).await.unwrap(), 0);
    for id in &ids[2..] {
        assert_eq!(kept.store.changes(id).await.unwrap(), [], "{id}");
    }
    // An earlier release decodes it.
    let cleared = rooms.find_one(doc! { "_id": &ends.id }).await.unwrap().unwrap();
    assert_eq!(cleared.get_str("name").unwrap(), "-");
    let creator: Account = cleared.get_str("creator").unwrap().parse().unwrap();
    assert_ne!(creator, account("kim"));

    // A message whose sender was killed before it found the room gone.
    let mut late = messages
        .find_one(doc! { "_id": ids[0].as_str() })
        .await
        .unwrap()
        .unwrap();
    for field in ["clientKey", "place", "outbox"] {
        late.remove(field);
    }
    late.extend(doc! { "_id": "late", "room": &ends.id });
    messages.insert_one(late).await.unwrap();
    kept.store.sweep(at(0), at(2 * hour - 1)).await.unwrap();
    assert_eq!(messages.count_documents(of_room).await.unwrap(), 0);
    assert_eq!(rooms.count_documents(doc! { "_id": &ends.id }).await.unwrap(), 1);
    kept.store.sweep(at(0), at(2 * hour)).await.unwrap();
    assert_eq!(rooms.count_documents(doc! { "_id": &ends.id }).await.unwrap(), 0);

    let left = kept.store.room_page(&stays.id, 0, None, 10).await.unwrap();
    assert_eq!(left.len(), 2, "of the other room");
    assert_eq!(kept.store.changes(&ids[0]).await.unwrap().len(), 1);
}

/// A process is killed between the deletion of a message and that of its changes, or between the insert of a change and its application.
async fn changes_of_a_message_that_is_gone_are_deleted(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let kept = Kept::open(&bed).await;
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let room = room(&kept, &["kim", "lee"]).await;
    let posted = post(&kept, &room, "kim", "text", at(1));
    assert_eq!(kept.store.post(&posted, &always(&event)).await.unwrap(), Posted::Stored);
    let edited = change_in_room(&kept, &posted.message.id, "kim", edit("edited")).await;
    assert!(edited.unwrap().is_some());
    let sent = kept.say("kim", "lee", 0, 1).await.message;
    let change = NewChange {
        message: sent.id.clone(),
        by: account("kim"),
        change: edit("edited"),
        authorized_at: at(5),
        at: at(5),
    };
    assert!(kept.store.change(&change, &event).await.unwrap().is_some());
    for (name, id) in [("room_message", &posted.message.id), ("message", &sent.id)] {
        assert_eq!(kept.store.changes(id).await.unwrap().len(), 1, "{name}");
        let deleted = collection(&client, name).delete_one(doc! { "_id": id.as_str() }).await;
        assert_eq!(deleted.unwrap().deleted_count, 1, "{name}");
        // As every replica does that reads the event of the change.
        kept.store.complete(id).await.unwrap();
        assert_eq!(kept.store.changes(id).await.unwrap(), [], "{name}");
    }
}

/// Makes reactions changes of a kind that only a later release knows, or takes that back. Returns how many there were.
async fn rename_reactions(bed: &Bed, are_known: bool) -> u64 {
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let (from, to) = if are_known {
            ("pinned", "reacted")
        } else {
            ("reacted", "pinned")
        };
        let renamed = doc! { "$set": { "kind": to } };
        let changes = collection(&client, "message_change");
        changes
            .update_many(doc! { "kind": from }, renamed)
            .await
            .unwrap()
            .modified_count
    } else if are_known {
        let known = "UPDATE message_change SET kind = 'reacted' WHERE kind = 'pinned'";
        bed.sql("dm", known).await
    } else {
        let unknown = "UPDATE message_change SET kind = 'pinned' WHERE kind = 'reacted'";
        bed.sql("dm", unknown).await
    }
}

/// A replica of a later release has made changes, during its roll-out or before it was rolled back.
async fn changes_of_a_later_release_are_skipped_and_stay(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let room = room(&kept, &["kim", "lee"]).await;
    let sent = kept.say("kim", "lee", 0, 1).await.message.id;
    let message = post(&kept, &room, "kim", "text", at(1));
    assert_eq!(
        kept.store.post(&message, &always(&event)).await.unwrap(),
        Posted::Stored
    );
    let posted = message.message.id;
    let make = async |id: &MessageId, by: &str, change: Change| {
        let change = NewChange {
            message: id.clone(),
            by: account(by),
            change,
            authorized_at: at(5),
            at: at(5),
        };
        if *id == posted {
            kept.store.change_in_room(&change, &event).await
        } else {
            kept.store.change(&change, &event).await
        }
    };
    for id in [&sent, &posted] {
        assert!(make(id, "kim", edit("edited")).await.unwrap().is_some());
        assert!(make(id, "lee", react("👍")).await.unwrap().is_some());
    }
    let stream = async |after: i64| kept.store.frames_after(&account("lee"), after, 10).await.unwrap();
    let before = stream(0).await;
    assert_eq!((before.content.len(), before.until), (6, Some(6)));
    assert_eq!(rename_reactions(&bed, false).await, 2);

    let mut known = before.content;
    known.retain(|framed| match &framed.content {
        FrameContent::Change(_, change) | FrameContent::RoomChange(_, change) => change.revision == 1,
        FrameContent::Message(_) | FrameContent::RoomMessage(_) => true,
    });
    assert_eq!(known.len(), 4);
    let after = stream(0).await;
    assert_eq!((after.content, after.until), (known, Some(6)));
    let last = stream(5).await;
    assert_eq!(
        (last.content.len(), last.until, last.more),
        (0, Some(6), false),
        "a client that resumes goes on after it"
    );
    let revisions = async |id: &MessageId| {
        let changes = kept.store.changes(id).await.unwrap().into_iter();
        changes.map(|change| change.revision).collect::<Vec<i64>>()
    };
    for id in [&sent, &posted] {
        assert_eq!(revisions(id).await, [1], "{id}");
        kept.store.complete(id).await.unwrap();
        let next = make(id, "lee", react("🎉")).await.unwrap();
        assert_eq!(next.map(|change| change.revision), Some(3), "{id}");
    }
    assert_eq!(stream(6).await.until, Some(8));
    assert_eq!(rename_reactions(&bed, true).await, 2);
    for id in [&sent, &posted] {
        assert_eq!(revisions(id).await, [1, 2, 3], "{id}");
    }

    if bed.set == EngineSet::Embedded {
        return;
    }
    // The replica was killed between the insert of its change and its application.
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    for (name, id) in [("message", &sent), ("room_message", &posted)] {
        let earlier = doc! { "$set": { "revision": 2_i64 } };
        let messages = collection(&client, name);
        let changed = messages.update_one(doc! { "_id": id.as_str() }, earlier).await.unwrap();
        assert_eq!(changed.modified_count, 1, "{name}");
    }
    assert_eq!(rename_reactions(&bed, false).await, 4);
    for id in [&sent, &posted] {
        kept.store.complete(id).await.unwrap();
        let refused = make(id, "kim", edit("again")).await;
        assert!(
            matches!(refused, Err(ChangeError::Store(StoreError::Retry(_)))),
            "it waits for that release: {refused:?}"
        );
    }
    assert_eq!(rename_reactions(&bed, true).await, 4);
    for id in [&sent, &posted] {
        let next = make(id, "kim", edit("again")).await.unwrap();
        assert_eq!(next.map(|change| change.revision), Some(4), "{id}");
    }
}

/// A process is killed between the insert of a room and its second look at resignations.
async fn a_room_of_an_account_that_has_resigned_is_swept(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee"]).await;
    let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
    let rooms = collection(&client, "room");
    let document = rooms.find_one(doc! { "_id": &room.id }).await.unwrap().unwrap();
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    rooms.replace_one(doc! { "_id": &room.id }, document).await.unwrap();
    kept.store.sweep(at(0), at(0)).await.unwrap();
    let found = kept.store.room(&room.id).await.unwrap().unwrap();
    let members: Vec<_> = found.members.into_iter().map(|member| member.account).collect();
    assert_eq!(members, [account("lee")]);
}

async fn a_creator_who_is_not_in_a_room_is_forgotten_there(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    let (kim, lee) = (account("kim"), account("lee"));
    let (left, former) = (room(&kept, &["kim", "lee"]).await, room(&kept, &["kim", "lee"]).await);
    let others = room(&kept, &["lee", "kim"]).await;
    let found = async |room: &Room| kept.store.room(&room.id).await.unwrap().expect("a room");
    let event_of = |_: i64| event.clone();
    let leaving = kept.store.leave_room(&left.id, &kim, at(3), &event_of).await;
    assert!(leaving.unwrap());
    assert_ne!(found(&left).await.creator, kim);
    // Invited again, it is a member as others are.
    let joined = join_by(&kept, &left.id, "kim", ("lee", 4), 4).await.unwrap();
    assert_eq!(joined, JoinOutcome::Joined);
    assert_eq!(found(&left).await.owner(), Some(&lee));

    // A release before has taken it out of the room, and left it as the creator.
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let leave = doc! { "$pull": { "members": { "person": kim.fingerprint() } } };
        let rooms = collection(&client, "room");
        let changed = rooms.update_one(doc! { "_id": &former.id }, leave).await.unwrap();
        assert_eq!(changed.modified_count, 1);
    } else {
        let leave = "DELETE FROM room_member WHERE account LIKE 'kim%' AND EXISTS \
            (SELECT 1 FROM room WHERE room.id = room_member.room AND creator LIKE 'kim%')";
        assert_eq!(bed.sql("dm", leave).await, 1);
    }
    assert_eq!(found(&former).await.creator, kim);
    for _ in 0..2 {
        kept.store.sweep(at(0), at(0)).await.unwrap();
        assert_ne!(found(&former).await.creator, kim);
        assert_eq!(found(&others).await.creator, lee);
    }
}

async fn an_account_that_has_resigned_is_not_added_to_a_room(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "park"]).await;
    for name in ["lee", "park"] {
        kept.erase(name, 20, EventId::new(&kept.context)).await;
    }
    let refused = join(&kept, &room.id, "lee", 30).await;
    assert!(matches!(refused, Err(WriteError::ReceiverResigned)), "{refused:?}");
    let refused = join_by(&kept, &room.id, "choi", ("park", 20), 30).await;
    assert!(matches!(refused, Err(WriteError::Resigned)), "{refused:?}");
    assert_eq!(members(&kept, &room).await, [account("kim")]);
    // It signs up again.
    let lee = account("lee");
    kept.directory.set_nickname(&lee, Some("lee"), at(21)).await.unwrap();
    assert_eq!(join(&kept, &room.id, "lee", 30).await.unwrap(), JoinOutcome::Joined);

    // The creator's token is older than the resignation, which is known only after the room is there.
    let made = Room {
        id: kept.ids.next().to_string(),
        creator: account("dong"),
        created_at: at(30),
        members: vec![Member {
            account: account("dong"),
            joined_at: at(30),
            joined_after: 0,
            read: 0,
        }],
        ..room
    };
    let outcome = kept.store.create_room(&made, at(10)).await.unwrap();
    assert_eq!(outcome, RoomOutcome::Created);
    kept.erase("dong", 20, EventId::new(&kept.context)).await;
    assert_eq!(kept.store.room(&made.id).await.unwrap(), None);
}

async fn members(kept: &Kept, room: &Room) -> Vec<Account> {
    let found = kept.store.room(&room.id).await.unwrap().expect("a room");
    found.members.into_iter().map(|member| member.account).collect()
}

async fn an_account_that_was_added_to_a_room_before_its_resignation_was_known_is_swept(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim"]).await;
    for name in ["lee", "park"] {
        assert_eq!(join(&kept, &room.id, name, 25).await.unwrap(), JoinOutcome::Joined);
        kept.erase(name, 20, EventId::new(&kept.context)).await;
    }
    // It has signed up again before it was added.
    let park = account("park");
    kept.directory.set_nickname(&park, Some("park"), at(22)).await.unwrap();
    kept.store.sweep(at(0), at(24)).await.unwrap();
    assert_eq!(
        members(&kept, &room).await.len(),
        3,
        "its new name may not be known yet"
    );
    kept.store.sweep(at(0), at(25)).await.unwrap();
    assert_eq!(members(&kept, &room).await, [account("kim"), park]);
}

async fn an_older_token_posts_nothing_after_a_resignation(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let room = room(&kept, &["kim", "lee"]).await;
    let event = kept.event(&kept.message("kim", "lee", 0, 0));
    for name in ["kim", "lee"] {
        let message = post(&kept, &room, name, name, at(1));
        assert_eq!(
            kept.store.post(&message, &always(&event)).await.unwrap(),
            Posted::Stored
        );
    }
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    let refused = kept
        .store
        .post(&post(&kept, &room, "kim", "late", at(20)), &always(&event))
        .await;
    assert!(matches!(refused, Err(WriteError::Resigned)), "{refused:?}");
    let found = kept.store.room(&room.id).await.unwrap().unwrap();
    assert_eq!(found.owner(), Some(&account("lee")));
    assert_ne!(
        found.creator,
        account("kim"),
        "no account of a person who has resigned is left"
    );
    let left = kept.store.room_page(&room.id, 0, None, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(
        kept.store
            .leave_room(&room.id, &account("lee"), at(3), &|_: i64| event.clone())
            .await
            .unwrap()
    );
    assert!(
        !kept
            .store
            .leave_room(&room.id, &account("lee"), at(3), &|_: i64| event.clone())
            .await
            .unwrap()
    );
    assert_eq!(kept.store.room(&room.id).await.unwrap(), None);
    assert!(kept.store.room_page(&room.id, 0, None, 10).await.unwrap().is_empty());
}

async fn frames_beyond_those_that_are_kept_are_deleted(bed: Bed) {
    let kept = Kept::open_with(&bed, &[("history.frames", "1")]).await;
    for number in 0..350 {
        kept.say("kim", "lee", number, 1).await;
        if number % 100 == 0 {
            kept.store.kept(&account("kim")).await.unwrap();
        }
    }
    // As many as a client may have missed are kept, whatever the setting says.
    let (oldest, newest) = kept.store.kept(&account("kim")).await.unwrap().unwrap();
    assert_eq!((oldest, newest), (101, 350));
    let found = kept.store.frames_after(&account("kim"), 0, 10).await.unwrap();
    assert_eq!(found.content.first().map(|framed| framed.seq), Some(101));
    // A message whose frame is deleted comes before those that are kept.
    let last = kept
        .store
        .last_seen(&account("kim"), &conversation(), 100)
        .await
        .unwrap();
    let FrameContent::Message(first_kept) = &found.content[0].content else {
        panic!("{found:?}");
    };
    assert!(last.is_some_and(|last| last < first_kept.message.id.position()));
}
