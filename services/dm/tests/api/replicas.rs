use std::time::Duration;

use sosohappy_testkit::{Bed, on_both_engines};

use super::{DATE, Dm, message, next, sent, two};

on_both_engines!(
    a_message_reaches_sockets_of_another_replica,
    a_drain_tells_clients_to_reconnect_and_loses_nothing
);

async fn a_message_reaches_sockets_of_another_replica(bed: Bed) {
    let (here, there) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let mut events = sent(&bed).await;
    let (mut from, mut to) = (here.connect(&kim).await, there.connect(&lee).await);
    let mut beside = here.connect(&lee).await;
    for number in 0..20 {
        from.send(message("kim", "lee", DATE + number, "hello").to_string())
            .await;
    }
    for number in 0..20 {
        assert_eq!(to.json().await["date"], DATE + number);
        assert_eq!(beside.json().await["date"], DATE + number);
        assert!(next(&mut events).await.event.receiver_online);
    }
    drop(beside);
    tokio::time::sleep(Duration::from_millis(300)).await;
    from.send(message("kim", "lee", DATE + 20, "only there").to_string())
        .await;
    assert_eq!(to.json().await["text"], "only there");
    assert!(next(&mut events).await.event.receiver_online, "known through the store");
}

async fn a_drain_tells_clients_to_reconnect_and_loses_nothing(bed: Bed) {
    let (leaves, stays) = (Dm::start(&bed).await, Dm::start(&bed).await);
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (leaves.connect(&kim).await, stays.connect(&lee).await);
    for number in 0..10 {
        from.send(message("kim", "lee", DATE + number, "on the way").to_string())
            .await;
    }
    let stopped = tokio::spawn(leaves.running.stop());
    assert_eq!(from.closed().await, 1012);
    stopped.await.unwrap();
    for number in 0..10 {
        assert_eq!(to.json().await["date"], DATE + number);
    }
    let mut again = stays.connect(&kim).await;
    again.send(message("kim", "lee", DATE + 10, "back").to_string()).await;
    assert_eq!(to.json().await["text"], "back");
}
