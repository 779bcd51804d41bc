//! `fleet demo`: two people live a day with the fleet, one readable line a step.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::StatusCode;
use serde_json::json;
use sosohappy_common::clock::{Clock as _, Entropy, SystemClock, SystemEntropy};

use crate::app::{Addresses, Message, NewPost, OtherPost, Phone};

/// Nothing is sent on an un-like; waiting this long shows it.
const SILENCE: Duration = Duration::from_millis(700);

/// A PNG of one pixel of this shade, written as the services write pictures: it comes back as it was sent.
#[must_use]
pub fn picture(shade: u8) -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(1, 1, image::Luma([shade]))
        .write_to(&mut png, image::ImageFormat::Png)
        .expect("one pixel can be encoded");
    png.into_inner()
}

/// Tells each step as it happens.
#[derive(Debug)]
struct Teller {
    began: Instant,
}

impl Teller {
    fn tell(&self, line: &str) {
        println!("{:>6} ms  {line}", self.began.elapsed().as_millis());
    }
}

/// Plays the main job against a running fleet. The first step that fails ends it.
pub async fn run(addresses: Addresses) -> anyhow::Result<()> {
    let teller = Teller { began: Instant::now() };
    let entropy: &dyn Entropy = &SystemEntropy;
    let tag = entropy.hex(2);
    let date = today()?;

    let mut kim = Phone::new(addresses.clone(), &format!("kim-{tag}@example.com"), "google")?;
    let mut lee = Phone::new(addresses, &format!("lee-{tag}@example.com"), "kakao")?;
    for (phone, name) in [(&mut kim, format!("kim{tag}")), (&mut lee, format!("lee{tag}"))] {
        let nickname = phone.sign_in().await.context("signing in")?;
        ensure!(
            nickname.is_empty(),
            "a fresh account has no nickname yet, but was told {nickname}"
        );
        let introduction = format!("안녕하세요, {name}");
        phone
            .set_profile(&name, &introduction, &picture(1))
            .await
            .context("setting the profile")?;
        ensure!(
            phone.introduction_of(&name).await? == introduction,
            "the introduction reads differently"
        );
        ensure!(phone.photo_of(&name).await?.is_some(), "the photo is not there");
        teller.tell(&format!(
            "{name} signed in and has a nickname, an introduction and a photo"
        ));
    }

    let pictures = [picture(2), picture(3)];
    kim.save_post(&NewPost {
        date,
        text: "커피가 맛있었다 ☕",
        pictures: &pictures,
    })
    .await
    .context("saving a post")?;
    let own = kim.own_day(date).await?.context("today's post is not there")?;
    ensure!(
        own.image_id_list.len() == 2,
        "the post has {} pictures, not 2",
        own.image_id_list.len()
    );
    ensure!(
        kim.own_month(date).await?.iter().any(|post| post.date == date),
        "the month does not show today"
    );
    teller.tell(&format!(
        "{} saved today's happiness with two photos and reads it by day and month",
        kim.nickname
    ));

    let found = find(&lee, &kim.nickname).await?;
    ensure!(
        found.image_id_list == own.image_id_list && !found.is_liked,
        "the post reads differently for others"
    );
    for (id, picture) in found.image_id_list.iter().zip(&pictures) {
        ensure!(lee.picture(*id).await? == *picture, "picture {id} is not the one sent");
    }
    teller.tell(&format!(
        "{} found it among others' posts and loaded the photos without a token",
        lee.nickname
    ));

    let mut notices = kim.connect_notice().await?;
    ensure!(lee.toggle_like(&kim.nickname, date).await?, "the like was not taken");
    let notice = notices.text().await.context("waiting for the like's notice")?;
    let expected = json!({"topic": "like", "data": {"liker": lee.nickname, "date": date}}).to_string();
    ensure!(notice == expected, "the notice is {notice}, not {expected}");
    teller.tell(&format!(
        "{} liked it; {}'s socket got {notice}",
        lee.nickname, kim.nickname
    ));
    ensure!(
        !lee.toggle_like(&kim.nickname, date).await?,
        "the like was not taken back"
    );
    ensure!(notices.silent_for(SILENCE).await?, "un-liking sent something");
    teller.tell(&format!("{} took the like back; nothing was sent", lee.nickname));
    ensure!(
        lee.toggle_like(&kim.nickname, date).await?,
        "the second like was not taken"
    );
    notices.text().await.context("waiting for the second like's notice")?;

    talk(&teller, &kim, &lee, date).await?;
    rename(&teller, &mut lee, &kim, date).await?;
    resign(&teller, &kim, &lee, notices).await?;
    lee.resign().await?;
    teller.tell(&format!("{} left too; nothing stays behind", lee.nickname));
    Ok(())
}

async fn talk(teller: &Teller, kim: &Phone, lee: &Phone, date: i64) -> anyhow::Result<()> {
    let message = |from: &Phone, to: &Phone, number: i64, text: &str| Message {
        sender: from.nickname.clone(),
        receiver: to.nickname.clone(),
        date: date + number,
        text: text.to_owned(),
    };
    let mut sockets = (kim.connect_dm().await?, lee.connect_dm().await?);
    let question = message(lee, kim, 1, "어디 카페야?");
    let answer = message(kim, lee, 2, "연남동!");
    sockets.1.send(&question).await?;
    let got: Message = serde_json::from_str(&sockets.0.text().await.context("waiting for a message")?)?;
    ensure!(got == question, "the message came as {got:?}");
    sockets.0.send(&answer).await?;
    let got: Message = serde_json::from_str(&sockets.1.text().await.context("waiting for the answer")?)?;
    ensure!(got == answer, "the answer came as {got:?}");
    teller.tell(&format!(
        "{} and {} talked over their sockets",
        lee.nickname, kim.nickname
    ));

    drop(sockets.1);
    let late = message(kim, lee, 3, "내일 같이 가자");
    sockets.0.send(&late).await?;
    let history = within("the message to someone offline is stored", async || {
        let history = lee.history_with(&kim.nickname, date + 10).await?;
        Ok((history.len() == 3).then_some(history))
    })
    .await?;
    ensure!(
        history == [question, answer, late.clone()],
        "the history reads {history:?}"
    );
    ensure!(
        lee.conversations().await? == [late],
        "the conversation list does not show the newest message"
    );
    teller.tell(&format!(
        "{} was offline for the last one; history and conversation list show it",
        lee.nickname
    ));
    Ok(())
}

async fn rename(teller: &Teller, lee: &mut Phone, kim: &Phone, date: i64) -> anyhow::Result<()> {
    let old = lee.nickname.clone();
    let new = format!("{old}2");
    lee.set_profile(&new, "새 이름", &picture(4)).await?;
    within("posts show the new nickname", async || {
        let own = kim.own_day(date).await?.context("today's post is not there")?;
        Ok((own.like_nickname_list == [new.clone()]).then_some(()))
    })
    .await?;
    within("messages show the new nickname", async || {
        let talks = kim.conversations().await?;
        Ok(talks.iter().any(|message| message.receiver == new).then_some(()))
    })
    .await?;
    ensure!(
        find(lee, &kim.nickname).await?.is_liked,
        "the like was lost with the nickname"
    );
    teller.tell(&format!("{old} is {new} now; likes and messages follow"));
    Ok(())
}

async fn resign(teller: &Teller, kim: &Phone, lee: &Phone, mut notices: crate::app::Socket) -> anyhow::Result<()> {
    let picture = kim
        .own_day(today()?)
        .await?
        .and_then(|post| post.image_id_list.first().copied());
    kim.resign().await?;
    notices.closed().await.context("waiting for the socket to be closed")?;
    within("the token is refused", async || {
        Ok((kim.knock().await? == StatusCode::FORBIDDEN).then_some(()))
    })
    .await?;
    within("the posts are gone", async || {
        Ok(lee
            .others()
            .await?
            .iter()
            .all(|post| post.nickname != kim.nickname)
            .then_some(()))
    })
    .await?;
    within("the messages are gone", async || {
        Ok(lee.conversations().await?.is_empty().then_some(()))
    })
    .await?;
    if let Some(id) = picture {
        within("the photos are gone", async || {
            Ok(lee.picture(id).await.is_err().then_some(()))
        })
        .await?;
    }
    teller.tell(&format!(
        "{} resigned: posts, messages, photos and sockets are gone, the token is refused",
        kim.nickname
    ));
    Ok(())
}

/// The author's newest post among others' posts.
async fn find(reader: &Phone, author: &str) -> anyhow::Result<OtherPost> {
    within(&format!("{author}'s post is among others'"), async || {
        Ok(reader.others().await?.into_iter().find(|post| post.nickname == author))
    })
    .await
}

/// Events take their time: asks again for up to 15 s.
async fn within<T>(what: &str, mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        if let Some(answer) = ask().await.with_context(|| what.to_owned())? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("not within 15 s: {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// This moment as `yyyyMMddHHmmssSS`.
fn today() -> anyhow::Result<i64> {
    let now = jiff::Zoned::new(SystemClock.now(), jiff::tz::TimeZone::system());
    let text = format!(
        "{}{:02}",
        now.strftime("%Y%m%d%H%M%S"),
        now.subsec_nanosecond() / 10_000_000
    );
    Ok(text.parse()?)
}
