//! Each fault switch on a running fleet: the metric of its alert rises, and everything recovers when it is switched off.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sosohappy_common::faults::{Fault, LATENCY, SLOW_STORE};
use sosohappy_fleet::app::{Addresses, NewPost, Phone};
use sosohappy_testkit::{Cluster, eventually};

/// The number of the first post of the second test that writes posts; see [`like_a_new_post`].
const FIRST_POISONED: i64 = 6 * 28;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_raises_its_alert_and_recovers() {
    let binaries = Path::new(env!("CARGO_BIN_EXE_fleet")).parent().expect("a folder");
    let fleet = Cluster::embedded(binaries).await;
    let addresses = Addresses::behind(&format!("http://127.0.0.1:{}", fleet.entry));
    let mut phones = ["kim", "lee"].map(|name| {
        let phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "kakao");
        phone.expect("a phone")
    });
    for (phone, name) in phones.iter_mut().zip(["kim", "lee"]) {
        phone.sign_in().await.expect("a person signs in");
        let picture = sosohappy_fleet::demo::picture(1);
        phone.set_profile(name, "hi", &picture).await.expect("a profile");
    }
    let [kim, lee] = &phones;
    for fault in Fault::ALL {
        match fault {
            Fault::Latency => requests_are_late(&fleet, kim).await,
            Fault::Errors => requests_fail(&fleet, kim).await,
            Fault::SlowStore => transactions_are_slow(&fleet, &addresses).await,
            Fault::StalledConsumer => a_consumer_stalls(&fleet, kim, lee).await,
            Fault::DeadRelay => a_relay_publishes_nothing(&fleet, &addresses).await,
            Fault::PoisonRecord => a_record_is_poison(&fleet, kim, lee).await,
        }
    }
}

/// Sets a fault switch on all instances; an empty value removes it.
async fn switch(fleet: &Cluster, fault: Fault, value: &str) {
    let body = json!({"name": format!("flags.{}", fault.flag()), "value": value});
    let path = "config-service/actuator/busenv";
    let (status, text) = fleet.operate(Method::POST, path, Some(body)).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{text}");
}

/// Returns the sum of the samples of a service's metric that have these labels (`topic="resign"`).
async fn metric(fleet: &Cluster, service: &str, name: &str, labels: &[&str]) -> f64 {
    let path = format!("{service}/actuator/prometheus");
    let (status, text) = fleet.operate(Method::GET, &path, None).await;
    assert_eq!(status, StatusCode::OK);
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// `SlowAnswers`: the latency of requests.
async fn requests_are_late(fleet: &Cluster, kim: &Phone) {
    let late = async || {
        let all = metric(
            fleet,
            "feed-service",
            "http_server_requests_seconds_count",
            &["findOtherFeed"],
        )
        .await;
        let in_time = metric(
            fleet,
            "feed-service",
            "http_server_requests_seconds_bucket",
            &["findOtherFeed", "le=\"1\""],
        )
        .await;
        all - in_time
    };
    let took = async || {
        let began = Instant::now();
        kim.others().await.expect("a late answer is a right one");
        began.elapsed()
    };
    let before = late().await;
    switch(fleet, Fault::Latency, "true").await;
    eventually("a request is late", async || (took().await >= LATENCY).then_some(())).await;
    assert!(late().await > before, "the histogram shows it");
    switch(fleet, Fault::Latency, "").await;
    eventually("requests are answered in time", async || {
        (took().await < LATENCY).then_some(())
    })
    .await;
}

/// `AvailabilityFastBurn`: the share of server errors.
async fn requests_fail(fleet: &Cluster, kim: &Phone) {
    let failed = async || {
        let labels = ["findOtherFeed", "outcome=\"SERVER_ERROR\""];
        metric(fleet, "feed-service", "http_server_requests_seconds_count", &labels).await
    };
    let before = failed().await;
    switch(fleet, Fault::Errors, "50%").await;
    // A share of the requests: some of them succeed meanwhile.
    eventually("a request fails", async || kim.others().await.is_err().then_some(())).await;
    eventually("a request succeeds", async || kim.others().await.ok().map(drop)).await;
    assert!(failed().await > before, "the counter shows it");
    switch(fleet, Fault::Errors, "").await;
    eventually("20 requests succeed one after the other", async || {
        for _ in 0..20 {
            kim.others().await.ok()?;
        }
        Some(())
    })
    .await;
}

/// `DatabasePoolFull`: calls that wait for a connection.
async fn transactions_are_slow(fleet: &Cluster, addresses: &Addresses) {
    let waiting = async || metric(fleet, "auth-service", "hikaricp_connections_pending", &[]).await;
    switch(fleet, Fault::SlowStore, "true").await;
    eventually("a transaction is slow", async || {
        (sign_in(addresses, 0).await >= SLOW_STORE).then_some(())
    })
    .await;
    let many = futures::future::join_all((1..4).map(|number| sign_in(addresses, number)));
    let seen = eventually("a call waits for a connection", async || {
        (waiting().await > 0.0).then_some(())
    });
    tokio::join!(many, seen);
    switch(fleet, Fault::SlowStore, "").await;
    eventually("transactions are fast", async || {
        (sign_in(addresses, 0).await < SLOW_STORE).then_some(())
    })
    .await;
    eventually("no call waits", async || (waiting().await == 0.0).then_some(())).await;
}

/// Signs a person in, and returns how long it took.
async fn sign_in(addresses: &Addresses, number: u32) -> Duration {
    let email = format!("slow-{number}@example.com");
    let mut phone = Phone::new(addresses.clone(), &email, "kakao").expect("a phone");
    let began = Instant::now();
    phone.sign_in().await.expect("a slow sign-in succeeds");
    began.elapsed()
}

/// `ConsumerLag`: records that a group has not handled.
async fn a_consumer_stalls(fleet: &Cluster, kim: &Phone, lee: &Phone) {
    let lag = async || {
        metric(
            fleet,
            "notice-service",
            "events_consumer_lag_records",
            &["topic=\"noticeLike\""],
        )
        .await
    };
    switch(fleet, Fault::StalledConsumer, "true").await;
    let mut number = 0;
    eventually("likes are not consumed", async || {
        like_a_new_post(kim, lee, number).await;
        number += 1;
        (lag().await > 0.0).then_some(())
    })
    .await;
    switch(fleet, Fault::StalledConsumer, "").await;
    eventually("the likes are consumed", async || (lag().await == 0.0).then_some(())).await;
}

/// `OutboxOld`: the age of the oldest event that is not published.
async fn a_relay_publishes_nothing(fleet: &Cluster, addresses: &Addresses) {
    let oldest = async || metric(fleet, "auth-service", "outbox_oldest_seconds", &[]).await;
    switch(fleet, Fault::DeadRelay, "true").await;
    eventually("an event gets old in the outbox", async || {
        let mut phone = Phone::new(addresses.clone(), "relay@example.com", "kakao").expect("a phone");
        phone.sign_in().await.expect("a sign-in does not need the relay");
        tokio::time::sleep(Duration::from_millis(500)).await;
        (oldest().await > 1.0).then_some(())
    })
    .await;
    switch(fleet, Fault::DeadRelay, "").await;
    eventually("the outbox is empty", async || (oldest().await == 0.0).then_some(())).await;
}

/// `DeadLetters`: they are replayed when the fault is gone.
async fn a_record_is_poison(fleet: &Cluster, kim: &Phone, lee: &Phone) {
    let letters = async || {
        let (status, text) = fleet.operate(Method::GET, "dead-letters", None).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    switch(fleet, Fault::PoisonRecord, "true").await;
    let mut number = FIRST_POISONED;
    eventually("a like is a dead letter", async || {
        like_a_new_post(kim, lee, number).await;
        number += 1;
        letters().await.to_string().contains("noticeLike/").then_some(())
    })
    .await;
    assert!(
        metric(
            fleet,
            "notice-service",
            "events_dead_letters_total",
            &["topic=\"noticeLike\""]
        )
        .await
            > 0.0
    );
    switch(fleet, Fault::PoisonRecord, "").await;
    // Instances get the message one after the other, and a record that is rejected meanwhile is replayed again.
    eventually("replayed records are applied", async || {
        let letters = letters().await;
        let content = letters["content"].as_array().expect("dead letters");
        let ids: Vec<_> = content.iter().map(|letter| letter["id"].clone()).collect();
        if ids.is_empty() {
            let lag = metric(fleet, "notice-service", "events_consumer_lag_records", &[]).await;
            return (lag == 0.0).then_some(());
        }
        let body = json!({"ids": ids, "resolution": "replayed"});
        let (status, text) = fleet.operate(Method::POST, "dead-letters", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        None
    })
    .await;
}

/// Kim writes the post of a day, the first of which has the number 0, and lee likes it. Takes at least a tenth of a second: the days of
/// half a year outlast the patience of a test.
async fn like_a_new_post(kim: &Phone, lee: &Phone, number: i64) {
    let (month, day) = (1 + number / 28, 1 + number % 28);
    let date = 2_025_000_012_000_000 + month * 10_000_000_000 + day * 100_000_000;
    let post = NewPost {
        date,
        text: "a walk",
        pictures: &[],
    };
    kim.save_post(&post).await.expect("saved");
    assert!(lee.toggle_like(&kim.nickname, date).await.expect("answered"), "liked");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
