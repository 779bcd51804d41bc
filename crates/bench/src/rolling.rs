//! A rolling restart of the whole fleet under load, as Kubernetes does it: no request fails, sockets are told to come back, and
//! nothing that was sent is missed.

mod load;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sosohappy_fleet::app::Addresses;
use sosohappy_testkit::{Balanced, EngineSet};

use crate::report::{millis, write_section};
use load::{Load, Seen};

/// Load before the first restart and after the last one.
const AROUND: Duration = Duration::from_secs(3);

/// What the fleet before this one showed in the same situation, in its own report: siege during a roll-out without probes.
const WITHOUT_PROBES: &str = "71.18 %";

pub async fn run(file: &Path) -> anyhow::Result<()> {
    ensure!(
        EngineSet::real_is_there(),
        "needs the real engines: scripts/engines up && eval \"$(scripts/engines env)\""
    );
    let executable = std::env::current_exe()?;
    let mut fleet = Balanced::start(executable.parent().unwrap_or(Path::new("."))).await;
    let load = Load::start(&Addresses::behind(&fleet.url())).await?;
    let began = Instant::now();
    tokio::time::sleep(AROUND).await;
    let (mut slowest_to_leave, mut slowest_to_come) = (Duration::ZERO, Duration::ZERO);
    for name in fleet.names() {
        let rolled = fleet.roll(&name).await;
        println!(
            "{name}: left after {}, ready after {}",
            millis(rolled.left),
            millis(rolled.ready)
        );
        slowest_to_leave = slowest_to_leave.max(rolled.left);
        slowest_to_come = slowest_to_come.max(rolled.ready);
    }
    tokio::time::sleep(AROUND).await;
    let took = began.elapsed();
    let seen = load.settle().await?;
    println!("{seen:#?}");
    write_section(
        file,
        "Rolling restart",
        &text(&seen, took, slowest_to_leave, slowest_to_come),
    )?;
    verdict(&seen)
}

fn verdict(seen: &Seen) -> anyhow::Result<()> {
    ensure!(
        seen.failures.is_empty(),
        "{} of {} requests failed: {:?}",
        seen.failures.len(),
        seen.requests,
        seen.failures
    );
    ensure!(
        seen.other_ends.is_empty(),
        "sockets ended otherwise than by 1012: {:?}",
        seen.other_ends
    );
    ensure!(
        seen.restarts > 0,
        "no socket was told to come back: nothing was measured"
    );
    ensure!(
        seen.stored == seen.sent,
        "{} messages were sent, the history has {}",
        seen.sent,
        seen.stored
    );
    ensure!(seen.doubled == 0, "{} message frames were shown twice", seen.doubled);
    Ok(())
}

fn text(seen: &Seen, took: Duration, leave: Duration, come: Duration) -> String {
    let failed = seen.failures.len();
    let build = if cfg!(debug_assertions) { ", debug binaries" } else { "" };
    #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
    let availability = 100.0 * (seen.requests - failed) as f64 / seen.requests as f64;
    format!(
        "Written by `bench rolling`{build}: two replicas of each of the five services as processes behind HAProxy, which asks their readiness five \
         times a second and tries nothing twice; Kafka, MariaDB and SecantusDB on the same two cores. Each of the ten is sent SIGTERM and \
         started again, one after the other, while people write, like and talk.\n\n\
         | what | measured | promise |\n| --- | --- | --- |\n\
         | requests | {} in {:.0} s, {failed} failed: {availability:.2} % ({WITHOUT_PROBES} in the fleet before this one, without probes) | 0 failed |\n\
         | slowest answer | {} | |\n\
         | sockets told to reconnect | {} times by 1012, {} otherwise | 1012 |\n\
         | messages sent, in the history, on the receiver's socket | {}, {}, {} ({} twice) | none missed, none twice |\n\
         | likes, notices on the author's socket | {}, {} | what comes while no socket is open is pushed |\n\
         | slowest replica to leave, and to be ready again | {}, {} | |\n",
        seen.requests,
        took.as_secs_f64(),
        millis(seen.slowest),
        seen.restarts,
        seen.other_ends.len(),
        seen.sent,
        seen.stored,
        seen.shown,
        seen.doubled,
        seen.likes,
        seen.notices,
        millis(leave),
        millis(come),
    )
}
