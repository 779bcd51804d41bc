use std::time::Duration;

use sosohappy_bus::Start;
use sosohappy_events::Topic;
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use super::{DATE, DELIVERY_TIMEOUT, Dm, message, next, two};

on_both_engines!(
    a_message_reaches_sockets_of_another_replica,
    a_message_at_a_replica_that_does_not_lead_is_published_at_its_hint,
    a_drain_tells_clients_to_reconnect_and_loses_nothing,
    a_replica_that_leaves_hears_for_as_long_as_it_holds_sockets,
    push_is_sent_when_a_replica_crashes,
);

async fn a_message_reaches_sockets_of_another_replica(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (here.connect(&kim).await, there.connect(&lee).await);
    let mut beside = here.connect(&lee).await;
    for number in 0..20 {
        from.send(message("kim", "lee", DATE + number, "hello").to_string())
            .await;
    }
    for number in 0..20 {
        assert_eq!(to.json().await["date"], DATE + number);
        assert_eq!(beside.json().await["date"], DATE + number);
    }
    drop(beside);
    from.send(message("kim", "lee", DATE + 20, "only there").to_string())
        .await;
    assert_eq!(to.json().await["text"], "only there");
}

async fn a_message_at_a_replica_that_does_not_lead_is_published_at_its_hint(bed: Bed) {
    let leader = Dm::start(&bed).await;
    eventually("the first replica leads", async || {
        (leader.running.metric("outbox_relay_leading", &[]) > 0.0).then_some(())
    })
    .await;
    let follower = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (follower.connect(&kim).await, leader.connect(&lee).await);
    let mut sent = 0;
    // A poll may be first, and the follower may not know the leader yet.
    eventually("a read of the outbox at a hint", async || {
        from.send(message("kim", "lee", DATE + sent, "hello").to_string()).await;
        assert_eq!(to.json().await["date"], DATE + sent);
        sent += 1;
        (leader.running.metric("outbox_reads_total", &[r#"cause="hint""#]) > 0.0).then_some(())
    })
    .await;
    assert!(follower.running.metric("outbox_hints_total", &[r#"outcome="sent""#]) > 0.0);
}

async fn a_drain_tells_clients_to_reconnect_and_loses_nothing(bed: Bed) {
    let (leaves, stays) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (leaves.connect(&kim).await, stays.connect(&lee).await);
    // So few that a slow machine handles them within the five seconds of a gentle closing.
    for number in 0..4 {
        from.send(message("kim", "lee", DATE + number, "on the way").to_string())
            .await;
    }
    let stopped = tokio::spawn(leaves.running.stop());
    assert_eq!(from.closed().await, 1012);
    stopped.await.unwrap();
    for number in 0..4 {
        assert_eq!(to.json().await["date"], DATE + number);
    }
    let mut again = stays.connect(&kim).await;
    again.send(message("kim", "lee", DATE + 4, "back").to_string()).await;
    assert_eq!(to.json().await["text"], "back");
}

/// A draining replica closes its sockets in batches and still delivers to those that are open. The batches take one second, which can be too
/// short for a delivery on a slow machine: the test repeats the drain with new replicas and requires one delivery.
async fn a_replica_that_leaves_hears_for_as_long_as_it_holds_sockets(bed: Bed) {
    const ATTEMPTS: i64 = 8;
    let stays = Dm::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let mut from = stays.connect(&kim).await;
    let mut others = Vec::new();
    for number in 0..12 {
        let (account, nickname) = (format!("p{number}@example.com+kakao"), format!("p{number}"));
        others.push(bed.person(&account, &nickname).await);
    }
    for attempt in 0..ATTEMPTS {
        // A receiver of its own: a late message of an earlier attempt is not taken for this one's.
        let name = format!("lee{attempt}");
        let lee = bed.person(&format!("{name}@example.com+apple"), &name).await;
        let leaves = Dm::start(&bed).await;
        let mut sockets = Vec::new();
        for person in &others {
            for _ in 0..10 {
                sockets.push(leaves.connect(person).await);
            }
        }
        let mut receivers = Vec::new();
        for _ in 0..10 {
            receivers.push(leaves.connect(&lee).await);
        }
        // A request in flight: the stages behind it do not drain.
        let held = leaves.running.context.lifecycle.hold("a request");
        let lifecycle = leaves.running.context.lifecycle.clone();
        let stopped = tokio::spawn(leaves.running.stop());
        lifecycle.draining().cancelled().await;
        from.send(message("kim", &name, DATE + attempt, "before you go").to_string())
            .await;
        let silent = receivers
            .iter_mut()
            .map(|receiver| receiver.silent_for(Duration::from_secs(10)));
        let silent = futures::future::join_all(silent).await;
        drop(held);
        stopped.await.unwrap();
        if silent.contains(&false) {
            return;
        }
    }
    panic!("none of ten sockets was told before it was closed, of {ATTEMPTS} replicas");
}

/// `kill -9` of the replica with the receiver's socket, while a Spring notice pushes what dm publishes for it.
async fn push_is_sent_when_a_replica_crashes(bed: Bed) {
    let settings = [(DELIVERY_TIMEOUT, "1s"), ("fleet.spring", "notice")];
    let (dies, stays) = (
        Dm::start_with(&bed, &settings).await,
        Dm::start_with(&bed, &settings).await,
    );
    let (kim, lee) = two(&bed).await;
    let mut events = bed.bus.read(&[Topic::SocketMessage], Start::Earliest).await.unwrap();
    let _receiver = dies.connect(&lee).await;
    let mut from = stays.connect(&kim).await;
    dies.running.context.lifecycle.stopped().cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    from.send(message("kim", "lee", DATE, "anybody there?").to_string())
        .await;
    let first = next(&mut events).await;
    assert!(first.event.receiver_online, "for sockets only");
    let second = next(&mut events).await;
    assert!(!second.event.receiver_online, "no socket has shown it: a push is due");
    assert_eq!(
        (second.meta.id, &second.event.frame),
        (first.meta.id, &first.event.frame)
    );
}
