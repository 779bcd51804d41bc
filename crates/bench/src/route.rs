//! The smallest route behind the whole middleware, compared with a bare axum route with a static body; each in its own process.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::routing::get;
use futures::future::try_join_all;
use serde_json::json;
use sosohappy_testkit::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bare::Bare;
use crate::report::{Report, Row};
use crate::rounds::{Effort, Spread, median};
use crate::run::Run;

pub const CONNECTIONS: usize = 16;
pub const ROUND: Duration = Duration::from_secs(2);

/// Serves the baseline: a static body without middleware.
pub async fn serve_bare(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, Router::new().route("/", get(async || r#"{"status":"UP"}"#))).await?;
    Ok(())
}

pub async fn measure(run: &mut Run, report: &mut Report, effort: Effort) -> anyhow::Result<()> {
    let fleet = Cluster::embedded_with(
        &run.binaries(),
        &[
            ("SOSOHAPPY_FEED__LOG__LEVEL", "warn"),
            ("SOSOHAPPY_CONFIG__LOG__LEVEL", "warn"),
        ],
    )
    .await;
    let ours = fleet.replicas[0].feed;
    let bare = Bare::start("bare").await?;

    let (mut rates, mut baselines) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        rates.push(rate(ours, "/actuator/health/liveness", "").await?);
        baselines.push(rate(bare.port, "/", "").await?);
    }
    run.keep(
        "smallest route",
        json!({"aSecond": rates, "baselineASecond": baselines}),
    );
    let shares = rates.iter().zip(&baselines).map(|(rate, bare)| rate / bare);
    let share = Spread::of(shares.collect());
    let (rate, baseline) = (median(rates), median(baselines));
    report.add(&Row {
        what: "smallest route, whole middleware".to_owned(),
        measured: format!(
            "{rate:.0} requests/s, {:.2} of the baseline {}",
            share.median,
            share.range(2)
        ),
        baseline: format!("{baseline:.0} requests/s, bare axum"),
        target: "≥ 0.75",
        met: share.median >= 0.75,
        why: "each request has an id, a trace, a span, a deadline, limits on its head and body, a histogram and its maximum; the bare \
              route has none of them and returns a static body.",
    });
    Ok(())
}

/// Measures the requests per second over keep-alive connections, each request with these header lines.
pub async fn rate(port: u16, path: &str, headers: &str) -> anyhow::Result<f64> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n");
    rate_of(port, move || request.clone()).await
}

/// As [`rate`], for requests that are made one by one.
pub async fn rate_of(port: u16, request: impl Fn() -> String + Clone + Send + 'static) -> anyhow::Result<f64> {
    let began = Instant::now();
    let answered =
        try_join_all((0..CONNECTIONS).map(|_| tokio::spawn(request_repeatedly(port, request.clone(), began)))).await?;
    let answered: u32 = answered.into_iter().sum::<anyhow::Result<u32>>()?;
    Ok(f64::from(answered) / began.elapsed().as_secs_f64())
}

/// Sends requests until the round ends, and returns their number. The client does as little work as possible: it parses only the first
/// response, and expects the same length of all others.
async fn request_repeatedly(port: u16, request: impl Fn() -> String + Send, began: Instant) -> anyhow::Result<u32> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.set_nodelay(true)?;
    connection.write_all(request().as_bytes()).await?;
    let mut first = vec![0; 4096];
    let length = connection.read(&mut first).await?;
    let head = String::from_utf8_lossy(&first[..length]);
    ensure!(
        head.starts_with("HTTP/1.1 200") && head.contains("\r\n\r\n"),
        "unexpected response: {head}"
    );
    let mut answer = vec![0; length];
    let mut answered = 0;
    while began.elapsed() < ROUND {
        connection.write_all(request().as_bytes()).await?;
        connection
            .read_exact(&mut answer)
            .await
            .context("a response was truncated")?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "responses differ in length");
        answered += 1;
    }
    Ok(answered)
}
