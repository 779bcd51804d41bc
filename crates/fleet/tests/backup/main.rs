//! `fleet backup` while people write, and `fleet restore` after the data are lost; the dumps of a fleet on the real engines.

mod documents;
mod events;
mod mariadb;
mod real_engines;
mod steps;

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::StatusCode;
use serde_json::Value;
use sosohappy_fleet::app::{Addresses, Message, NewPost, Phone};
use sosohappy_testkit::{Cluster, eventually};
use tokio::process::Command;

/// The most posts, likes and messages: as many as a page of notices has.
const STEPS: usize = 50;

/// The steps before the backup begins.
const BEFORE: usize = 5;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
}

/// Runs `fleet`, with one more environment variable.
async fn fleet_with(variable: (&str, &str), arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).env(variable.0, variable.1);
    command.output().await.expect("fleet can be run")
}

async fn fleet(arguments: &[&str]) -> Output {
    fleet_with(("LANG", "C"), arguments).await
}

fn assert_refused(output: &Output, reason: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(reason), "{output:?}");
}

async fn sign_up(addresses: &Addresses, name: &str) -> Phone {
    let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google").unwrap();
    phone.sign_in().await.unwrap();
    let photo = sosohappy_fleet::demo::picture(0);
    phone.set_profile(name, "hello", &photo).await.unwrap();
    phone
}

/// Returns the date of the post of a step, the first of which is 0: one a day, from the first of March on.
fn date_of(step: usize) -> i64 {
    let (month, day) = (3 + step / 28, 1 + step % 28);
    let date = 20_260_000 + month * 100 + day;
    i64::try_from(date).unwrap() * 100_000_000 + 12_000_000
}

/// Later than every message.
const END: i64 = 2_026_123_112_000_000;

async fn save_post(phone: &Phone, date: i64, pictures: &[Vec<u8>]) {
    let text = "a small happiness";
    phone.save_post(&NewPost { date, text, pictures }).await.unwrap();
}

/// Returns the id of the picture of a post of the phone itself.
async fn picture_of(phone: &Phone, date: i64) -> i64 {
    phone.own_day(date).await.unwrap().expect("the post").image_id_list[0]
}

fn message(step: usize) -> Message {
    Message {
        sender: "lee".to_owned(),
        receiver: "kim".to_owned(),
        date: date_of(step),
        text: format!("message {step}"),
    }
}

/// Writes one after the other until `ended`: a post of kim, a like of it and a message of lee. `steps` counts what was acknowledged.
async fn write(kim: &Phone, lee: &Phone, steps: &AtomicUsize, ended: &AtomicBool) {
    let mut socket = lee.connect_dm().await.unwrap();
    for step in 0..STEPS {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        save_post(kim, date_of(step), &[]).await;
        assert!(lee.toggle_like("kim", date_of(step)).await.unwrap());
        socket.send(&message(step)).await.unwrap();
        eventually("the message is stored", async || {
            let history = lee.history_with("kim", END).await.unwrap();
            (history.last() == Some(&message(step))).then_some(())
        })
        .await;
        steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the newest 50 notices in the inbox of the person, newest first.
async fn inbox(phone: &Phone, addresses: &Addresses) -> Vec<Value> {
    let tokens = phone.tokens.as_ref().expect("signed in");
    let request = sosohappy_common::tls::client()
        .get(format!("{}/notice-service/findNotice", addresses.notice))
        .query(&[("size", "50")])
        .header("authorization", &tokens.access)
        .header("email", &tokens.account);
    let mut page: Value = request.send().await.unwrap().json().await.unwrap();
    serde_json::from_value(page["content"].take()).expect("notices")
}

/// Returns the number of the newest notice.
async fn newest_notice(phone: &Phone, addresses: &Addresses) -> i64 {
    eventually("there is a notice", async || {
        inbox(phone, addresses).await.first()?["seq"].as_i64()
    })
    .await
}

/// Returns the likes in the inbox of the person: the date of the post, and how often it was liked.
async fn likes(phone: &Phone, addresses: &Addresses) -> Vec<(i64, i64)> {
    let notices = inbox(phone, addresses).await;
    let number = |notice: &Value, name: &str| notice["data"][name].as_i64().expect("a number");
    let mut likes: Vec<_> = notices
        .iter()
        .filter(|notice| notice["topic"] == "like")
        .map(|notice| (number(notice, "date"), number(notice, "count")))
        .collect();
    likes.sort_unstable();
    likes
}

/// Asserts that the acknowledged steps are there, each once, and that all services are of one moment of [`write`].
async fn assert_of_one_moment(kim: &Phone, lee: &Phone, addresses: &Addresses, acknowledged: usize) {
    let mut posts = kim.own_month(date_of(0)).await.unwrap();
    posts.extend(kim.own_month(date_of(28)).await.unwrap());
    posts.sort_by_key(|post| post.date);
    let dates: Vec<_> = posts.iter().map(|post| post.date).collect();
    assert_eq!(dates, (0..posts.len()).map(date_of).collect::<Vec<_>>());
    let liked = posts
        .iter()
        .take_while(|post| post.like_nickname_list == ["lee"])
        .count();
    let history = lee.history_with("kim", END).await.unwrap();
    let step_of = |last: &Message| (0..STEPS).position(|step| message(step) == *last);
    let sent = history
        .last()
        .map_or(0, |last| step_of(last).expect("a message of lee") + 1);
    let newest: Vec<_> = (sent.saturating_sub(20)..sent).map(message).collect();
    assert_eq!(history, newest);
    assert!(sent >= acknowledged, "{sent} of {acknowledged} messages are there");
    assert!(
        posts.len() >= liked && liked >= sent && sent + 1 >= posts.len(),
        "not of one moment: {} posts, {liked} likes, {sent} messages",
        posts.len()
    );
    // Each like becomes one notice, whether its event was in the outbox, in the journal or applied.
    let noticed = eventually("each like is a notice", async || {
        let noticed = likes(kim, addresses).await;
        (noticed.len() >= liked).then_some(noticed)
    })
    .await;
    assert_eq!(noticed, (0..liked).map(|step| (date_of(step), 1)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_restored_as_it_was_at_one_moment_without_those_who_have_resigned_since() {
    let mut cluster = Cluster::embedded(binary().parent().expect("a binary is in a folder")).await;
    let ports = cluster.replicas[0];
    let addresses = Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice);
    let folder = cluster.folder().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    let (data, damaged, backup) = (path("data"), path("damaged"), path("backups/first"));

    let kim = sign_up(&addresses, "kim").await;
    let lee = sign_up(&addresses, "lee").await;
    let mut park = sign_up(&addresses, "park").await;
    let pictures = [sosohappy_fleet::demo::picture(1)];
    for phone in [&lee, &park] {
        save_post(phone, date_of(0), &pictures).await;
    }
    let (kept, erased) = (picture_of(&lee, date_of(0)).await, picture_of(&park, date_of(0)).await);
    let picture = kim.picture(kept).await.unwrap();

    // A backup while they write.
    let (steps, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let backing_up = async {
        eventually("some steps are acknowledged", async || {
            (steps.load(Ordering::Relaxed) >= BEFORE).then_some(())
        })
        .await;
        let acknowledged = steps.load(Ordering::Relaxed);
        let output = fleet(&["backup", &backup, "--data", &data]).await;
        ended.store(true, Ordering::Relaxed);
        assert!(output.status.success(), "{output:?}");
        acknowledged
    };
    let (acknowledged, ()) = tokio::join!(backing_up, write(&kim, &lee, &steps, &ended));

    let elsewhere = ("SOSOHAPPY_DM__MESSAGES__URL", "mongodb://127.0.0.1:1/dm");
    let refused = fleet_with(elsewhere, &["backup", &path("backups/second"), "--data", &data]).await;
    assert_refused(&refused, "dm: messages.url");
    assert_refused(&fleet(&["backup", &backup, "--data", &data]).await, "already there");
    let inside = path("data/backup");
    assert_refused(
        &fleet(&["backup", &inside, "--data", &data]).await,
        "inside the data folder",
    );

    let notice = newest_notice(&kim, &addresses).await;

    // The data are lost after park has resigned.
    assert!(kim.post_of("park", date_of(0)).await.is_ok());
    park.resign().await.unwrap();
    let ledger = path("damaged/resigned");
    let restore: [&str; 6] = ["restore", &backup, "--data", &data, "--resigned", &ledger];
    cluster.kill("fleet");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::copy(path("data/resigned"), &ledger).unwrap();
    assert_refused(&fleet(&restore).await, "not empty");
    std::fs::remove_dir_all(&data).unwrap();
    assert_refused(&fleet(&restore[..4]).await, "--resigned");
    let output = fleet(&restore).await;
    assert!(output.status.success(), "{output:?}");
    cluster.restart("fleet").await;

    // Auth knows of the resignation before it answers; the others erase soon.
    assert_ne!(park.re_issue().await.unwrap(), StatusCode::OK);
    eventually("park is erased again", async || {
        let is_gone = park.access_status().await.ok()? == StatusCode::FORBIDDEN
            && kim.post_of("park", date_of(0)).await.is_err()
            && kim.picture(erased).await.is_err();
        is_gone.then_some(())
    })
    .await;
    assert_eq!(kim.picture(kept).await.unwrap(), picture);

    assert_of_one_moment(&kim, &lee, &addresses, acknowledged).await;
    // Numbers of frames that phones have seen are given to no others.
    for mut socket in [
        kim.resume_dm(3).await.unwrap(),
        kim.resume_notice(notice).await.unwrap(),
    ] {
        let frame: Value = serde_json::from_str(&socket.text().await.unwrap()).unwrap();
        assert_eq!(frame["topic"], "resync", "{frame}");
    }
    sosohappy_fleet::demo::run(addresses)
        .await
        .expect("the restored fleet works");
}
