use std::time::Duration;

use sosohappy_events::Topic;
use sosohappy_events::types::{AccountResigned, AccountStateChanged, SessionExpired, State};
use sosohappy_testkit::{Bed, CountingBus, on_both_engines};

use crate::{Dm, two};

on_both_engines!(a_revocation_reaches_tokens_and_sockets_through_one_reader);

/// `Running` is ready: all readers have begun.
async fn a_revocation_reaches_tokens_and_sockets_through_one_reader(bed: Bed) {
    let bus = CountingBus::new(bed.bus.clone());
    let dm = Dm::start_on(&bed, bus.clone(), &[]).await;
    let readers = bus.readers();
    for topic in [Topic::AccessToken, Topic::Expired, Topic::Resign, Topic::AccountState] {
        assert_eq!(readers.get(&topic), Some(&1), "{topic:?}");
    }
    assert!(readers.values().all(|readers| *readers == 1), "{readers:?}");

    let (kim, lee) = two(&bed).await;
    let mut socket = dm.connect(&kim).await;
    bed.publish(SessionExpired {
        account: kim.account.clone(),
        session: Some(kim.session),
    })
    .await;
    assert_eq!(within(socket.closed()).await, 1008);
    assert_eq!(dm.status(&kim).await, 403);

    let mut socket = dm.connect(&lee).await;
    bed.publish(AccountStateChanged {
        account: lee.account.clone(),
        state: State::Suspended,
    })
    .await;
    assert_eq!(within(socket.closed()).await, 1008);
    assert_eq!(dm.status(&lee).await, 403);

    let jo = bed.person("jo@example.com+google", "jo").await;
    let mut socket = dm.connect(&jo).await;
    bed.publish(AccountResigned {
        account: jo.account.clone(),
        nickname: jo.nickname.clone(),
    })
    .await;
    assert_eq!(within(socket.closed()).await, 1008);
    assert_eq!(dm.status(&jo).await, 403);
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(2), work).await;
    done.expect("within two seconds")
}
