use std::time::Duration;

use sosohappy_events::Topic;
use sosohappy_events::types::SessionExpired;
use sosohappy_notice::{DEFAULTS, SERVICE, Settings, build};
use sosohappy_testkit::{Bed, CountingBus, Socket, on_both_engines};

use crate::fleet::{connect, kim, lee, replica};

on_both_engines!(
    a_revocation_reaches_tokens_and_sockets_through_one_reader,
    the_socket_of_a_revoked_session_is_closed_when_no_revocation_can_be_published,
);

async fn a_revocation_reaches_tokens_and_sockets_through_one_reader(bed: Bed) {
    let bus = CountingBus::new(bed.bus.clone());
    let settings = bed.settings::<Settings>("notice", DEFAULTS, &[]).await;
    let notice = bed
        .start(build(settings, bed.context(SERVICE), bus.clone()).await)
        .await;
    let readers = bus.readers();
    for topic in [Topic::AccessToken, Topic::Expired, Topic::Resign, Topic::AccountState] {
        assert_eq!(readers.get(&topic), Some(&1), "{topic:?}");
    }
    assert!(readers.values().all(|readers| *readers == 1), "{readers:?}");

    let kim = kim(&bed).await;
    let mut socket = connect(&notice, &kim).await;
    bed.publish(SessionExpired {
        account: kim.account.clone(),
        session: Some(kim.session),
    })
    .await;
    assert_eq!(socket.closed().await, 1008);
    let url = notice.socket_at("/notice-service/connect-notice?nickname=kim");
    assert!(Socket::connect(&url, Some(&kim)).await.is_err(), "the token is refused");
}

/// As after a crash of auth between its answer and its relay, and while the broker is unavailable: the fake auth knows of the
/// revocation, no topic does, heartbeats have ended, and the person makes no call.
async fn the_socket_of_a_revoked_session_is_closed_when_no_revocation_can_be_published(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = connect(&notice, &kim).await;
    let mut stays = connect(&notice, &lee).await;

    bed.stop_heartbeats();
    bed.forget(&kim);
    assert_eq!(socket.closed().await, 1008);
    let closed = tokio::time::timeout(Duration::from_secs(1), stays.closed()).await;
    assert!(closed.is_err(), "auth still knows this one: {closed:?}");
}
