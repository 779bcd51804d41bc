//! A whole process, from its settings to a signal: alone in its file, for signals are a process's.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::bail;
use axum::routing::get;
use serde::Deserialize;
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::lifecycle::Lifecycle;
use sosohappy_common::run::{Leave, prepare, start, supervise};
use sosohappy_common::settings::{
    ConfigClient, Credentials, Erasure, Events, Fleet, Live, Log, RateLimits, Server, Sources, Tracing,
};
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "every service has all shared sections")]
struct Settings {
    server: Server,
    rate_limits: RateLimits,
    log: Log,
    tracing: Tracing,
    events: Events,
    fleet: Fleet,
    erasure: Erasure,
    credentials: Credentials,
    config: ConfigClient,
}

fn sources() -> Sources {
    let overrides = [
        ("server.port", "0"),
        ("server.drain-delay", "3s"),
        ("server.drain-budget", "20s"),
        ("credentials.service-token", "service-token-of-a-test"),
        ("credentials.operator-token", "operator-token-of-a-test"),
    ];
    let overrides = overrides
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
    Sources {
        service: "test",
        defaults: "",
        file: None,
        overrides,
        environment: false,
    }
}

fn build(settings: &Live<Settings>, context: &Context, told: mpsc::UnboundedSender<&'static str>) -> Service {
    let draining = context.lifecycle.draining();
    let asked = told.clone();
    context.lifecycle.spawn("worker", async move {
        draining.cancelled().await;
        told.send("drained")?;
        Ok(())
    });
    // Takes longer than the delay before the drain.
    let slow = get(async move || {
        let _told = asked.send("asked");
        tokio::time::sleep(Duration::from_secs(5)).await;
        "done"
    });
    let server = settings.part(|settings| settings.server.clone());
    let routes = OpenApiRouter::new().route("/test-service/slow", slow);
    let limits = settings.part(|settings| settings.rate_limits.clone());
    Service::new(context.clone(), server, &limits, &settings.get().credentials, routes)
}

/// Waits until the signal is noticed.
async fn unready(lifecycle: &Lifecycle) {
    while lifecycle.readiness().ready {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn signal_self() {
    let pid = std::process::id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .expect("kill is there");
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_serves_and_leaves() {
    let leave = Leave::listen().expect("signals");
    let (told, mut tells) = mpsc::unbounded_channel();
    let (settings, context) = prepare::<Settings>("test-service", &sources())
        .await
        .expect("valid settings");
    let lifecycle = context.lifecycle.clone();
    let running = start(settings, context, async |settings, context| {
        Ok(build(&settings, &context, told))
    })
    .await;
    let running = running.expect("it starts");
    let url = format!("http://{}", running.address);
    lifecycle.ready().await;
    let http = sosohappy_common::tls::client();
    let slow = tokio::spawn(http.get(format!("{url}/test-service/slow")).send());
    assert_eq!(tells.recv().await, Some("asked"));

    let leaving = tokio::spawn(supervise(vec![running], leave));
    signal_self();
    unready(&lifecycle).await;
    let ready = http
        .get(format!("{url}/actuator/health/readiness"))
        .send()
        .await
        .expect("still serving");
    assert_eq!(ready.status(), 503);
    assert!(
        tells.try_recv().is_err(),
        "tasks go on until the load balancer has looked elsewhere"
    );
    leaving
        .await
        .expect("no panic")
        .expect("everything was finished in time");
    assert_eq!(tells.recv().await, Some("drained"));
    let answer = slow
        .await
        .expect("no panic")
        .expect("the request in flight was answered");
    assert_eq!(answer.text().await.expect("text"), "done");
    assert!(http.get(&url).send().await.is_err(), "nobody listens any more");

    a_failed_task_ends_the_process().await;
    a_failed_start_leaves_nothing_behind().await;
    a_second_signal_ends_the_wait().await;
}

async fn a_failed_task_ends_the_process() {
    let (settings, context) = prepare::<Settings>("test-service", &sources())
        .await
        .expect("valid settings");
    let (told, mut tells) = mpsc::unbounded_channel();
    let lifecycle = context.lifecycle.clone();
    let running = start(settings, context, async |settings, context| {
        Ok(build(&settings, &context, told))
    })
    .await;
    let leave = Leave::listen().expect("signals");
    let ended = tokio::spawn(supervise(vec![running.expect("it starts")], leave));
    lifecycle.spawn("relay", async { bail!("lease lost") });
    let failure = ended.await.expect("no panic").expect_err("a task failed");
    assert_eq!(failure.to_string(), "test-service: task relay failed: lease lost");
    assert_eq!(
        tells.recv().await,
        Some("drained"),
        "the others are drained all the same"
    );
}

async fn a_failed_start_leaves_nothing_behind() {
    let (settings, context) = prepare::<Settings>("test-service", &sources())
        .await
        .expect("valid settings");
    let (told, mut tells) = mpsc::unbounded_channel();
    let started = start(settings, context, async |settings, context| {
        let _service = build(&settings, &context, told);
        bail!("database.url: nobody answers")
    });
    let failure = started.await.expect_err("it cannot start");
    assert_eq!(failure.to_string(), "database.url: nobody answers");
    let ended = tokio::time::timeout(Duration::from_mins(1), async { while tells.recv().await.is_some() {} });
    ended.await.expect("the worker is gone");
}

async fn a_second_signal_ends_the_wait() {
    let (settings, context) = prepare::<Settings>("test-service", &sources())
        .await
        .expect("valid settings");
    let (told, _tells) = mpsc::unbounded_channel();
    let lifecycle = context.lifecycle.clone();
    lifecycle.spawn("stuck", std::future::pending());
    let running = start(settings, context, async |settings, context| {
        Ok(build(&settings, &context, told))
    })
    .await;
    let leave = Leave::listen().expect("signals");
    let ended = tokio::spawn(supervise(vec![running.expect("it starts")], leave));
    lifecycle.ready().await;
    signal_self();
    // Two signals at once are one.
    unready(&lifecycle).await;
    signal_self();
    // Without the second signal it would take more than twenty seconds from the first one.
    let failure = tokio::time::timeout(Duration::from_secs(15), ended)
        .await
        .expect("at once")
        .expect("no panic");
    assert_eq!(
        failure.expect_err("not drained").to_string(),
        "asked twice to leave: not drained"
    );
}
