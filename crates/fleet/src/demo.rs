//! `fleet demo`: two scripted users go through every feature of the fleet; prints one line per step.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::StatusCode;
use serde_json::json;
use sosohappy_common::clock::{Clock as _, Entropy, SystemClock, SystemEntropy};

use crate::app::{Addresses, Message, NewPost, OtherPost, Phone};

/// The time without a frame that shows that an un-like sends no notice.
const SILENCE: Duration = Duration::from_millis(700);

/// Returns a PNG of one pixel of this shade, encoded as the services encode pictures: a download has the same bytes as the upload.
#[must_use]
pub fn picture(shade: u8) -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(1, 1, image::Luma([shade]))
        .write_to(&mut png, image::ImageFormat::Png)
        .expect("one pixel can be encoded");
    png.into_inner()
}

/// Prints each step with the time since the start.
#[derive(Debug)]
struct StepLog {
    began: Instant,
}

impl StepLog {
    fn print(&self, line: &str) {
        println!("{:>6} ms  {line}", self.began.elapsed().as_millis());
    }
}

/// Runs the demo against a running fleet. Returns the error of the first step that fails.
pub async fn run(addresses: Addresses) -> anyhow::Result<()> {
    let steps = StepLog { began: Instant::now() };
    let entropy: &dyn Entropy = &SystemEntropy;
    let tag = entropy.hex(2);
    let date = today()?;

    let mut kim = Phone::new(addresses.clone(), &format!("kim-{tag}@example.com"), "google")?;
    let mut lee = Phone::new(addresses, &format!("lee-{tag}@example.com"), "kakao")?;
    for (phone, name) in [(&mut kim, format!("kim{tag}")), (&mut lee, format!("lee{tag}"))] {
        let nickname = phone.sign_in().await.context("signing in")?;
        ensure!(
            nickname.is_empty(),
            "a new account has no nickname yet, but sign-in returned {nickname}"
        );
        let introduction = format!("안녕하세요, {name}");
        phone
            .set_profile(&name, &introduction, &picture(1))
            .await
            .context("setting the profile")?;
        ensure!(
            phone.introduction_of(&name).await? == introduction,
            "the introduction is not the one that was set"
        );
        ensure!(phone.photo_of(&name).await?.is_some(), "the photo is missing");
        steps.print(&format!(
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
    let own = kim.own_day(date).await?.context("today's post is missing")?;
    ensure!(
        own.image_id_list.len() == 2,
        "the post has {} pictures, not 2",
        own.image_id_list.len()
    );
    ensure!(
        kim.own_month(date).await?.iter().any(|post| post.date == date),
        "today's post is missing in the month"
    );
    steps.print(&format!(
        "{} saved a post with two photos and read it by day and by month",
        kim.nickname
    ));

    let found = find(&lee, &kim.nickname).await?;
    ensure!(
        found.image_id_list == own.image_id_list && !found.is_liked,
        "the post is different for others"
    );
    for (id, picture) in found.image_id_list.iter().zip(&pictures) {
        ensure!(
            lee.picture(*id).await? == *picture,
            "picture {id} is not the uploaded one"
        );
    }
    steps.print(&format!(
        "{} found the post among others' posts and loaded the photos without a token",
        lee.nickname
    ));

    let mut notices = kim.connect_notice().await?;
    ensure!(lee.toggle_like(&kim.nickname, date).await?, "the like was not saved");
    let notice = notices.text().await.context("waiting for the like's notice")?;
    let expected = json!({"topic": "like", "data": {"liker": lee.nickname, "date": date}}).to_string();
    ensure!(notice == expected, "the notice is {notice}, not {expected}");
    steps.print(&format!(
        "{} liked the post; {}'s socket received {notice}",
        lee.nickname, kim.nickname
    ));
    ensure!(!lee.toggle_like(&kim.nickname, date).await?, "the like was not removed");
    ensure!(notices.silent_for(SILENCE).await?, "the un-like sent a frame");
    steps.print(&format!("{} removed the like; no notice was sent", lee.nickname));
    ensure!(
        lee.toggle_like(&kim.nickname, date).await?,
        "the second like was not saved"
    );
    ensure!(notices.silent_for(SILENCE).await?, "the same like sent a second notice");
    steps.print(&format!("{} liked it again: one notice in all", lee.nickname));

    chat(&steps, &kim, &lee, date).await?;
    rename(&steps, &mut lee, &kim, date).await?;
    resign(&steps, &kim, &lee, notices).await?;
    lee.resign().await?;
    steps.print(&format!("{} resigned too", lee.nickname));
    Ok(())
}

async fn chat(steps: &StepLog, kim: &Phone, lee: &Phone, date: i64) -> anyhow::Result<()> {
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
    ensure!(got == question, "the received message is {got:?}");
    sockets.0.send(&answer).await?;
    let got: Message = serde_json::from_str(&sockets.1.text().await.context("waiting for the answer")?)?;
    ensure!(got == answer, "the received answer is {got:?}");
    steps.print(&format!(
        "{} and {} sent each other messages over their sockets",
        lee.nickname, kim.nickname
    ));

    drop(sockets.1);
    let late = message(kim, lee, 3, "내일 같이 가자");
    sockets.0.send(&late).await?;
    let history = within("the message to an offline receiver is stored", async || {
        let history = lee.history_with(&kim.nickname, date + 10).await?;
        Ok((history.len() == 3).then_some(history))
    })
    .await?;
    ensure!(
        history == [question, answer, late.clone()],
        "the history is {history:?}"
    );
    ensure!(
        lee.conversations().await? == [late],
        "the list of conversations does not have the newest message"
    );
    steps.print(&format!(
        "{} was offline for the last message; the history and the list of conversations have it",
        lee.nickname
    ));
    Ok(())
}

async fn rename(steps: &StepLog, lee: &mut Phone, kim: &Phone, date: i64) -> anyhow::Result<()> {
    let old = lee.nickname.clone();
    let new = format!("{old}2");
    lee.set_profile(&new, "새 이름", &picture(4)).await?;
    within("likes show the new nickname", async || {
        let own = kim.own_day(date).await?.context("today's post is missing")?;
        Ok((own.like_nickname_list == [new.clone()]).then_some(()))
    })
    .await?;
    within("messages show the new nickname", async || {
        let conversations = kim.conversations().await?;
        Ok(conversations
            .iter()
            .any(|message| message.receiver == new)
            .then_some(()))
    })
    .await?;
    ensure!(
        find(lee, &kim.nickname).await?.is_liked,
        "the like was lost with the nickname"
    );
    steps.print(&format!(
        "{old} changed the nickname to {new}; likes and messages show it"
    ));
    Ok(())
}

async fn resign(steps: &StepLog, kim: &Phone, lee: &Phone, mut notices: crate::app::Socket) -> anyhow::Result<()> {
    let picture = kim
        .own_day(today()?)
        .await?
        .and_then(|post| post.image_id_list.first().copied());
    kim.resign().await?;
    notices.closed().await.context("waiting for the socket to be closed")?;
    within("the token is refused", async || {
        Ok((kim.access_status().await? == StatusCode::FORBIDDEN).then_some(()))
    })
    .await?;
    within("the posts are deleted", async || {
        Ok(lee
            .others()
            .await?
            .iter()
            .all(|post| post.nickname != kim.nickname)
            .then_some(()))
    })
    .await?;
    within("the messages are deleted", async || {
        Ok(lee.conversations().await?.is_empty().then_some(()))
    })
    .await?;
    if let Some(id) = picture {
        within("the photos are deleted", async || {
            Ok(lee.picture(id).await.is_err().then_some(()))
        })
        .await?;
    }
    steps.print(&format!(
        "{} resigned: posts, messages and photos are deleted, sockets are closed, the token is refused",
        kim.nickname
    ));
    Ok(())
}

/// Returns the author's newest post among others' posts.
async fn find(reader: &Phone, author: &str) -> anyhow::Result<OtherPost> {
    within(&format!("{author}'s post is among others'"), async || {
        Ok(reader.others().await?.into_iter().find(|post| post.nickname == author))
    })
    .await
}

/// Polls for up to 15 s until `ask` returns `Some`: events are delivered asynchronously.
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

/// Returns the current time as `yyyyMMddHHmmssSS`.
fn today() -> anyhow::Result<i64> {
    let now = jiff::Zoned::new(SystemClock.now(), jiff::tz::TimeZone::system());
    let text = format!(
        "{}{:02}",
        now.strftime("%Y%m%d%H%M%S"),
        now.subsec_nanosecond() / 10_000_000
    );
    Ok(text.parse()?)
}
