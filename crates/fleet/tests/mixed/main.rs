//! Our services together with fake Spring services on the real engines: every combination of the four, each with a scenario of three
//! users.

mod catching_up;
mod fleet;
mod like_forms;
mod one_collection;
mod rooms;

use std::time::Duration;

use reqwest::StatusCode;
use sosohappy_common::Service;
use sosohappy_fleet::app::{Message, NewPost, Phone};
use sosohappy_testkit::{Bed, EngineSet, eventually};

use fleet::Fleet;

const DATE: i64 = 2_023_090_513_248_392;

macro_rules! combinations {
    ($($name:ident: $($spring:ident),*;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if EngineSet::real_is_there() {
                let spring: &[Service] = &[$(Service::$spring),*];
                // The future of the scenario is too large for the stack.
                Box::pin(scenario(Bed::new(EngineSet::Real).await, spring)).await;
            }
        }
    )+};
}

combinations! {
    ours:;
    spring_auth: Auth;
    spring_feed: Feed;
    spring_dm: Dm;
    spring_notice: Notice;
    spring_auth_feed: Auth, Feed;
    spring_auth_dm: Auth, Dm;
    spring_auth_notice: Auth, Notice;
    spring_feed_dm: Feed, Dm;
    spring_feed_notice: Feed, Notice;
    spring_dm_notice: Dm, Notice;
    spring_auth_feed_dm: Auth, Feed, Dm;
    spring_auth_feed_notice: Auth, Feed, Notice;
    spring_auth_dm_notice: Auth, Dm, Notice;
    spring_feed_dm_notice: Feed, Dm, Notice;
    spring_auth_feed_dm_notice: Auth, Feed, Dm, Notice;
}

async fn scenario(bed: Bed, spring: &[Service]) {
    let fleet = Fleet::start(bed, spring).await;
    let mut kim = fleet.person("kim").await;
    let lee = fleet.person("lee").await;

    save(&kim, "바다").await;
    save(&lee, "커피").await;
    a_like_reaches_the_author(&fleet, &kim, &lee).await;
    messages_arrive_and_are_pushed(&fleet, &kim, &lee).await;
    reissued_tokens_work(&mut kim).await;
    let mut second = fleet.phone("kim");
    a_second_device_works(&mut second).await;
    posts_follow_a_rename(&mut second, &lee).await;
    a_name_taken_after_a_resignation_keeps_its_posts(&fleet, &second, &lee).await;
    assert_eq!(fleet.stalls(), 0, "null values block Spring listeners");
}

/// Saves a post. Retries, because the token or the nickname may not have reached feed yet.
async fn save(who: &Phone, text: &str) {
    let post = NewPost {
        date: DATE,
        text,
        pictures: &[],
    };
    eventually("the post is saved", async || who.save_post(&post).await.ok()).await;
}

async fn a_like_reaches_the_author(fleet: &Fleet, kim: &Phone, lee: &Phone) {
    let mut socket = if fleet.has(Service::Notice) {
        None
    } else {
        Some(eventually("the socket opens", async || lee.connect_notice().await.ok()).await)
    };
    let like = async || kim.toggle_like("lee", DATE).await.ok().filter(|liked| *liked);
    eventually("the post is liked", like).await;
    if let Some(socket) = &mut socket {
        let frame: serde_json::Value = serde_json::from_str(&socket.text().await.unwrap()).unwrap();
        assert_eq!(frame["topic"], "like");
        assert_eq!(frame["data"]["liker"], "kim");
        assert_eq!(frame["data"]["date"], DATE);
    } else {
        let pushed = async || fleet.pushes().into_iter().find(|push| push.title == "소소해피");
        let push = eventually("the like is pushed", pushed).await;
        assert_eq!(push.token, "device-of-lee@example.com");
        assert_eq!(push.body, "kim님이 lee님의 행복을 응원합니다🩷");
    }
    let posts = lee.own_day(DATE).await.unwrap().unwrap();
    assert_eq!(posts.like_nickname_list, ["kim"]);
}

fn message(text: &str, number: i64) -> Message {
    Message {
        sender: "kim".to_owned(),
        receiver: "lee".to_owned(),
        date: DATE + number,
        text: text.to_owned(),
    }
}

async fn messages_arrive_and_are_pushed(fleet: &Fleet, kim: &Phone, lee: &Phone) {
    let connect = async |who: &Phone| eventually("the socket opens", async || who.connect_dm().await.ok()).await;
    let mut of_kim = connect(kim).await;
    let mut of_lee = connect(lee).await;
    let (delivered, undelivered) = (message("안녕", 1), message("어디야", 2));
    of_kim.send(&delivered).await.unwrap();
    assert_eq!(
        serde_json::from_str::<Message>(&of_lee.text().await.unwrap()).unwrap(),
        delivered
    );
    fleet.wait_until_shown(&mut of_lee).await;
    drop(of_lee);
    fleet.wait_until_offline("lee").await;
    of_kim.send(&undelivered).await.unwrap();

    fleet.wait_for_message_push().await;
    if fleet.has(Service::Notice) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let pushes = fleet.pushes();
        let messages: Vec<_> = pushes.iter().filter(|push| push.title == "kim").collect();
        assert_eq!(
            messages.len(),
            1,
            "one push, for the message that no socket received: {pushes:?}"
        );
        assert_eq!(messages[0].token, "device-of-lee@example.com");
        assert_eq!(messages[0].body, "어디야");
    }
    for (who, other) in [(kim, "lee"), (lee, "kim")] {
        let history = who.history_with(other, DATE + 9).await.unwrap();
        assert_eq!(history, [delivered.clone(), undelivered.clone()]);
        assert_eq!(
            who.conversations().await.unwrap().as_slice(),
            std::slice::from_ref(&undelivered)
        );
    }
}

async fn reissued_tokens_work(kim: &mut Phone) {
    assert_eq!(kim.re_issue().await.unwrap(), StatusCode::OK);
    eventually("the new token works at feed", async || kim.others().await.ok()).await;
    eventually("the new token works at dm", async || kim.conversations().await.ok()).await;
}

async fn a_second_device_works(second: &mut Phone) {
    assert_eq!(second.sign_in().await.unwrap(), "kim");
    eventually("the device works at feed", async || second.others().await.ok()).await;
    eventually("the device works at dm", async || second.conversations().await.ok()).await;
}

async fn posts_follow_a_rename(kim: &mut Phone, lee: &Phone) {
    kim.set_profile("kim2", "", fleet::PNG).await.unwrap();
    let renamed = async || {
        let posts = lee.others().await.ok()?;
        posts.iter().any(|post| post.nickname == "kim2").then_some(())
    };
    eventually("the post shows the new name", renamed).await;
    eventually("the new name is known", async || kim.own_day(DATE).await.ok().flatten()).await;
}

async fn a_name_taken_after_a_resignation_keeps_its_posts(fleet: &Fleet, kim: &Phone, lee: &Phone) {
    kim.resign().await.unwrap();
    let deleted = async || lee.others().await.ok().filter(Vec::is_empty);
    eventually("the posts are deleted", deleted).await;

    let mut park = fleet.phone("park");
    park.sign_in().await.unwrap();
    let taken = async || park.set_profile("kim2", "", fleet::PNG).await.ok();
    eventually("the nickname is available again", taken).await;
    save(&park, "산").await;
    // Longer than the interval of auth's retries: a repeated `resign` must not delete the new posts.
    tokio::time::sleep(fleet::RETRY_AFTER * 3).await;
    let kept = park.own_day(DATE).await.unwrap();
    assert_eq!(kept.expect("the post is not deleted").text, "산");
    assert_eq!(fleet.unfinished_resignations().await, 0);
}

/// A Spring auth publishes nicknames at some sign-ins only, and records of topics expire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unpublished_nickname_is_accepted_from_its_own_account_only() {
    if !EngineSet::real_is_there() {
        return;
    }
    let fleet = Fleet::start(Bed::new(EngineSet::Real).await, &[Service::Auth]).await;
    let stranger = fleet.person("kim").await;
    let mut mina = fleet.unnamed("mina").await;
    assert_eq!(mina.re_issue().await.unwrap(), StatusCode::OK);

    // Else a refusal would say nothing of the name.
    eventually("the stranger's token works", async || stranger.others().await.ok()).await;
    let mut thief = stranger.clone();
    "mina".clone_into(&mut thief.nickname);
    assert_eq!(fleet.own_day_status(&thief, DATE).await, StatusCode::FORBIDDEN);
    save(&mina, "숲").await;
    assert_eq!(fleet.own_day_status(&thief, DATE).await, StatusCode::FORBIDDEN);
    let seen = stranger.others().await.unwrap();
    assert_eq!(seen[0].nickname, "mina");
}
