use sosohappy_events::Topic;
use sosohappy_events::types::SessionExpired;
use sosohappy_notice::{DEFAULTS, SERVICE, Settings, build};
use sosohappy_testkit::{Bed, CountingBus, Socket, on_both_engines};

use crate::fleet::{connect, kim};

on_both_engines!(a_revocation_reaches_tokens_and_sockets_through_one_reader);

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
