//! `bench mirror`: latency that `fleet mirror` adds to an answer, and the time in which a route steps back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::routing::post;
use serde_json::Value;
use sosohappy_fleet::mirror::{self, Mirror, OUTCOMES, Options, Side};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::report::{Samples, millis, verdict};
use crate::run::Run;

const PATH: &str = "/feed-service/findDayFeed";
/// As the report names it.
const ROUTE: &str = "POST /feed-service/findDayFeed";
const ROUNDS: usize = 9;
const REQUESTS: usize = 1000;
const STEPS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(30);

/// Targets: what the mirror adds to the slowest of a hundred answers, and the longest step back.
const ADDED: Duration = Duration::from_millis(2);
const STEP_BACK: Duration = Duration::from_secs(1);

/// Serves one route with a body that can be changed.
struct Backend {
    url: String,
    body: tokio::sync::watch::Sender<String>,
    _serving: AbortOnDropHandle<()>,
}

impl Backend {
    async fn start(name: &'static str) -> anyhow::Result<Self> {
        let (body, shown) = tokio::sync::watch::channel(post_of(3));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let answer = async move |State(shown): State<tokio::sync::watch::Receiver<String>>| {
            let body = shown.borrow().clone();
            (
                [(header::CONTENT_TYPE, "application/json"), (header::SERVER, name)],
                body,
            )
        };
        let router = Router::new().route(PATH, post(answer)).with_state(shown);
        let serving = tokio::spawn(async move {
            // Ends with its task.
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self {
            url,
            body,
            _serving: AbortOnDropHandle::new(serving),
        })
    }
}

fn post_of(happiness: u8) -> String {
    format!(
        "{{\"nickname\":\"kim\",\"happiness\":{happiness},\"text\":\"today\",\"isPublic\":true,\"categoryList\":[\"sea\",\"home\"]}}"
    )
}

/// Waits until all answers are compared: a difference of the step before would take the route back at once.
async fn wait_until_compared(http: &reqwest::Client, mirror: &Mirror) -> anyhow::Result<()> {
    let report = format!("http://{}/mirror/report", mirror.admin);
    let began = Instant::now();
    loop {
        let report: Value = http.get(&report).send().await?.error_for_status()?.json().await?;
        let count = |name: &str| report["routes"][ROUTE][name].as_u64().unwrap_or_default();
        let answered = count("answered");
        ensure!(answered > 0, "the report has no {ROUTE}");
        if OUTCOMES.iter().map(|name| count(name)).sum::<u64>() == answered {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "the comparisons do not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn run(run: &mut Run) -> anyhow::Result<()> {
    let (spring, ours) = (Backend::start("spring").await?, Backend::start("ours").await?);
    let folder = tempfile::tempdir()?;
    let options = Options {
        spring: vec![spring.url.clone()],
        ours: vec![ours.url.clone()],
        listen: "127.0.0.1:0".parse()?,
        admin: "127.0.0.1:0".parse()?,
        data: folder.path().to_owned(),
        rules: None,
        answer: Side::Spring,
        copy: true,
        writes: false,
        // Far away while the added time is measured: the route is moved by hand for the steps.
        move_after: Some(u64::MAX),
        error_rate: 0.05,
        body_limit: 256 * 1024,
        comparisons: 128,
        timeout: Duration::from_secs(5),
        confirm: Duration::from_millis(500),
        show_values: false,
        topics: None,
    };
    let mirror = mirror::start(options, &mirror::shared()?).await?;
    let http = sosohappy_common::tls::client();
    let url = format!("http://{}{PATH}", mirror.address);
    let direct = format!("{}{PATH}", spring.url);
    let ask = async |url: &str| {
        let began = Instant::now();
        let answer = http.post(url).form(&[("nickname", "kim")]).send().await?;
        let by = answer.headers().get(header::SERVER).cloned();
        answer.bytes().await?;
        anyhow::Ok((began.elapsed(), by.context("no name")?))
    };
    for _ in 0..REQUESTS {
        ask(&url).await?;
        ask(&direct).await?;
    }
    let (mut medians, mut p99s, mut baselines) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..REQUESTS {
            without.push(ask(&direct).await?.0);
            with.push(ask(&url).await?.0);
        }
        let (without, with) = (Samples::new(without), Samples::new(with));
        medians.push(with.median().saturating_sub(without.median()));
        p99s.push(with.quantile(990).saturating_sub(without.quantile(990)));
        baselines.push(without.quantile(990));
    }
    let (medians, p99s, baselines) = (Samples::new(medians), Samples::new(p99s), Samples::new(baselines));

    let mut steps = Vec::new();
    for _ in 0..STEPS {
        ours.body.send_replace(post_of(3));
        wait_until_compared(&http, &mirror).await?;
        let moved = format!("http://{}/mirror/move?route=/feed-service/*&to=ours", mirror.admin);
        http.post(moved).send().await?.error_for_status()?;
        ensure!(ask(&url).await?.1 == "ours", "the route did not move");
        ours.body.send_replace(post_of(4));
        let began = Instant::now();
        while ask(&url).await?.1 != "spring" {
            ensure!(began.elapsed() < PATIENCE, "the route never stepped back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        steps.push(began.elapsed());
    }
    let steps = Samples::new(steps);

    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    let text = format!(
        "Written by `make bench-migration`, by its part `bench mirror` ({build} build, load average {load}): client, mirror and both backends in one process; {ROUNDS} rounds of \
         {REQUESTS} requests straight to a backend and {REQUESTS} through the mirror, which compares each, one by one in turn; the median \
         of the rounds. A step back is from the first answer that differs to the first answer of Spring, confirmation included; the \
         median and the longest of {STEPS}.\n\n\
         | what | measured | target | |\n| --- | --- | --- | --- |\n\
         | added at p50 | {} | | |\n| added at p99 | {} (straight: {}) | < {} ms | {} |\n| step back | {}, {} | < {} s | {} |\n",
        millis(medians.median()),
        millis(p99s.median()),
        millis(baselines.median()),
        ADDED.as_millis(),
        verdict(p99s.median() < ADDED),
        millis(steps.median()),
        millis(steps.quantile(1000)),
        STEP_BACK.as_secs(),
        verdict(steps.quantile(1000) < STEP_BACK),
    );
    println!("{text}");
    run.write_section("Mirror", &text)
}
