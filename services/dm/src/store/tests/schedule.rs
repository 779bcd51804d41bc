//! Messages that are sent later.

use jiff::SignedDuration;
use mongodb::bson::{Document, doc};
use sosohappy_events::EventId;
use sosohappy_testkit::{Bed, EngineSet, on_both_engines};

use super::{Kept, account, at};
use crate::domain::{MOST_SCHEDULED, MessageText, Scheduled};
use crate::store::{Due, ScheduleOutcome, WriteError};

on_both_engines!(
    a_schedule_is_taken_by_one_replica_until_its_lease_ends,
    a_postponed_schedule_is_its_senders_until_it_is_due_again,
    a_corrupt_schedule_is_quarantined_and_delays_no_other,
    a_schedule_is_refused_after_a_resignation,
    a_resignation_and_schedules_that_cross_leave_nothing,
    a_late_resignation_spares_younger_schedules,
    a_sender_has_a_limited_number_of_schedules,
);

const LEASE: SignedDuration = SignedDuration::from_secs(1);

fn scheduled(kept: &Kept, from: &str, to: &str, made: i64) -> Scheduled {
    Scheduled {
        id: kept.ids.next().to_string(),
        sender: account(from),
        receiver: account(to),
        receiver_nickname: to.to_owned(),
        text: MessageText::stored(format!("{from} {to}")),
        send_at: at(100),
        made_at: at(made),
        authorized_at: at(made),
        failure: None,
    }
}

async fn add(kept: &Kept, from: &str, to: &str, made: i64) -> Scheduled {
    let scheduled = scheduled(kept, from, to, made);
    let outcome = kept.store.schedule(&scheduled).await.unwrap();
    assert_eq!(outcome, ScheduleOutcome::Scheduled);
    scheduled
}

fn ids(due: &Due) -> Vec<&str> {
    due.messages.iter().map(|scheduled| scheduled.id.as_str()).collect()
}

async fn a_schedule_is_taken_by_one_replica_until_its_lease_ends(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let (first, second) = (add(&kept, "kim", "lee", 1).await, add(&kept, "kim", "park", 1).await);
    let take = async |second: i64| kept.store.take_due(at(second), LEASE, 10).await.unwrap();
    assert!(take(99).await.messages.is_empty());
    assert_eq!(take(100).await.messages.len(), 2);
    assert!(take(100).await.messages.is_empty(), "another replica has the lease");
    let edited = kept
        .store
        .reschedule(&account("kim"), &first.id, None, Some(at(200)))
        .await;
    assert!(!edited.unwrap(), "it is being sent");
    kept.store.renew(&[&first.id], at(105)).await.unwrap();
    assert_eq!(ids(&take(102).await), [second.id.as_str()], "the other was not renewed");
    kept.store.finish(&second.id).await.unwrap();
    kept.store.renew(&[&second.id], at(105)).await.unwrap();
    assert_eq!(ids(&take(105).await), [first.id.as_str()]);
    kept.store.fail(&first.id, at(105), "not-delivered").await.unwrap();
    kept.store.renew(&[&first.id], at(106)).await.unwrap();
    assert!(take(1000).await.messages.is_empty(), "a failure is final");
    let left = kept.store.scheduled(&account("kim")).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].failure.as_deref(), Some("not-delivered"));
}

async fn a_postponed_schedule_is_its_senders_until_it_is_due_again(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let (first, second) = (add(&kept, "kim", "lee", 1).await, add(&kept, "kim", "park", 1).await);
    let kim = account("kim");
    let take = async |second: i64| kept.store.take_due(at(second), LEASE, 10).await.unwrap();
    let unschedule = async |id: &str| kept.store.unschedule(&kim, id).await.unwrap();
    assert_eq!(take(100).await.messages.len(), 2);
    assert!(!unschedule(first.id.as_str()).await, "it is being sent");
    for id in [&first.id, &second.id] {
        kept.store.postpone(id, at(100), at(105)).await.unwrap();
    }
    kept.store.renew(&[&first.id, &second.id], at(200)).await.unwrap();
    assert!(take(104).await.messages.is_empty());
    assert!(unschedule(first.id.as_str()).await);
    assert_eq!(ids(&take(105).await), [second.id.as_str()]);
    assert!(!unschedule(second.id.as_str()).await, "it is being sent again");
    assert_eq!(ids(&take(110).await), [second.id.as_str()], "the lease has ended");
    kept.store.postpone(&second.id, at(105), at(106)).await.unwrap();
    kept.store.fail(&second.id, at(105), "not-delivered").await.unwrap();
    assert!(!unschedule(second.id.as_str()).await, "another replica is sending it");
    kept.store.fail(&second.id, at(110), "not-delivered").await.unwrap();
    kept.store.postpone(&second.id, at(110), at(116)).await.unwrap();
    assert!(take(1000).await.messages.is_empty(), "a failure is final");
}

async fn a_corrupt_schedule_is_quarantined_and_delays_no_other(bed: Bed) {
    let kept = Kept::open(&bed).await;
    let broken = add(&kept, "kim", "lee", 1).await;
    let whole = add(&kept, "kim", "park", 1).await;
    if bed.set == EngineSet::Real {
        let client = mongodb::Client::with_uri_str(bed.mongodb_url("dm")).await.unwrap();
        let messages = client
            .default_database()
            .unwrap()
            .collection::<Document>("scheduled_message");
        let corrupt = doc! { "$set": { "receiver": 7 } };
        messages.update_one(doc! { "_id": &broken.id }, corrupt).await.unwrap();
    } else {
        let corrupt = "UPDATE scheduled_message SET receiver = 'nobody' WHERE receiver LIKE 'lee%'";
        assert_eq!(bed.sql("dm", corrupt).await, 1);
    }
    let due = kept.store.take_due(at(100), LEASE, 10).await.unwrap();
    assert_eq!((ids(&due), due.quarantined), (vec![whole.id.as_str()], 1));
    let due = kept.store.take_due(at(1000), LEASE, 10).await.unwrap();
    assert_eq!((ids(&due), due.quarantined), (vec![whole.id.as_str()], 0));
    let listed = kept.store.scheduled(&account("kim")).await.unwrap();
    assert_eq!(listed.len(), 1, "the list has the others");
    assert!(
        kept.store.unschedule(&account("kim"), &broken.id).await.unwrap(),
        "it is kept, and its sender may delete it"
    );
}

async fn a_schedule_is_refused_after_a_resignation(bed: Bed) {
    let kept = Kept::open(&bed).await;
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    let refused = kept.store.schedule(&scheduled(&kept, "kim", "lee", 20)).await;
    assert!(matches!(refused, Err(WriteError::Resigned)), "{refused:?}");
    let refused = kept.store.schedule(&scheduled(&kept, "lee", "kim", 30)).await;
    assert!(matches!(refused, Err(WriteError::ReceiverResigned)), "{refused:?}");
    add(&kept, "kim", "lee", 21).await;
    let left = kept.store.scheduled(&account("kim")).await.unwrap();
    assert_eq!(left.len(), 1, "who signs up again may schedule");
}

async fn a_resignation_and_schedules_that_cross_leave_nothing(bed: Bed) {
    let kept = Kept::open(&bed).await;
    for round in 0..5 {
        let name = format!("kim{round}");
        let messages: Vec<_> = (0..20)
            .map(|number| match number % 2 {
                0 => scheduled(&kept, &name, "lee", 40),
                _ => scheduled(&kept, "lee", &name, 40),
            })
            .collect();
        let scheduling = futures::future::join_all(messages.iter().map(|message| kept.store.schedule(message)));
        let (results, ()) = futures::join!(scheduling, kept.erase(&name, 50, EventId::new(&kept.context)));
        for result in results {
            assert!(
                matches!(
                    result,
                    Ok(ScheduleOutcome::Scheduled) | Err(WriteError::Resigned | WriteError::ReceiverResigned)
                ),
                "{result:?}"
            );
        }
        for name in [name.as_str(), "lee"] {
            let left = kept.store.scheduled(&account(name)).await.unwrap();
            assert_eq!(left, [], "{name} in round {round}");
        }
    }
}

async fn a_late_resignation_spares_younger_schedules(bed: Bed) {
    let kept = Kept::open(&bed).await;
    for (from, to, made) in [
        ("kim", "lee", 10),
        ("lee", "kim", 10),
        ("kim", "lee", 31),
        ("lee", "kim", 31),
    ] {
        add(&kept, from, to, made).await;
    }
    kept.erase("kim", 20, EventId::new(&kept.context)).await;
    for name in ["kim", "lee"] {
        let left = kept.store.scheduled(&account(name)).await.unwrap();
        let made: Vec<_> = left.iter().map(|scheduled| scheduled.made_at).collect();
        assert_eq!(made, [at(31)], "{name}");
    }
}

async fn a_sender_has_a_limited_number_of_schedules(bed: Bed) {
    let kept = Kept::open(&bed).await;
    for _ in 0..MOST_SCHEDULED {
        add(&kept, "kim", "lee", 1).await;
    }
    let outcome = kept.store.schedule(&scheduled(&kept, "kim", "lee", 1)).await.unwrap();
    assert_eq!(outcome, ScheduleOutcome::TooMany);
    add(&kept, "lee", "kim", 1).await;
}
