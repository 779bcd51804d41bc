use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sosohappy_common::clock::{Clock as _, ManualClock, SystemClock};
use sosohappy_realtime::OnShown;

use crate::support::{Client, Fleet, PATIENCE, account, limits, until};

#[tokio::test]
async fn frames_arrive_in_the_order_sent_on_every_socket_of_the_account() {
    let fleet = Fleet::start(sosohappy_realtime::Limits {
        queue: 1000,
        ..limits()
    })
    .await;
    let mut phone = fleet.connect("name=kim").await;
    let mut tablet = fleet.connect("name=kim&session=2").await;
    let mut other = fleet.connect("name=lee").await;
    for number in 0..500 {
        assert_eq!(fleet.hub.send(&account("kim"), &number.to_string()), 2);
    }
    assert_eq!(fleet.hub.send(&account("lee"), "for lee"), 1);
    assert_eq!(fleet.hub.send(&account("park"), "for nobody"), 0);
    for number in 0..500 {
        assert_eq!(phone.text().await, number.to_string());
        assert_eq!(tablet.text().await, number.to_string());
    }
    assert_eq!(other.text().await, "for lee");
    assert!(fleet.counted("sosohappy_socket_frames_total", "direction", "out", 1001));
}

#[tokio::test]
async fn answers_come_back_on_the_same_socket_in_order() {
    let fleet = Fleet::start(limits()).await;
    let mut phone = fleet.connect("name=kim").await;
    let mut tablet = fleet.connect("name=kim&session=2").await;
    for number in 0..100 {
        phone.send(&format!("echo {number}")).await;
    }
    for number in 0..100 {
        assert_eq!(phone.text().await, number.to_string());
    }
    tablet.send("echo tablet").await;
    assert_eq!(tablet.text().await, "tablet");
}

#[tokio::test]
async fn frames_reach_a_client_whose_own_frame_is_being_worked_on() {
    let fleet = Fleet::start(limits()).await;
    let mut phone = fleet.connect("name=kim").await;
    phone.send("slow 4000").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    fleet.hub.send(&account("kim"), "meanwhile");
    assert_eq!(phone.text().await, "meanwhile");
    assert!(fleet.notes.frames.lock().is_empty(), "waited for the slow frame");
}

#[tokio::test]
async fn an_account_is_online_while_it_has_a_socket() {
    let fleet = Fleet::start(limits()).await;
    assert!(!fleet.hub.online(&account("kim")));
    let mut phone = fleet.connect("name=kim").await;
    let tablet = fleet.connect("name=kim&session=2").await;
    assert!(fleet.hub.online(&account("kim")) && !fleet.hub.online(&account("lee")));
    phone.0.close(None).await.unwrap();
    until("one socket is gone", || fleet.ended() == 1).await;
    assert!(fleet.hub.online(&account("kim")));
    drop(tablet);
    until("both are gone", || fleet.ended() == 2).await;
    assert!(!fleet.hub.online(&account("kim")));
    assert!(fleet.counted("sosohappy_sockets_open", "application", "test-service", 0));
    assert!(fleet.counted("sosohappy_sockets_closed_total", "reason", "normal", 1));
    assert!(fleet.counted("sosohappy_sockets_closed_total", "reason", "gone", 1));
}

#[tokio::test]
async fn frames_older_than_a_socket_are_left_to_the_history() {
    let clock = ManualClock::at(SystemClock.now());
    let fleet = Fleet::start_at(clock.clone()).await;
    let before = clock.now();
    let mut early = fleet.connect("name=kim&session=1").await;
    let between = clock.now();
    // More than the clocks of two replicas may differ.
    clock.advance(Duration::from_millis(2300));
    let mut late = fleet.connect("name=kim&session=2").await;
    assert_eq!(
        fleet.hub.send_as_of(
            &account("kim"),
            "older than both",
            before - Duration::from_secs(3),
            None
        ),
        0
    );
    assert_eq!(fleet.hub.send_as_of(&account("kim"), "for the first", between, None), 1);
    assert_eq!(
        fleet
            .hub
            .send_as_of(&account("kim"), "for both", fleet.context.clock.now(), None),
        2
    );
    assert_eq!(early.text().await, "for the first");
    assert_eq!(early.text().await, "for both");
    assert_eq!(late.text().await, "for both");
}

#[tokio::test]
async fn a_socket_of_the_last_moment_is_not_online_well_before() {
    let clock = ManualClock::at(SystemClock.now());
    let fleet = Fleet::start_at(clock.clone()).await;
    let _early = fleet.connect("name=kim&session=1").await;
    let well_before = |name: &str| fleet.hub.online_well_before(&account(name), clock.now());
    assert!(!well_before("kim"), "just opened");
    assert!(fleet.hub.online_before(&account("kim"), clock.now()));
    assert!(!fleet.hub.online_before(&account("lee"), clock.now()), "lee has none");
    clock.advance(Duration::from_secs(1));
    assert!(well_before("kim"));
    assert!(!well_before("lee"), "lee has none");
    let _late = fleet.connect("name=kim&session=2").await;
    assert!(!well_before("kim"), "one of the two is younger");
    clock.advance(Duration::from_secs(1));
    assert!(well_before("kim"));
}

#[tokio::test]
async fn a_late_repetition_reaches_no_younger_socket() {
    let clock = ManualClock::at(SystemClock.now());
    let fleet = Fleet::start_at(clock.clone()).await;
    let happened_at = clock.now();
    clock.advance(Duration::from_millis(20));
    let mut client = fleet.connect("name=kim&session=1").await;
    let tell = |frame: &str| fleet.hub.send_as_of(&account("kim"), frame, happened_at, None);
    assert_eq!(tell("at first"), 1, "its clock may be the one that is wrong");
    clock.advance(Duration::from_millis(3100));
    assert_eq!(tell("again"), 0);
    assert_eq!(client.text().await, "at first");
}

#[tokio::test]
async fn a_client_that_has_its_connection_misses_nothing() {
    let fleet = Fleet::start(limits()).await;
    for number in 0..50 {
        let mut client = fleet.connect_only(&format!("name=person{number}")).await;
        let now = fleet.context.clock.now();
        assert_eq!(
            fleet
                .hub
                .send_as_of(&account(&format!("person{number}")), "at once", now, None),
            1
        );
        assert_eq!(client.text().await, "at once");
    }
}

/// Sends a frame that counts when it is shown.
fn counted(fleet: &Fleet, frame: &str, shown: &Arc<AtomicUsize>) -> usize {
    let shown = shown.clone();
    let on_shown = OnShown::new(move || {
        shown.fetch_add(1, Ordering::Relaxed);
    });
    fleet.hub.send_reporting(&account("kim"), frame, &on_shown)
}

/// Reads, answering pings, until something holds.
async fn reads_until(client: &mut Client, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened");
        let _nothing = tokio::time::timeout(Duration::from_millis(20), client.next()).await;
    }
}

/// Reads until nothing comes any more, answering pings.
async fn quiet(client: &mut Client) {
    while tokio::time::timeout(Duration::from_millis(200), client.next())
        .await
        .is_ok()
    {}
}

#[tokio::test]
async fn a_frame_is_shown_when_its_client_has_answered_the_ping_behind_it() {
    let fleet = Fleet::start(limits()).await;
    let shown = Arc::new(AtomicUsize::new(0));
    let (mut phone, _half_open) = (
        fleet.connect("name=kim").await,
        fleet.connect("name=kim&session=2").await,
    );
    assert_eq!(counted(&fleet, "one", &shown), 2);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shown.load(Ordering::Relaxed), 0, "written, and nothing heard");
    assert_eq!(phone.text().await, "one");
    reads_until(&mut phone, || shown.load(Ordering::Relaxed) == 1).await;
    quiet(&mut phone).await;
    assert_eq!(shown.load(Ordering::Relaxed), 1);
    // Again, on the same socket, and several at once behind one ping.
    for _ in 0..5 {
        counted(&fleet, "more", &shown);
    }
    reads_until(&mut phone, || shown.load(Ordering::Relaxed) == 6).await;
}

#[tokio::test]
async fn any_later_frame_of_the_client_is_a_sign_of_life() {
    let fleet = Fleet::start(limits()).await;
    let shown = Arc::new(AtomicUsize::new(0));
    let mut phone = fleet.connect("name=kim").await;
    phone.send("before").await;
    until("it is read", || !fleet.notes.frames.lock().is_empty()).await;
    counted(&fleet, "one", &shown);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(shown.load(Ordering::Relaxed), 0);
    phone.send("after").await;
    until("shown", || shown.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_cut_socket_has_not_shown_what_was_queued_or_unanswered() {
    let fleet = Fleet::start(limits()).await;
    let shown = Arc::new(AtomicUsize::new(0));
    let phone = fleet.connect("name=kim").await;
    counted(&fleet, "written, never answered", &shown);
    tokio::time::sleep(Duration::from_millis(100)).await;
    // As many at once as the queue does not take: the socket is cut.
    while counted(&fleet, "queued", &shown) > 0 {}
    drop(phone);
    until("it is gone", || !fleet.hub.online(&account("kim"))).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shown.load(Ordering::Relaxed), 0);
}
