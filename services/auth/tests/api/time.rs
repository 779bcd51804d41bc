//! Timers.

use std::time::Duration;

use sosohappy_events::types::{AccessTokenIssued, DeviceTokenSet, SessionExpired};
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use crate::support::{Ground, KIM, LEE};

on_both_engines!(
    the_end_of_an_access_token_is_published,
    no_end_is_published_for_a_session_that_continues,
    timers_outlive_the_process,
    an_unused_session_ends,
    the_end_of_an_access_token_is_no_use_of_its_session,
    a_session_has_some_access_tokens_at_once,
    timers_that_fail_keep_no_other_from_firing,
);

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

async fn the_end_of_an_access_token_is_published(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, _other) = (ground.auth().await, ground.auth().await);
    let kim = one.sign_in(KIM).await;
    let issued = ground.watch::<AccessTokenIssued>().await.next().await.event;
    let mut expired = ground.watch::<SessionExpired>().await;
    ground.clock.advance(9 * HOUR);
    ground.clock.advance(Duration::from_millis(3_599_999));
    assert!(one.admits(&kim).await);
    ground.clock.advance(Duration::from_millis(1));
    assert!(!one.admits(&kim).await);
    let event = expired.next().await;
    assert_eq!(
        (event.event.account.as_str(), event.event.session),
        (kim.account.as_str(), Some(issued.session))
    );
    assert!(event.meta.occurred_at > issued.issued_at);
    expired.expect_silence().await;

    let renewed = one.reissue(&kim).await;
    assert!(one.admits(&renewed).await, "only the access token was over");
    let mut tokens = ground.watch::<AccessTokenIssued>().await;
    tokens.next().await;
    let token = tokens.next().await.event;
    assert!(
        token.issued_at > event.meta.occurred_at,
        "an `expired` never covers a token that came after it"
    );
}

async fn no_end_is_published_for_a_session_that_continues(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let first = auth.sign_in(KIM).await;
    ground.clock.advance(9 * HOUR);
    let second = auth.reissue(&first).await;
    ground.clock.advance(2 * HOUR);
    assert!(!auth.admits(&first).await && auth.admits(&second).await);
    let mut expired = ground.watch::<SessionExpired>().await;
    expired.expect_silence().await;
    ground.clock.advance(8 * HOUR);
    assert_eq!(expired.next().await.event.account.as_str(), first.account);
}

async fn timers_outlive_the_process(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.sign_in(KIM).await, auth.sign_in(LEE).await);
    auth.running.stop().await;
    ground.clock.advance(11 * HOUR);
    let _auth = ground.auth().await;
    let mut expired = ground.watch::<SessionExpired>().await;
    let mut told = [expired.next().await.event.account, expired.next().await.event.account].map(String::from);
    told.sort();
    assert_eq!(told, [kim.account, lee.account]);
    expired.expect_silence().await;
}

async fn an_unused_session_ends(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(KIM).await;
    ground.clock.advance(59 * DAY);
    let kim = auth.reissue(&kim).await;
    ground.clock.advance(59 * DAY);
    let kim = auth.reissue(&kim).await;
    ground.clock.advance(60 * DAY);
    auth.try_reissue(&kim.account, &kim.refresh).await.expect(403);
    let mut devices = ground.watch::<DeviceTokenSet>().await;
    let told = eventually("the device of a session that is over is forgotten", async || {
        let event = devices.next().await.event;
        event.token.is_none().then_some(event)
    })
    .await;
    assert_eq!(told.devices, Some(Vec::new()));
}

/// Of two sessions the one that was used later stays, though the end of the other's token was published later.
async fn the_end_of_an_access_token_is_no_use_of_its_session(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("sessions.per-account", "2")]).await;
    let mut expired = ground.watch::<SessionExpired>().await;
    let old = auth.sign_in(KIM).await;
    ground.clock.advance(9 * HOUR);
    let new = auth.sign_in(KIM).await;
    ground.clock.advance(HOUR);
    expired.next().await;
    auth.sign_in(KIM).await;
    auth.try_reissue(&old.account, &old.refresh).await.expect(403);
    auth.reissue(&new).await;
}

async fn a_session_has_some_access_tokens_at_once(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let mut people = vec![auth.sign_in(KIM).await];
    for _ in 0..10 {
        ground.clock.advance(Duration::from_secs(1));
        let last = people.last().expect("one signed in");
        people.push(auth.reissue(last).await);
    }
    let mut admitted = Vec::new();
    for person in &people {
        admitted.push(auth.admits(person).await);
    }
    assert_eq!(admitted, [[false; 3].as_slice(), &[true; 8]].concat());
}

async fn timers_that_fail_keep_no_other_from_firing(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (_kim, lee) = (auth.sign_in(KIM).await, auth.sign_in(LEE).await);
    let mut expired = ground.watch::<SessionExpired>().await;
    let broken = "UPDATE session SET stamped_at = 9223372036854775807 WHERE account = 'kim@example.com+kakao'";
    assert_eq!(ground.bed.sql("auth", broken).await, 1);
    let invalid = "INSERT INTO timer (kind, timer_key, fire_at) VALUES ('access-token', 'not a session', 1)";
    assert_eq!(ground.bed.sql("auth", invalid).await, 1);

    ground.clock.advance(11 * HOUR);
    assert_eq!(expired.next().await.event.account.as_str(), lee.account);
    expired.expect_silence().await;
    let postponed = "UPDATE timer SET attempts = 0 WHERE kind = 'access-token' AND attempts = 1";
    eventually("the failing timer is postponed", async || {
        (ground.bed.sql("auth", postponed).await == 1).then_some(())
    })
    .await;
    let quarantined = "DELETE FROM timer WHERE kind = 'quarantined:access-token' AND timer_key = 'not a session'";
    assert_eq!(ground.bed.sql("auth", quarantined).await, 1);

    // Repaired, it fires when it is due again.
    let repaired = "UPDATE session SET stamped_at = 1 WHERE account = 'kim@example.com+kakao'";
    assert_eq!(ground.bed.sql("auth", repaired).await, 1);
    ground.clock.advance(HOUR);
    assert_eq!(expired.next().await.event.account.as_str(), KIM_ACCOUNT);
}

const KIM_ACCOUNT: &str = "kim@example.com+kakao";
