use std::time::Duration;

use sosohappy_bus::Start;
use sosohappy_events::types::{AccountErased, AccountResigned};
use sosohappy_events::{Envelope, Header, Topic};
use sosohappy_testkit::{Bed, PATIENCE, eventually, on_both_engines};
use tokio::time::timeout;

use super::{Feed, PNG, code, problem, read, saved};

on_both_engines!(
    a_resignation_erases_everything_up_to_its_moment,
    a_corrupt_row_stops_neither_requests_nor_the_partition,
);

const DATE: &str = "2023090513248392";

async fn a_resignation_erases_everything_up_to_its_moment(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG]).await, saved());
    feed.save(&lee, DATE, "3", "coffee").await;
    feed.like(&kim, &lee, DATE).await;
    feed.like(&lee, &kim, DATE).await;
    let mut receipts = bed.bus.read(&[Topic::Erased], Start::Earliest).await.unwrap();

    tokio::time::sleep(Duration::from_millis(5)).await;
    bed.forget(&kim);
    let event = AccountResigned {
        account: kim.account.clone(),
        nickname: "kim".to_owned(),
    };
    let resignation = bed.publish(event).await;
    let record = timeout(PATIENCE, receipts.next())
        .await
        .expect("a receipt comes")
        .unwrap();
    let receipt = Envelope::<AccountErased>::decode(&record).unwrap().event;
    assert_eq!(
        receipt,
        AccountErased {
            account: kim.account.clone(),
            service: "feed-service".into(),
            resignation: resignation.meta.id
        }
    );
    bed.publish_again(&resignation).await;
    let record = timeout(PATIENCE, receipts.next())
        .await
        .expect("another receipt comes, for auth has not got the first")
        .unwrap();
    assert_eq!(Envelope::<AccountErased>::decode(&record).unwrap().event, receipt);

    assert!(feed.sees(&lee).await.is_empty());
    assert!(feed.likers(&lee, DATE).await.is_empty());
    let (_, analysis) = feed
        .post(&lee, "analysisHappiness", &[("nickname", "lee"), ("date", DATE)])
        .await;
    assert_eq!(
        analysis,
        r#"{"bestCategoryList":["coffee"],"recommendCategoryList":["피드 작성하기"]}"#
    );
    eventually("the old token is refused", async || {
        let save = kim.sign(feed.client.post(feed.at("findFeedImage")).query(&[("imageId", "1")]));
        (code(&read(save).await) == problem(403, "access-denied")).then_some(())
    })
    .await;
    eventually("the picture is gone", async || {
        let folder = bed.folder().join("feed-images");
        let left = walk(&folder);
        (left == 0).then_some(())
    })
    .await;

    // The same address signs up again, and the resignation is delivered again.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    eventually("the new account may write", async || {
        let (_, body) = feed.save_with(&kim, DATE, &[]).await;
        (body == saved().1).then_some(())
    })
    .await;
    assert_eq!(feed.like(&kim, &lee, DATE).await.1, r#"{"like":true}"#);
    assert!(feed.likers(&kim, DATE).await.is_empty(), "who comes back starts empty");
    bed.publish_again(&resignation).await;
    let record = timeout(PATIENCE, receipts.next())
        .await
        .expect("each is answered")
        .unwrap();
    assert_eq!(Envelope::<AccountErased>::decode(&record).unwrap().event, receipt);
    assert_eq!(feed.likers(&lee, DATE).await, ["kim"]);
    assert_eq!(feed.sees(&lee).await.len(), 1);
}

fn walk(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { walk(&path) } else { 1 })
        .sum()
}

/// `cases.md` A5: an unreadable row is an internal error, and the event that needs it a dead letter.
async fn a_corrupt_row_stops_neither_requests_nor_the_partition(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&kim, DATE, "3", "coffee").await;
    feed.save(&lee, DATE, "3", "coffee").await;
    let broken = "UPDATE post SET images = 'no list' WHERE account = 'kim@example.com+kakao'";
    assert_eq!(bed.sql("feed", broken).await, 1);

    let own = [("nickname", "kim"), ("date", DATE)];
    assert_eq!(
        code(&feed.post(&kim, "findDayFeed", &own).await),
        problem(500, "internal")
    );
    let own = [("nickname", "lee"), ("date", DATE)];
    assert_eq!(feed.post(&lee, "findDayFeed", &own).await.0, 200);

    let mut receipts = bed.bus.read(&[Topic::Erased], Start::Earliest).await.unwrap();
    let mut dead = bed.bus.read_dead_letters(&[Topic::Resign]).await.unwrap();
    for person in [&kim, &lee] {
        let resigned = AccountResigned {
            account: person.account.clone(),
            nickname: person.nickname.clone(),
        };
        bed.publish(resigned).await;
    }
    let letter = timeout(PATIENCE, dead.next()).await;
    let letter = letter.expect("a dead letter comes").unwrap();
    let reason = letter.header(Header::DLT_REASON).unwrap();
    assert!(reason.starts_with("corrupt: "), "{reason}");
    let record = timeout(PATIENCE, receipts.next()).await;
    let record = record.expect("the rest goes on").unwrap();
    let receipt = Envelope::<AccountErased>::decode(&record).unwrap().event;
    assert_eq!(receipt.account, lee.account);
}
