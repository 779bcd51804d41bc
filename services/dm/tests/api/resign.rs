use std::time::Duration;

use serde_json::json;
use sosohappy_bus::Start;
use sosohappy_events::types::{AccountErased, AccountResigned, AccountStateChanged, State};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, Socket, eventually, on_both_engines};
use tokio::time::timeout;

use super::{DATE, Dm, message, two};

on_both_engines!(
    a_resignation_closes_sockets_and_erases_messages,
    a_suspension_closes_sockets
);

async fn a_resignation_closes_sockets_and_erases_messages(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let (mut from_kim, mut from_lee) = (dm.connect(&kim).await, dm.connect(&lee).await);
    from_kim.send(message("kim", "lee", DATE, "from").to_string()).await;
    assert_eq!(from_lee.json().await["text"], "from");
    from_lee.send(message("lee", "kim", DATE + 1, "to").to_string()).await;
    assert_eq!(from_kim.json().await["text"], "to");
    let others = message("lee", "park", DATE + 2, "between others");
    from_lee.send(others.to_string()).await;
    eventually("all are stored", async || {
        (dm.newest(&park).await == json!([others])).then_some(())
    })
    .await;

    let mut receipts = bed.bus.read(&[Topic::Erased], Start::Earliest).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    bed.forget(&kim);
    let resignation = bed
        .publish(AccountResigned {
            account: kim.account.clone(),
            nickname: "kim".to_owned(),
        })
        .await;
    assert_eq!(from_kim.closed().await, 1008);
    let record = timeout(PATIENCE, receipts.next())
        .await
        .expect("a receipt comes")
        .unwrap();
    let receipt = Envelope::<AccountErased>::decode(&record).unwrap().event;
    let expected = AccountErased {
        account: kim.account.clone(),
        service: "dm-service".into(),
        resignation: resignation.meta.id,
    };
    assert_eq!(receipt, expected);
    assert_eq!(dm.newest(&lee).await, json!([others]));

    // The same address signs up again, and the resignation is delivered again.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let mut again = dm.connect(&kim).await;
    assert_eq!(dm.newest(&kim).await, json!([]), "who comes back starts empty");
    again.send(message("kim", "lee", DATE + 3, "back").to_string()).await;
    assert_eq!(from_lee.json().await["text"], "back");
    bed.publish_again(&resignation).await;
    let record = timeout(PATIENCE, receipts.next())
        .await
        .expect("a receipt comes again, for auth has not got the first")
        .unwrap();
    assert_eq!(Envelope::<AccountErased>::decode(&record).unwrap().event, expected);
    assert!(again.silent_for(Duration::from_millis(100)).await);
    assert_eq!(
        dm.history(&kim, "lee").await,
        json!([message("kim", "lee", DATE + 3, "back")])
    );
}

async fn a_suspension_closes_sockets(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut suspended, mut other) = (dm.connect(&kim).await, dm.connect(&lee).await);
    tokio::time::sleep(Duration::from_millis(5)).await;
    bed.publish(AccountStateChanged {
        account: kim.account.clone(),
        state: State::Suspended,
    })
    .await;
    assert_eq!(suspended.closed().await, 1008);
    eventually("the token is refused", async || {
        let url = dm.running.socket_at("/dm-service/connect-dm?nickname=kim");
        Socket::connect(&url, Some(&kim)).await.is_err().then_some(())
    })
    .await;
    other.send(message("lee", "lee", DATE, "still here").to_string()).await;
    assert_eq!(other.json().await["text"], "still here");
}
