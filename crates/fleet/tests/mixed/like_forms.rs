//! Our feed beside the older version of the Spring notice, which has sockets and takes nicknames.

use sosohappy_bus::Start;
use sosohappy_events::types::{Device, DeviceTokenSet};
use sosohappy_fleet::app::{Addresses, NewPost, Phone, Tokens};
use sosohappy_testkit::spring::{LikeForm, SpringNotice};
use sosohappy_testkit::{Bed, EngineSet, Person, eventually};

use super::one_collection::person;

const DATE: i64 = 2_023_090_513_248_392;

/// Returns the app of an account, which is signed in.
fn phone(person: &Person, feed: &str, notice: &str) -> Phone {
    let addresses = Addresses {
        feed: feed.to_owned(),
        notice: notice.to_owned(),
        ..Addresses::behind(feed)
    };
    let mut phone = Phone::new(addresses, "nobody@example.com", "kakao").expect("a phone");
    person.nickname.clone_into(&mut phone.nickname);
    phone.tokens = Some(Tokens {
        account: person.account.as_str().to_owned(),
        access: format!("Bearer {}", person.token),
        refresh: String::new(),
    });
    phone
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_names_the_author_as_the_version_with_sockets_reads_it() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let more = [("fleet.spring", "notice"), ("fleet.spring-notice-like", "nickname")];
    let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, &more).await;
    let built = sosohappy_feed::build(settings, bed.context(sosohappy_feed::SERVICE), bed.bus.clone()).await;
    let feed = bed.start(built).await;
    let (kim, lee) = (person(&bed, "kim").await, person(&bed, "lee").await);
    let device = Device {
        session: lee.session,
        token: "device-of-lee".to_owned(),
        since: bed.context.clock.now(),
    };
    bed.publish(DeviceTokenSet::all(lee.account.clone(), vec![device]))
        .await;
    let notice = SpringNotice::start(&bed.bus, LikeForm::Nickname, Start::Earliest).await;
    eventually("the Spring notice knows the author", async || {
        notice.knows(lee.account.as_str(), "lee").then_some(())
    })
    .await;
    let [kim, lee] = [&kim, &lee].map(|person| phone(person, &feed.url, notice.url()));
    for number in [0, 100_000_000] {
        let post = NewPost {
            date: DATE + number,
            text: "바다",
            pictures: &[],
        };
        lee.save_post(&post).await.expect("the post is saved");
    }

    let mut socket = eventually("the socket opens", async || lee.connect_notice().await.ok()).await;
    assert!(kim.toggle_like("lee", DATE).await.expect("liked"));
    let frame: serde_json::Value = serde_json::from_str(&socket.text().await.expect("a frame")).expect("JSON");
    assert_eq!(frame["data"]["liker"], "kim");
    assert_eq!(frame["data"]["date"], DATE);

    drop(socket);
    let pushed = async || {
        // The notice may not have seen the end of the socket yet: each like is of a post anew.
        kim.toggle_like("lee", DATE + 100_000_000).await.ok()?;
        notice.pushes().into_iter().next()
    };
    let push = eventually("a like without a socket is pushed", pushed).await;
    assert_eq!(push.token, "device-of-lee");
    assert_eq!(push.body, "kim님이 lee님의 행복을 응원합니다🩷");
}
