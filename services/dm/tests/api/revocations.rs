use std::time::{Duration, Instant};

use sosohappy_common::clock::{Clock as _, ManualClock, SystemClock};
use sosohappy_events::Topic;
use sosohappy_events::types::{AccountResigned, AccountStateChanged, SessionExpired, State};
use sosohappy_testkit::{Bed, CountingBus, EngineSet, PATIENCE, Socket, eventually, on_both_engines};

use crate::stream::open;
use crate::{DATE, Dm, message, two};

on_both_engines!(
    a_revocation_reaches_tokens_and_sockets_through_one_reader,
    an_expired_token_closes_its_sockets_within_five_seconds,
    revoked_sessions_end_within_two_seconds_when_no_revocation_can_be_published,
);

/// `Running` is ready: all readers have begun.
async fn a_revocation_reaches_tokens_and_sockets_through_one_reader(bed: Bed) {
    let bus = CountingBus::new(bed.bus.clone());
    let dm = Dm::start_on(&bed, bus.clone(), &[]).await;
    let readers = bus.readers();
    for topic in [Topic::AccessToken, Topic::Expired, Topic::Resign, Topic::AccountState] {
        assert_eq!(readers.get(&topic), Some(&1), "{topic:?}");
    }
    assert!(readers.values().all(|readers| *readers == 1), "{readers:?}");

    let mut took = Vec::new();
    let (kim, lee) = two(&bed).await;
    let mut socket = dm.connect(&kim).await;
    bed.publish(SessionExpired {
        account: kim.account.clone(),
        session: Some(kim.session),
    })
    .await;
    took.push(closed_after(&mut socket).await);
    assert_eq!(dm.status(&kim).await, 403);

    let mut socket = dm.connect(&lee).await;
    bed.publish(AccountStateChanged {
        account: lee.account.clone(),
        state: State::Suspended,
    })
    .await;
    took.push(closed_after(&mut socket).await);
    assert_eq!(dm.status(&lee).await, 403);

    let jo = bed.person("jo@example.com+google", "jo").await;
    let mut socket = dm.connect(&jo).await;
    bed.publish(AccountResigned {
        account: jo.account.clone(),
        nickname: jo.nickname.clone(),
    })
    .await;
    took.push(closed_after(&mut socket).await);
    assert_eq!(dm.status(&jo).await, 403);
    // A machine that is busy with other tests may stall one of them.
    let best = took.iter().min();
    assert!(best.is_some_and(|best| *best <= PROMISED), "{took:?}");
}

/// From a revocation to its effect.
const PROMISED: Duration = Duration::from_secs(2);

/// Returns how long the socket stays open.
async fn closed_after(socket: &mut Socket) -> Duration {
    let began = Instant::now();
    assert_eq!(socket.closed().await, 1008);
    began.elapsed()
}

async fn an_expired_token_closes_its_sockets_within_five_seconds(bed: Bed) {
    let clock = ManualClock::at(SystemClock.now());
    let dm = Dm::start_with_clock(&bed, clock.clone()).await;
    let (kim, lee) = two(&bed).await;
    let mut sockets = Vec::new();
    for person in [&kim, &lee] {
        sockets.push(dm.connect(person).await);
        sockets.push(open(&dm, person, "").await);
    }
    // Tokens of a bed are valid for an hour from the moment at which they were issued, which the clock has not reached.
    clock.advance(Duration::from_hours(2));
    let began = Instant::now();
    let mut took = Vec::new();
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, 4403);
        took.push(began.elapsed());
    }
    // A machine that is busy with other tests may stall one of them.
    let best = took.iter().min();
    assert!(best.is_some_and(|best| *best <= Duration::from_secs(5)), "{took:?}");
}

/// As after a crash of auth between its answer and its relay, and while the broker is unavailable: the fake auth knows of the
/// revocation, no topic does, and heartbeats have ended.
async fn revoked_sessions_end_within_two_seconds_when_no_revocation_can_be_published(bed: Bed) {
    let dm = Dm::start(&bed).await;
    // The best of six: missing heartbeats are noticed half a second before the time has passed, and a machine that is busy with other
    // tests takes longer for what follows.
    let mut took = Vec::new();
    while took.len() < 6 && took.last().is_none_or(|took| *took > PROMISED) {
        bed.resume_heartbeats();
        took.push(revoked_without_a_record(&bed, &dm).await);
    }
    let best = took.iter().min();
    assert!(best.is_some_and(|best| *best <= PROMISED), "{took:?}");
}

/// Returns how long the tokens and the sockets of revoked sessions live: of a person who calls, and of one who only has a socket.
async fn revoked_without_a_record(bed: &Bed, dm: &Dm) -> Duration {
    let (kim, lee) = two(bed).await;
    let jo = bed.person("jo@example.com+google", "jo").await;
    let mut socket = dm.connect(&kim).await;
    let mut silent = dm.connect(&jo).await;
    let mut stays = dm.connect(&lee).await;
    // A heartbeat after the token: it is admitted without a call.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(dm.status(&kim).await, 200);

    bed.stop_heartbeats();
    bed.forget(&kim);
    bed.forget(&jo);
    let began = Instant::now();
    let refused = eventually("the token is refused", async || {
        (dm.status(&kim).await == 403).then_some(())
    });
    let ((), code, silent_code) = tokio::join!(refused, socket.closed(), silent.closed());
    let took = began.elapsed();
    assert_eq!((code, silent_code), (1008, 1008));
    assert_eq!(dm.status(&lee).await, 200, "auth still knows this one");
    let closed = tokio::time::timeout(Duration::from_secs(1), stays.closed()).await;
    assert!(closed.is_err(), "its socket stays: {closed:?}");
    took
}

/// As above, for a block, which does not depend on the engine: the fake auth knows of it, and no topic does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_holds_within_two_seconds_when_it_cannot_be_published() {
    let bed = Bed::new(EngineSet::Embedded).await;
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (dm.connect(&kim).await, dm.connect(&lee).await);
    let mut date = DATE;
    // The best of six, for the same reason.
    let mut took = Vec::new();
    while took.len() < 6 && took.last().is_none_or(|took| *took > PROMISED) {
        bed.resume_heartbeats();
        bed.set_block(&lee, &kim, false);
        eventually("a message is delivered", async || {
            date += 1;
            is_delivered(&mut from, &mut to, date).await.then_some(())
        })
        .await;
        bed.stop_heartbeats();
        bed.set_block(&lee, &kim, true);
        let began = Instant::now();
        date += 1;
        while is_delivered(&mut from, &mut to, date).await {
            assert!(
                began.elapsed() < PATIENCE,
                "messages of the blocked person are delivered"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
            date += 1;
        }
        took.push(began.elapsed());
    }
    let best = took.iter().min();
    assert!(best.is_some_and(|best| *best <= PROMISED), "{took:?}");
}

/// Sends a message; returns false when its sender is refused.
async fn is_delivered(from: &mut Socket, to: &mut Socket, date: i64) -> bool {
    from.send(message("kim", "lee", date, "hello").to_string()).await;
    tokio::select! {
        refused = from.json() => {
            assert_eq!(refused["error"]["code"], "not-delivered");
            false
        }
        delivered = to.json() => {
            assert_eq!(delivered["text"], "hello");
            true
        }
    }
}
