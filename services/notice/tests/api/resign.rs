use serde_json::Value;
use sosohappy_bus::Start;
use sosohappy_events::types::{AccountErased, AccountResigned};
use sosohappy_events::{Envelope, Event as _};
use sosohappy_testkit::{Bed, PATIENCE, eventually, on_both_engines};

use crate::fleet::{
    AT_ONCE, DATE, QUIET, applied, connect, counted, device, find, frame, kim, lee, like, pushes, replica,
};

async fn a_resignation_closes_erases_and_is_acknowledged(bed: Bed) {
    let (one, other) = (replica(&bed, &[]).await, replica(&bed, &[]).await);
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut sockets = [connect(&one, &kim).await, connect(&other, &kim).await];
    let mut of_lee = connect(&one, &lee).await;
    let before = Envelope::new(like(&kim, &lee, DATE), &bed.context);

    bed.forget(&kim);
    let resignation = bed
        .publish(AccountResigned {
            account: kim.account.clone(),
            nickname: kim.nickname.clone(),
        })
        .await;
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, 1008);
    }
    let receipt = find::<AccountErased>(&bed, |receipt| receipt.service == "notice-service").await;
    assert_eq!(
        (&receipt.event.account, receipt.event.resignation),
        (&kim.account, resignation.meta.id)
    );

    // What they did before comes late, and changes nothing.
    bed.publish_again(&before).await;
    assert!(of_lee.silent_for(QUIET).await);
}

/// For some seconds after a resignation other services take a token of the account.
async fn what_an_older_token_did_since_is_neither_shown_nor_pushed(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (before, lee) = (kim(&bed).await, lee(&bed).await);
    let issued_at = bed.context.clock.now();
    let (mut of_kim, mut of_lee) = (connect(&notice, &before).await, connect(&notice, &lee).await);
    device(&bed, &lee, "phone").await;
    bed.forget(&before);
    bed.publish(AccountResigned {
        account: before.account.clone(),
        nickname: before.nickname.clone(),
    })
    .await;
    assert_eq!(of_kim.closed().await, 1008);
    find::<AccountErased>(&bed, |_| true).await;
    let late = Envelope::new(like(&before, &lee, DATE), &bed.context).authorized(issued_at);
    bed.publish_again(&late).await;
    applied(&notice, "noticeLike", 1).await;
    assert!(of_lee.silent_for(QUIET).await);
    assert_eq!(counted(&notice, "notice_pushes_total", &[("kind", "like")]).await, 0);

    // The one who signs up again with the address is another person.
    let again = kim(&bed).await;
    let issued_at = bed.context.clock.now();
    let like = Envelope::new(like(&again, &lee, DATE + 1), &bed.context).authorized(issued_at);
    bed.publish_again(&like).await;
    assert_eq!(of_lee.text().await, frame("kim", DATE + 1));
    applied(&notice, "noticeLike", 2).await;
    let inbox = notice.at("/notice-service/findNotice");
    let inbox = lee.sign(sosohappy_common::tls::client().get(inbox)).send().await;
    let inbox: Value = inbox.expect("an answer").json().await.expect("JSON");
    assert_eq!(inbox["content"].as_array().map(Vec::len), Some(1), "{inbox}");
}

async fn the_resignation_again_is_answered_again(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    let resignation = bed
        .publish(AccountResigned {
            account: kim.account.clone(),
            nickname: kim.nickname.clone(),
        })
        .await;
    // Two receipts that wait at once are one.
    find::<AccountErased>(&bed, |_| true).await;
    bed.publish_again(&resignation).await;
    applied(&notice, "resign", 2).await;

    let mut reader = bed
        .bus
        .read(&[AccountErased::TOPIC], Start::Earliest)
        .await
        .expect("the bus can be read");
    for _ in 0..2 {
        let receipt = tokio::time::timeout(PATIENCE, reader.next()).await;
        let receipt = receipt.expect("each is answered").expect("the bus can be read");
        let receipt = Envelope::<AccountErased>::decode(&receipt).expect("a receipt").event;
        assert_eq!(receipt.resignation, resignation.meta.id);
    }
}

async fn who_signs_up_again_starts_anew(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (before, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &before, "old phone").await;
    applied(&notice, "deviceToken", 1).await;
    bed.forget(&before);
    bed.publish(AccountResigned {
        account: before.account.clone(),
        nickname: before.nickname.clone(),
    })
    .await;
    find::<AccountErased>(&bed, |_| true).await;
    // The next moment: times are in milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;

    let again = kim(&bed).await;
    bed.publish(like(&lee, &again, DATE)).await;
    eventually("no device of before gets a push", async || {
        (pushes(&notice, "like", "no-device").await == 1).then_some(())
    })
    .await;
    // A socket may be shown what happened up to a quarter of a second before it was opened.
    tokio::time::sleep(QUIET).await;
    let mut socket = connect(&notice, &again).await;
    bed.publish(like(&lee, &again, DATE + 1)).await;
    assert_eq!(socket.text().await, frame("lee", DATE + 1));
}

on_both_engines!(
    a_resignation_closes_erases_and_is_acknowledged,
    what_an_older_token_did_since_is_neither_shown_nor_pushed,
    the_resignation_again_is_answered_again,
    who_signs_up_again_starts_anew,
);
