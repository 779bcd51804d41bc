//! Each fault switch on a running fleet: the series that its alert reads rise, and everything recovers when it is switched off.

mod alert;

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_common::faults::{CLOCK_SKEW, Fault, LATENCY, SLOW_STORE};
use sosohappy_fleet::app::{Addresses, NewPost, Phone};
use sosohappy_testkit::{Cluster, eventually};

use crate::alert::Alert;

/// Days for posts that one test uses at most; see [`day`].
const DAYS: i64 = 12 * 28;
/// Server errors of an hour that `AvailabilityFastBurn` takes for chance.
const ALLOWED_ERRORS: f64 = 10.0;
/// Error lines of a quarter of an hour that `ErrorsLogged` takes for chance.
const ALLOWED_ERROR_LINES: f64 = 20.0;

/// Whether a fault is seen in events and background work, whose metrics are renewed every few seconds; the others are seen in requests.
const fn is_in_the_background(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::StalledConsumer
            | Fault::DeadRelay
            | Fault::BrokerAway
            | Fault::MissingHeartbeats
            | Fault::RefusedRecord
            | Fault::PoisonRecord
            | Fault::FailingTask
            | Fault::SlowReader
            | Fault::ClockSkew
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_requests_raises_its_alert_and_recovers() {
    let faults = Fault::ALL.into_iter().filter(|fault| !is_in_the_background(*fault));
    raise_and_recover(faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_in_the_background_raises_its_alert_and_recovers() {
    let faults = Fault::ALL.into_iter().filter(|fault| is_in_the_background(*fault));
    raise_and_recover(faults).await;
}

/// Switches faults on and off, one after the other, on a fleet of their own.
async fn raise_and_recover(faults: impl Iterator<Item = Fault>) {
    let binaries = Path::new(env!("CARGO_BIN_EXE_fleet")).parent().expect("a folder");
    let mut fleet = Cluster::embedded(binaries).await;
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
    for fault in faults {
        let alert = Alert::of(fault);
        match fault {
            Fault::Latency => requests_are_late(&fleet, &alert, kim).await,
            Fault::Errors => requests_fail(&fleet, &alert, kim).await,
            Fault::LostAnswer => answers_are_lost(&fleet, &alert, kim).await,
            Fault::Panic => handlers_panic(&fleet, &alert, kim).await,
            Fault::SlowStore => transactions_are_slow(&fleet, &alert, &addresses).await,
            Fault::FullDisk => a_disk_is_full(&fleet, &alert, &addresses, kim).await,
            Fault::StalledConsumer => a_consumer_stalls(&fleet, &alert, kim, lee).await,
            Fault::DeadRelay => a_relay_publishes_nothing(&fleet, &alert, &addresses).await,
            Fault::BrokerAway => the_broker_is_unavailable(&fleet, &alert, kim, lee).await,
            Fault::MissingHeartbeats => heartbeats_are_missing(&fleet, &alert, kim).await,
            Fault::RefusedRecord => a_record_is_refused(&fleet, &alert, kim, lee).await,
            Fault::PoisonRecord => a_record_is_poison(&fleet, &alert, kim, lee).await,
            Fault::FailingTask => tasks_fail(&fleet, &alert).await,
            Fault::AuthAway => auth_is_unavailable(&fleet, &alert, &addresses, kim).await,
            Fault::WrongCredential => a_credential_is_wrong(&fleet, &alert, &addresses, kim).await,
            Fault::SlowReader => a_reader_is_slow(&fleet, &alert, kim, lee).await,
            Fault::ClockSkew => a_clock_is_ahead(&fleet, &alert, &addresses, kim, lee).await,
            Fault::MemoryLeak => memory_leaks(&mut fleet, &alert, kim).await,
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

/// Returns the samples of a service's metric that have these labels (`topic="resign"`): the series, and its value.
async fn samples(fleet: &Cluster, service: &str, name: &str, labels: &[&str]) -> Vec<(String, f64)> {
    let path = format!("{service}/actuator/prometheus");
    let (status, text) = fleet.operate(Method::GET, &path, None).await;
    assert_eq!(status, StatusCode::OK);
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    let samples = lines.filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    });
    samples.collect()
}

/// Returns the sum of these samples.
async fn metric(fleet: &Cluster, service: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = samples(fleet, service, name, labels).await;
    samples.iter().map(|(_, value)| value).sum()
}

/// `SlowAnswers`: the latency of requests.
async fn requests_are_late(fleet: &Cluster, alert: &Alert, kim: &Phone) {
    let late = async || {
        let all = alert
            .metric(
                fleet,
                "feed-service",
                "http_server_requests_seconds_count",
                &["findOtherFeed"],
            )
            .await;
        let in_time = alert
            .metric(
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
async fn requests_fail(fleet: &Cluster, alert: &Alert, kim: &Phone) {
    let failed = async || {
        let labels = ["findOtherFeed", "outcome=\"SERVER_ERROR\""];
        alert
            .metric(fleet, "feed-service", "http_server_requests_seconds_count", &labels)
            .await
    };
    let before = failed().await;
    switch(fleet, Fault::Errors, "50%").await;
    // A share of the requests: some of them succeed meanwhile.
    eventually("more requests fail than the alert allows", async || {
        let _half_fail = kim.others().await;
        (failed().await > before + ALLOWED_ERRORS).then_some(())
    })
    .await;
    eventually("a request succeeds", async || kim.others().await.ok().map(drop)).await;
    switch(fleet, Fault::Errors, "").await;
    eventually("20 requests succeed one after the other", async || {
        for _ in 0..20 {
            kim.others().await.ok()?;
        }
        Some(())
    })
    .await;
}

/// `AvailabilityFastBurn`: the share of server errors. What was stored is there once, however often its client repeats the call.
async fn answers_are_lost(fleet: &Cluster, alert: &Alert, kim: &Phone) {
    let failed = async || {
        let labels = ["saveFeed", "outcome=\"SERVER_ERROR\""];
        alert
            .metric(fleet, "feed-service", "http_server_requests_seconds_count", &labels)
            .await
    };
    let walk = NewPost {
        date: day(4 * DAYS),
        text: "a walk",
        pictures: &[],
    };
    let before = failed().await;
    switch(fleet, Fault::LostAnswer, "true").await;
    eventually("more answers are lost than the alert allows", async || {
        let _lost = kim.save_post(&walk).await;
        (failed().await > before + ALLOWED_ERRORS).then_some(())
    })
    .await;
    switch(fleet, Fault::LostAnswer, "").await;
    eventually("the post is there, once", async || {
        let posts = kim.own_month(walk.date).await.ok()?;
        assert_eq!(posts.len(), 1);
        Some(())
    })
    .await;
    eventually("the call succeeds", async || kim.save_post(&walk).await.ok()).await;
    let posts = kim.own_month(walk.date).await.expect("answered");
    assert_eq!(posts.len(), 1, "after the call was repeated");
}

/// `ErrorsLogged`: a panic is logged, and ends no more than its request.
async fn handlers_panic(fleet: &Cluster, alert: &Alert, kim: &Phone) {
    let logged = async || {
        alert
            .metric(fleet, "feed-service", "logback_events_total", &["level=\"error\""])
            .await
    };
    let before = logged().await;
    switch(fleet, Fault::Panic, "true").await;
    eventually("more errors are logged than the alert allows", async || {
        let _panicked = kim.others().await;
        (logged().await > before + ALLOWED_ERROR_LINES).then_some(())
    })
    .await;
    switch(fleet, Fault::Panic, "").await;
    eventually("requests succeed", async || kim.others().await.ok().map(drop)).await;
}

/// `DatabasePoolFull`: calls that wait for a connection.
async fn transactions_are_slow(fleet: &Cluster, alert: &Alert, addresses: &Addresses) {
    let waiting = async || {
        alert
            .metric(fleet, "auth-service", "hikaricp_connections_pending", &[])
            .await
    };
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

/// `AvailabilityFastBurn`: the share of server errors, while reads succeed.
async fn a_disk_is_full(fleet: &Cluster, alert: &Alert, addresses: &Addresses, kim: &Phone) {
    let failed = async || {
        let labels = ["signIn", "outcome=\"SERVER_ERROR\""];
        alert
            .metric(fleet, "auth-service", "http_server_requests_seconds_count", &labels)
            .await
    };
    let sign_in = async || {
        let mut phone = Phone::new(addresses.clone(), "newcomer@example.com", "kakao").expect("a phone");
        phone.sign_in().await.map(drop)
    };
    let before = failed().await;
    switch(fleet, Fault::FullDisk, "true").await;
    eventually("more sign-ins fail than the alert allows", async || {
        let _not_stored = sign_in().await;
        (failed().await > before + ALLOWED_ERRORS).then_some(())
    })
    .await;
    kim.others().await.expect("reads go on");
    switch(fleet, Fault::FullDisk, "").await;
    eventually("a sign-in is stored", async || sign_in().await.ok()).await;
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
async fn a_consumer_stalls(fleet: &Cluster, alert: &Alert, kim: &Phone, lee: &Phone) {
    let lag = async || {
        alert
            .metric(
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
async fn a_relay_publishes_nothing(fleet: &Cluster, alert: &Alert, addresses: &Addresses) {
    let oldest = async || alert.metric(fleet, "auth-service", "outbox_oldest_seconds", &[]).await;
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

/// `OutboxOld`: the age of the oldest event that is not published. Requests are acknowledged meanwhile.
async fn the_broker_is_unavailable(fleet: &Cluster, alert: &Alert, kim: &Phone, lee: &Phone) {
    let oldest = async || alert.metric(fleet, "feed-service", "outbox_oldest_seconds", &[]).await;
    let lag = async || metric(fleet, "notice-service", "events_consumer_lag_records", &[]).await;
    switch(fleet, Fault::BrokerAway, "true").await;
    let mut number = 5 * DAYS;
    eventually("an event gets old in the outbox", async || {
        like_a_new_post(kim, lee, number).await;
        number += 1;
        tokio::time::sleep(Duration::from_millis(400)).await;
        (oldest().await > 1.0).then_some(())
    })
    .await;
    switch(fleet, Fault::BrokerAway, "").await;
    eventually("the outbox is empty, and consumed", async || {
        (oldest().await == 0.0 && lag().await == 0.0).then_some(())
    })
    .await;
}

/// `AuthHeartbeatsMissing`: the age of the last heartbeat. Tokens are asked about meanwhile.
async fn heartbeats_are_missing(fleet: &Cluster, alert: &Alert, kim: &Phone) {
    let age = async || {
        alert
            .metric(fleet, "feed-service", "access_heartbeat_age_seconds", &[])
            .await
    };
    switch(fleet, Fault::MissingHeartbeats, "true").await;
    eventually("heartbeats are missing", async || (age().await > 3.0).then_some(())).await;
    kim.others().await.expect("auth says that the token is valid");
    switch(fleet, Fault::MissingHeartbeats, "").await;
    eventually("heartbeats arrive", async || (age().await < 2.0).then_some(())).await;
}

/// `OutboxRefused`: dead letters of the relay are replayed when the fault is gone.
async fn a_record_is_refused(fleet: &Cluster, alert: &Alert, kim: &Phone, lee: &Phone) {
    let refused = async || {
        alert
            .metric(fleet, "feed-service", "outbox_refused_total", &["topic=\"noticeLike\""])
            .await
    };
    switch(fleet, Fault::RefusedRecord, "true").await;
    let mut number = DAYS;
    eventually("a like is refused", async || {
        like_a_new_post(kim, lee, number).await;
        number += 1;
        (refused().await > 0.0).then_some(())
    })
    .await;
    eventually("it is a dead letter", async || {
        dead_letters(fleet)
            .await
            .to_string()
            .contains("noticeLike/")
            .then_some(())
    })
    .await;
    switch(fleet, Fault::RefusedRecord, "").await;
    replay_dead_letters(fleet).await;
}

/// `DeadLetters`: they are replayed when the fault is gone.
async fn a_record_is_poison(fleet: &Cluster, alert: &Alert, kim: &Phone, lee: &Phone) {
    switch(fleet, Fault::PoisonRecord, "true").await;
    let mut number = 2 * DAYS;
    eventually("a like is a dead letter", async || {
        like_a_new_post(kim, lee, number).await;
        number += 1;
        dead_letters(fleet)
            .await
            .to_string()
            .contains("noticeLike/")
            .then_some(())
    })
    .await;
    assert!(
        alert
            .metric(
                fleet,
                "notice-service",
                "events_dead_letters_total",
                &["topic=\"noticeLike\""]
            )
            .await
            > 0.0
    );
    switch(fleet, Fault::PoisonRecord, "").await;
    replay_dead_letters(fleet).await;
}

async fn dead_letters(fleet: &Cluster) -> Value {
    let (status, text) = fleet.operate(Method::GET, "dead-letters", None).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Replays dead letters until there are none. Instances learn one after the other that a fault is gone, and a record that is rejected
/// meanwhile is replayed again.
async fn replay_dead_letters(fleet: &Cluster) {
    eventually("replayed records are applied", async || {
        let letters = dead_letters(fleet).await;
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

/// `BackgroundTaskFails`: the rounds that failed. A task goes on with its next round.
async fn tasks_fail(fleet: &Cluster, alert: &Alert) {
    let failed = async || {
        alert
            .metric(fleet, "auth-service", "auth_task_failures_total", &[])
            .await
    };
    let before = failed().await;
    switch(fleet, Fault::FailingTask, "true").await;
    eventually("tasks fail", async || (failed().await > before + 3.0).then_some(())).await;
    switch(fleet, Fault::FailingTask, "").await;
    eventually("no task fails for several rounds", async || {
        let before = failed().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        (failed().await <= before).then_some(())
    })
    .await;
}

/// `AuthUnreachable`: introspections without an answer. A token that the registry has is admitted meanwhile.
async fn auth_is_unavailable(fleet: &Cluster, alert: &Alert, addresses: &Addresses, kim: &Phone) {
    let unavailable = async || {
        let labels = ["outcome=\"unavailable\""];
        alert
            .metric(fleet, "feed-service", "access_introspections_total", &labels)
            .await
    };
    let before = unavailable().await;
    switch(fleet, Fault::AuthAway, "true").await;
    eventually("auth cannot be asked", async || {
        (status_of_unknown_token(addresses, kim).await == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    assert!(unavailable().await > before, "the counter shows it");
    kim.others().await.expect("the registry knows the token");
    switch(fleet, Fault::AuthAway, "").await;
    eventually("auth refuses the token", async || {
        (status_of_unknown_token(addresses, kim).await == StatusCode::FORBIDDEN).then_some(())
    })
    .await;
}

/// `ServiceCredentialRefused`: calls of services that auth answers 401.
async fn a_credential_is_wrong(fleet: &Cluster, alert: &Alert, addresses: &Addresses, kim: &Phone) {
    let refused = async || {
        let labels = ["introspect", "status=\"401\""];
        alert
            .metric(fleet, "auth-service", "http_server_requests_seconds_count", &labels)
            .await
    };
    let before = refused().await;
    switch(fleet, Fault::WrongCredential, "true").await;
    eventually("auth refuses the service", async || {
        let status = status_of_unknown_token(addresses, kim).await;
        (status == StatusCode::SERVICE_UNAVAILABLE && refused().await > before).then_some(())
    })
    .await;
    switch(fleet, Fault::WrongCredential, "").await;
    eventually("auth refuses the token", async || {
        (status_of_unknown_token(addresses, kim).await == StatusCode::FORBIDDEN).then_some(())
    })
    .await;
}

/// Presents a forged token of kim's that no service knows, so that feed asks auth about it.
async fn status_of_unknown_token(addresses: &Addresses, kim: &Phone) -> StatusCode {
    let account = kim.account().expect("signed in");
    let claims = json!({"sub": "AccessToken", "email": account, "exp": 4_000_000_000_u64}).to_string();
    // Another token each time: auth's answer is cached for a second.
    let entropy: &dyn Entropy = &SystemEntropy;
    let [claims, signature] = [claims, entropy.hex(32)].map(|part| URL_SAFE_NO_PAD.encode(part));
    let response = sosohappy_common::tls::client()
        .get(format!("{}/feed-service/findOtherFeed", addresses.feed))
        .query(&[("nickname", kim.nickname.as_str()), ("page", "0"), ("size", "7")])
        .header("email", account)
        .bearer_auth(format!("e30.{claims}.{signature}"))
        .send()
        .await
        .expect("an answer");
    response.status()
}

/// `SlowReadersCut`: sockets closed for their slow clients. The client connects again, and is shown what comes then.
async fn a_reader_is_slow(fleet: &Cluster, alert: &Alert, kim: &Phone, lee: &Phone) {
    let cut = async || {
        let labels = ["reason=\"too-slow\""];
        alert
            .metric(fleet, "notice-service", "sosohappy_sockets_closed_total", &labels)
            .await
    };
    let before = cut().await;
    let _reader = kim.connect_notice().await.expect("connected");
    switch(fleet, Fault::SlowReader, "true").await;
    let mut number = 3 * DAYS;
    eventually("a socket is cut", async || {
        like_a_new_post(kim, lee, number).await;
        number += 1;
        tokio::time::sleep(Duration::from_millis(400)).await;
        (cut().await > before).then_some(())
    })
    .await;
    switch(fleet, Fault::SlowReader, "").await;
    eventually("a socket takes its frames", async || {
        let mut socket = kim.connect_notice().await.expect("connected");
        like_a_new_post(kim, lee, number).await;
        number += 1;
        socket.text().await.ok()
    })
    .await;
}

/// `ClockSkewed`: the difference from the database's clock. Leases, which go by that one, hold: events are published and consumed.
async fn a_clock_is_ahead(fleet: &Cluster, alert: &Alert, addresses: &Addresses, kim: &Phone, lee: &Phone) {
    let difference = async |service| {
        alert
            .metric(fleet, service, "database_clock_difference_seconds", &[])
            .await
    };
    let services = ["auth-service", "feed-service", "dm-service", "notice-service"];
    switch(fleet, Fault::ClockSkew, "true").await;
    for service in services {
        eventually("the clock is ahead", async || {
            (difference(service).await > CLOCK_SKEW.as_secs_f64() / 2.0).then_some(())
        })
        .await;
    }
    sign_in(addresses, 100).await;
    like_a_new_post(kim, lee, 6 * DAYS).await;
    eventually("events are published and consumed", async || {
        let oldest = metric(fleet, "feed-service", "outbox_oldest_seconds", &[]).await;
        let lag = metric(fleet, "notice-service", "events_consumer_lag_records", &[]).await;
        let leading = metric(fleet, "feed-service", "outbox_relay_leading", &[]).await;
        (oldest == 0.0 && lag == 0.0 && leading > 0.0).then_some(())
    })
    .await;
    switch(fleet, Fault::ClockSkew, "").await;
    for service in services {
        eventually("the clocks agree", async || {
            (difference(service).await < 1.0).then_some(())
        })
        .await;
    }
    sign_in(addresses, 101).await;
}

/// `MemoryNearLimit`: the resident memory of the process. A restart, as by the cluster when liveness fails, ends the leak.
async fn memory_leaks(fleet: &mut Cluster, alert: &Alert, kim: &Phone) {
    let limit = fleet.resident() + 128 * 1024 * 1024;
    memory_reaches(fleet, alert, limit).await;
    fleet.kill("fleet");
    fleet.restart("fleet").await;
    let (status, text) = fleet.operate(Method::GET, LIVENESS, None).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(fleet.resident() < limit, "the memory is free");
    eventually("requests succeed", async || kim.others().await.ok().map(drop)).await;
}

const LIVENESS: &str = "notice-service/actuator/health/liveness";

/// Sets the limit of memory, in bytes, and lets the process leak until liveness fails.
async fn memory_reaches(fleet: &Cluster, alert: &Alert, limit: u64) {
    let body = json!({"name": "server.memory-limit", "value": limit.to_string()});
    let path = "config-service/actuator/busenv";
    let (status, text) = fleet.operate(Method::POST, path, Some(body)).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{text}");
    switch(fleet, Fault::MemoryLeak, "true").await;
    eventually("liveness fails", async || {
        let (status, _) = fleet.operate(Method::GET, LIVENESS, None).await;
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let gauge = async |name| alert.metric(fleet, "notice-service", name, &[]).await;
    let (resident, shown) = (
        gauge("process_resident_memory_bytes").await,
        gauge("server_memory_limit_bytes").await,
    );
    assert!(
        shown > 0.0 && resident > 0.9 * shown,
        "the gauges show it: {resident} of {shown}"
    );
}

/// Kim writes the post of a day, and lee likes it. Takes at least a tenth of a second: the days of a test outlast its patience.
async fn like_a_new_post(kim: &Phone, lee: &Phone, number: i64) {
    let date = day(number);
    let post = NewPost {
        date,
        text: "a walk",
        pictures: &[],
    };
    kim.save_post(&post).await.expect("saved");
    assert!(lee.toggle_like(&kim.nickname, date).await.expect("answered"), "liked");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Returns noon of a day, from 2015 on, the first of which has the number 0; only the first 28 of each month are counted. Each test that
/// writes posts has [`DAYS`] of its own.
fn day(number: i64) -> i64 {
    let (year, of_year) = (2015 + number / DAYS, number % DAYS);
    let (month, day) = (1 + of_year / 28, 1 + of_year % 28);
    ((year * 100 + month) * 100 + day) * 100_000_000 + 12_000_000
}
