//! Copies of reported messages for moderators.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::types::{
    ContentModerated, MessageChange, MessageChanged, ModeratedContent, ModerationAction, ModerationApplied,
    ModerationOutcome, Relation, RelationChanged, Role, RoomMessageSent,
};
use sosohappy_events::{Envelope, Event as _, EventId};
use sosohappy_testkit::{Bed, PATIENCE, Person, eventually, on_both_engines};

use super::rooms::{accepted, create, message_id, texts, to_room};
use super::stream::{frame, open, typed};
use super::{Dm, read, two};

on_both_engines!(
    a_reported_text_is_shown_to_moderators_until_it_is_decided,
    a_conversation_of_others_cannot_be_reported,
    a_hidden_message_is_not_shown_until_it_is_restored,
    open_sockets_receive_a_redelivered_decision_again,
    a_message_of_a_room_is_reported_hidden_and_restored,
);

fn report(
    action: ModerationAction,
    author: &Person,
    message: &str,
    by: Option<&Person>,
    number: i64,
) -> ContentModerated {
    ContentModerated {
        action,
        author: author.account.clone(),
        content: ModeratedContent::Message {
            message: message.to_owned(),
        },
        reporter: by.map(|by| by.account.clone()),
        report: Some(number),
    }
}

/// Waits until each of the orders was answered, one that is listed several times as often. Answers about one author come in order.
async fn answered(bed: &Bed, mut orders: Vec<(EventId, ModerationOutcome)>) {
    let mut reader = bed
        .bus
        .read(&[ModerationApplied::TOPIC], Start::Earliest)
        .await
        .unwrap();
    let answers = async {
        while !orders.is_empty() {
            let record = reader.next().await.unwrap();
            let answer = Envelope::<ModerationApplied>::decode(&record).unwrap().event;
            assert_eq!(answer.service, sosohappy_dm::SERVICE);
            if let Some(found) = orders.iter().position(|(order, _)| *order == answer.order) {
                let (_, outcome) = orders.remove(found);
                assert_eq!(answer.outcome, Some(outcome));
            }
        }
    };
    tokio::time::timeout(PATIENCE, answers)
        .await
        .expect("every order is answered");
}

/// Waits until the pushes of a message are withdrawn.
async fn withdrawn(bed: &Bed, message: &str) {
    let topics = [MessageChanged::TOPIC, RoomMessageSent::TOPIC];
    let mut reader = bed.bus.read(&topics, Start::Earliest).await.unwrap();
    let withdrawal = async {
        loop {
            let record = reader.next().await.unwrap();
            let (about, change) = if record.topic == MessageChanged::TOPIC {
                let event = Envelope::<MessageChanged>::decode(&record).unwrap().event;
                (event.message, Some(event.change))
            } else {
                let event = Envelope::<RoomMessageSent>::decode(&record).unwrap().event;
                (event.message, event.change)
            };
            if about == message && change == Some(MessageChange::Retracted) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, withdrawal)
        .await
        .expect("the withdrawal is published");
}

async fn reported(dm: &Dm, who: &Person, number: &str) -> (StatusCode, Value) {
    let request = dm
        .client
        .get(dm.at("admin/reportedContent"))
        .query(&[("report", number)]);
    read(who.sign(request)).await
}

async fn send(dm: &Dm, from: &Person, to: &str, text: &str) -> String {
    let mut socket = open(dm, from, "").await;
    socket.send(typed(text, to, text)).await;
    let accepted = frame(&mut socket, "accepted").await;
    accepted["data"]["messageId"].as_str().unwrap().to_owned()
}

async fn expect(dm: &Dm, who: &Person, number: &str, status: StatusCode) -> Value {
    eventually("the report is applied", async || {
        let (found, body) = reported(dm, who, number).await;
        (found == status).then_some(body)
    })
    .await
}

async fn a_reported_text_is_shown_to_moderators_until_it_is_decided(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let boss = bed
        .person_with_role("boss@example.com+google", "boss", Role::Moderator)
        .await;
    let id = send(&dm, &kim, "lee", "an insult").await;
    bed.publish(report(ModerationAction::Reported, &kim, &id, Some(&lee), 7))
        .await;
    let shown = expect(&dm, &boss, "7", StatusCode::OK).await;
    assert_eq!(shown["text"], "an insult");
    assert!(shown["date"].as_i64().is_some(), "{shown}");
    for other in [&kim, &lee] {
        let (status, body) = reported(&dm, other, "7").await;
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::FORBIDDEN, &json!("role-required"))
        );
    }
    // What the author does with it later changes nothing.
    let (status, _) = dm.post(&kim, "cancelMessage", &[("id", &id)]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(reported(&dm, &boss, "7").await.1["text"], "an insult");

    bed.publish(report(ModerationAction::Closed, &kim, &id, None, 7)).await;
    let closed = expect(&dm, &boss, "7", StatusCode::NOT_FOUND).await;
    assert_eq!(closed["code"], "no-such-report");
    // Reported once more: the message has no text any more.
    let other = send(&dm, &kim, "lee", "another").await;
    bed.publish(report(ModerationAction::Reported, &kim, &id, Some(&lee), 8))
        .await;
    bed.publish(report(ModerationAction::Reported, &kim, &other, Some(&lee), 9))
        .await;
    expect(&dm, &boss, "9", StatusCode::OK).await;
    assert_eq!(reported(&dm, &boss, "8").await.0, StatusCode::NOT_FOUND);
}

async fn a_conversation_of_others_cannot_be_reported(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let boss = bed
        .person_with_role("boss@example.com+google", "boss", Role::Moderator)
        .await;
    let id = send(&dm, &kim, "lee", "between us").await;
    // One account is the key of all these events: the last one is applied last.
    for (number, by) in [(1, Some(&park)), (2, None), (3, Some(&kim)), (4, Some(&lee))] {
        bed.publish(report(ModerationAction::Reported, &kim, &id, by, number))
            .await;
    }
    expect(&dm, &boss, "4", StatusCode::OK).await;
    for number in ["1", "2", "3"] {
        assert_eq!(reported(&dm, &boss, number).await.0, StatusCode::NOT_FOUND, "{number}");
    }
}

async fn a_hidden_message_is_not_shown_until_it_is_restored(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let message = send(&dm, &kim, "lee", "unlawful").await;
    let decide = async |action, by: Option<&Person>| {
        let published = bed.publish(report(action, &kim, &message, by, 1)).await;
        published.meta.id
    };
    let has_text = async |person: &Person, with: &str| dm.history(person, with).await.to_string().contains("unlawful");
    assert!(has_text(&lee, "kim").await && has_text(&kim, "lee").await);
    let mut screens = [open(&dm, &lee, "").await, open(&dm, &kim, "").await];
    let hidden = decide(ModerationAction::Hidden, Some(&lee)).await;
    eventually("nobody reads the text", async || {
        let is_read = has_text(&lee, "kim").await || has_text(&kim, "lee").await;
        (!is_read).then_some(())
    })
    .await;
    for screen in &mut screens {
        assert_eq!(frame(screen, "hide").await["data"]["messageId"], message);
    }
    withdrawn(&bed, &message).await;
    let mut socket = open(&dm, &lee, "&since=0").await;
    let shown = frame(&mut socket, "message").await;
    assert_eq!(shown["data"]["text"], "", "{shown}");
    let restored = decide(ModerationAction::Restored, None).await;
    eventually("both read the text", async || {
        let is_read = has_text(&lee, "kim").await && has_text(&kim, "lee").await;
        is_read.then_some(())
    })
    .await;
    for screen in &mut screens {
        assert_eq!(frame(screen, "restore").await["data"]["messageId"], message);
    }
    // A message that is not there leaves nothing to do.
    let nowhere = report(
        ModerationAction::Hidden,
        &kim,
        "01890000-0000-7000-8000-000000000001",
        None,
        2,
    );
    let nowhere = bed.publish(nowhere).await.meta.id;
    let orders = vec![
        (hidden, ModerationOutcome::Applied),
        (restored, ModerationOutcome::Applied),
        (nowhere, ModerationOutcome::NotFound),
    ];
    answered(&bed, orders).await;
}

/// A replica that crashes after it has stored a decision has not published its frames and its answer: the event is redelivered.
async fn open_sockets_receive_a_redelivered_decision_again(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let message = send(&dm, &kim, "lee", "unlawful").await;
    let mut screens = [open(&dm, &lee, "").await, open(&dm, &kim, "").await];
    let mut orders = Vec::new();
    for (action, topic) in [
        (ModerationAction::Hidden, "hide"),
        (ModerationAction::Restored, "restore"),
    ] {
        let decision = bed.publish(report(action, &kim, &message, Some(&lee), 1)).await;
        for screen in &mut screens {
            assert_eq!(frame(screen, topic).await["data"]["messageId"], message);
        }
        bed.publish_again(&decision).await;
        for screen in &mut screens {
            assert_eq!(frame(screen, topic).await["data"]["messageId"], message, "redelivered");
        }
        orders.extend([(decision.meta.id, ModerationOutcome::Applied); 2]);
    }
    answered(&bed, orders).await;
}

async fn a_message_of_a_room_is_reported_hidden_and_restored(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let choi = bed.person("choi@example.com+google", "choi").await;
    let boss = bed
        .person_with_role("boss@example.com+google", "boss", Role::Moderator)
        .await;
    let room = create(&dm, &kim, "lee,choi").await["roomId"].clone();
    let mut screens = [open(&dm, &kim, "").await, open(&dm, &lee, "").await];
    screens[0].send(to_room("1", &room, "unlawful")).await;
    let message = message_id(&accepted(&mut screens[0]).await);
    let invitation = [("roomId", room.as_str().unwrap()), ("member", "park")];
    assert_eq!(dm.post(&kim, "inviteRoom", &invitation).await.0, StatusCode::OK);

    // Choi reports and blocks at once: the block arrives first.
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account: choi.account.clone(),
        other: kim.account.clone(),
    })
    .await;
    eventually("the block is known", async || {
        texts(&dm, &choi, &room).await.is_empty().then_some(())
    })
    .await;

    // Park joined after the message.
    for (number, by) in [(1, &park), (2, &kim), (3, &lee), (4, &choi)] {
        bed.publish(report(ModerationAction::Reported, &kim, &message, Some(by), number))
            .await;
    }
    for number in ["3", "4"] {
        let copy = expect(&dm, &boss, number, StatusCode::OK).await;
        assert_eq!(copy["text"], "unlawful", "{number}");
    }
    for number in ["1", "2"] {
        assert_eq!(reported(&dm, &boss, number).await.0, StatusCode::NOT_FOUND, "{number}");
    }

    let mut blocker = open(&dm, &choi, "").await;
    let decide = async |action, by: Option<&Person>| bed.publish(report(action, &kim, &message, by, 3)).await;
    let unseen = decide(ModerationAction::Hidden, Some(&park)).await;
    let hidden = decide(ModerationAction::Hidden, Some(&choi)).await;
    for screen in &mut screens {
        assert_eq!(frame(screen, "hide").await["data"]["messageId"], message);
    }
    // Frames without a number come to an account in order: choi, who does not see the message, got no `hide` before this one.
    let typing = json!({ "topic": "typing", "data": { "roomId": room } }).to_string();
    screens[1].send(typing).await;
    loop {
        let shown = blocker.json().await;
        assert_ne!(shown["topic"], "hide", "{shown}");
        if shown["topic"] == "typing" {
            break;
        }
    }
    for member in [&kim, &lee] {
        assert_eq!(texts(&dm, member, &room).await, [""]);
    }
    let mut resumed = open(&dm, &lee, "&since=0").await;
    let shown = frame(&mut resumed, "message").await;
    assert_eq!((&shown["id"], &shown["data"]["text"]), (&json!(message), &json!("")));
    withdrawn(&bed, &message).await;
    // After a crash before the answer.
    bed.publish_again(&hidden).await;
    for screen in &mut screens {
        assert_eq!(frame(screen, "hide").await["data"]["messageId"], message, "redelivered");
    }

    let restored = decide(ModerationAction::Restored, None).await;
    for screen in &mut screens {
        assert_eq!(frame(screen, "restore").await["data"]["messageId"], message);
    }
    for member in [&kim, &lee] {
        assert_eq!(texts(&dm, member, &room).await, ["unlawful"]);
    }
    let orders = vec![
        (unseen.meta.id, ModerationOutcome::NotFound),
        (hidden.meta.id, ModerationOutcome::Applied),
        (hidden.meta.id, ModerationOutcome::Applied),
        (restored.meta.id, ModerationOutcome::Applied),
    ];
    answered(&bed, orders).await;
}
