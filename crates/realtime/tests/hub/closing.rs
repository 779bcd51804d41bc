use std::time::{Duration, Instant};

use futures::future::join_all;
use sosohappy_common::clock::{Clock as _, ManualClock, SystemClock};
use sosohappy_events::types::SessionId;
use sosohappy_realtime::Limits;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Fleet, account, limits, until};

/// From the end of a token to the closing of its socket.
const PROMISED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn pings_come_and_pongs_keep_a_socket_open() {
    let quick = Limits {
        ping_every: Duration::from_millis(100),
        idle_timeout: Duration::from_secs(3),
        ..limits()
    };
    let fleet = Fleet::start(quick).await;
    let mut phone = fleet.connect("name=kim").await;
    let begun = Instant::now();
    let mut pings = 0;
    // Twice as long as without a pong.
    while begun.elapsed() < Duration::from_secs(6) {
        assert!(matches!(phone.next().await, Message::Ping(_)));
        pings += 1;
    }
    assert!((7..=75).contains(&pings), "{pings} pings in six seconds");
    phone.send("echo alive").await;
    assert_eq!(phone.text().await, "alive");
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_cut() {
    let quick = Limits {
        ping_every: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(400),
        ..limits()
    };
    let fleet = Fleet::start(quick).await;
    // Its library answers pings only while it reads.
    let dead = fleet.connect("name=kim").await;
    until("it is cut", || !fleet.hub.online(&account("kim"))).await;
    until("its task has ended", || fleet.ended() == 1).await;
    assert!(fleet.counted("sosohappy_sockets_closed_total", "reason", "idle", 1));
    drop(dead);
}

#[tokio::test]
async fn a_client_is_not_idle_while_its_frame_is_worked_on() {
    let quick = Limits {
        ping_every: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(800),
        ..limits()
    };
    let fleet = Fleet::start(quick).await;
    let mut phone = fleet.connect("name=kim").await;
    phone.send("slow 3000").await;
    phone.send("echo done").await;
    assert_eq!(phone.text().await, "done");
}

#[tokio::test]
async fn a_token_that_ends_closes_its_socket_with_4403() {
    let fleet = Fleet::start(limits()).await;
    let mut long = fleet.connect("name=kim&session=2").await;
    // A machine that is busy with other tests may delay some of them.
    let mut late = Vec::new();
    while late.len() < 3 && late.last().is_none_or(|late| *late > PROMISED) {
        let ends_after = Instant::now() + Duration::from_secs(2);
        let mut brief = fleet.connect("name=kim&lives_ms=2000").await;
        assert_eq!(brief.closed().await, 4403);
        late.push(ends_after.elapsed());
    }
    assert!(late.iter().any(|late| *late <= PROMISED), "{late:?}");
    long.send("echo me not").await;
    assert_eq!(long.text().await, "me not");
    let mut over = fleet.connect_only("name=kim&lives_ms=0").await;
    assert_eq!(over.closed().await, 4403);
}

#[tokio::test]
async fn frames_after_the_tokens_end_are_not_handled_even_between_two_sweeps() {
    let clock = ManualClock::at(SystemClock.now());
    let fleet = Fleet::start_at(clock.clone()).await;
    let mut brief = fleet.connect("name=kim&lives_ms=100").await;
    clock.advance(Duration::from_millis(120));
    brief.send("too late").await;
    assert_eq!(brief.closed().await, 4403);
    assert!(fleet.notes.frames.lock().is_empty());
}

#[tokio::test]
async fn a_session_that_ends_closes_its_sockets_only() {
    let fleet = Fleet::start(limits()).await;
    let mut out = fleet.connect("name=kim&session=1").await;
    let mut stays = fleet.connect("name=kim&session=2").await;
    let mut other = fleet.connect("name=lee&session=1").await;
    fleet
        .revocations
        .close_session(&account("kim"), SessionId(1), fleet.context.clock.now());
    assert_eq!(out.closed().await, 1008);
    stays.send("echo kim").await;
    assert_eq!(stays.text().await, "kim");
    other.send("echo lee").await;
    assert_eq!(other.text().await, "lee");
}

#[tokio::test]
async fn a_token_issued_after_the_end_of_its_session_stays() {
    let fleet = Fleet::start(limits()).await;
    let before = fleet.context.clock.now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut again = fleet.connect("name=kim&session=1").await;
    fleet.revocations.close_session(&account("kim"), SessionId(1), before);
    again.send("echo still here").await;
    assert_eq!(again.text().await, "still here");
}

#[tokio::test]
async fn an_account_that_ends_closes_all_its_sockets_and_handshakes_under_way() {
    let fleet = Fleet::start(limits()).await;
    let mut phone = fleet.connect("name=kim&session=1").await;
    let mut tablet = fleet.connect("name=kim&session=2").await;
    let mut other = fleet.connect("name=lee").await;
    // The clock of a handshake that was let in before the event, and enters the hub after it.
    let soon = fleet.context.clock.now() + Duration::from_mins(1);
    fleet.revocations.resign(&account("kim"), soon);
    assert_eq!(phone.closed().await, 1008);
    assert_eq!(tablet.closed().await, 1008);
    let mut late = fleet.connect_only("name=kim&session=3").await;
    assert_eq!(late.closed().await, 1008);
    other.send("echo lee").await;
    assert_eq!(other.text().await, "lee");
}

#[tokio::test]
async fn a_refusal_completes_the_handshake_and_closes() {
    let fleet = Fleet::start(limits()).await;
    let mut refused = fleet.connect_only("name=kim&refuse=true").await;
    assert_eq!(refused.closed().await, 1008);
    assert_eq!(*fleet.notes.opened.lock(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_closes_all_sockets_with_1012_in_batches_and_loses_no_frame() {
    let fleet = Fleet::start(Limits {
        drain_spread: Duration::from_secs(2),
        ..limits()
    })
    .await;
    let mut clients = Vec::new();
    for number in 0..60 {
        clients.push(fleet.connect(&format!("name=person{number}")).await);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&format!("slow 100 from {number}")).await;
        fleet.hub.send(&account(&format!("person{number}")), "last words");
    }
    let begun = Instant::now();
    let lifecycle = fleet.context.lifecycle.clone();
    let shutdown = tokio::spawn(async move { lifecycle.shutdown(Duration::from_secs(20)).await });
    let closed = join_all(clients.iter_mut().map(async |client| {
        assert_eq!(client.text().await, "last words");
        // Sent before the client knows; the server has begun to leave.
        client.send("sent while leaving").await;
        assert_eq!(client.closed().await, 1012);
        begun.elapsed()
    }))
    .await;
    assert_eq!(shutdown.await.unwrap(), Vec::<&str>::new(), "nothing had to be dropped");
    {
        let frames = fleet.notes.frames.lock();
        for number in 0..60 {
            assert!(frames.contains(&format!("slow 100 from {number}")));
        }
        assert_eq!(frames.iter().filter(|frame| *frame == "sent while leaving").count(), 60);
    }
    let spread = (*closed.iter().max().unwrap())
        .checked_sub(*closed.iter().min().unwrap())
        .unwrap();
    assert!(spread > Duration::from_millis(80), "all at once: {spread:?}");
    let mut late = fleet.connect_only("name=late").await;
    assert_eq!(late.closed().await, 1012);
}

#[tokio::test]
async fn a_drain_handles_what_was_sent_however_long_it_takes_within_the_budget() {
    let fleet = Fleet::start(limits()).await;
    let mut client = fleet.connect("name=kim").await;
    for number in 0..6 {
        client.send(&format!("slow 500 from {number}")).await;
    }
    let lifecycle = fleet.context.lifecycle.clone();
    let shutdown = tokio::spawn(async move { lifecycle.shutdown(Duration::from_secs(20)).await });
    assert_eq!(client.closed().await, 1012);
    assert_eq!(shutdown.await.unwrap(), Vec::<&str>::new(), "nothing had to be dropped");
    assert_eq!(fleet.notes.frames.lock().len(), 6);
}
