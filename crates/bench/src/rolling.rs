//! A rolling restart of the whole fleet under load, as Kubernetes does it: no request fails, sockets are closed with a request to
//! reconnect (1012), and no sent message is lost.

mod load;

use std::time::{Duration, Instant};

use anyhow::ensure;
use sosohappy_fleet::app::Addresses;
use sosohappy_testkit::{BalancedCluster, EngineSet};

use crate::report::millis;
use crate::run::Run;
use load::{Load, LoadReport};

/// The time of load before the first restart and after the last one.
const MARGIN: Duration = Duration::from_secs(3);

/// The availability of the legacy Spring services in the same situation, from their own report: siege during a roll-out without probes.
const WITHOUT_PROBES: &str = "71.18 %";

pub async fn run(run: &mut Run) -> anyhow::Result<()> {
    ensure!(
        EngineSet::real_is_there(),
        "needs the real engines: scripts/engines up && eval \"$(scripts/engines env)\""
    );
    let mut fleet = BalancedCluster::start(&run.binaries()).await;
    let load = Load::start(&Addresses::behind(&fleet.url())).await?;
    let began = Instant::now();
    tokio::time::sleep(MARGIN).await;
    let (mut slowest_shutdown, mut slowest_startup) = (Duration::ZERO, Duration::ZERO);
    for name in fleet.names() {
        let times = fleet.restart(&name).await;
        println!(
            "{name}: shut down after {}, ready after {}",
            millis(times.shutdown),
            millis(times.startup)
        );
        slowest_shutdown = slowest_shutdown.max(times.shutdown);
        slowest_startup = slowest_startup.max(times.startup);
    }
    tokio::time::sleep(MARGIN).await;
    let took = began.elapsed();
    let report = load.settle().await?;
    println!("{report:#?}");
    run.write_section(
        "Rolling restart",
        &text(&report, took, slowest_shutdown, slowest_startup),
    )?;
    verdict(&report)
}

/// Fails if a request failed, a socket was closed without 1012, or a message was lost or delivered twice.
fn verdict(report: &LoadReport) -> anyhow::Result<()> {
    ensure!(
        report.failures.is_empty(),
        "{} of {} requests failed: {:?}",
        report.failures.len(),
        report.requests,
        report.failures
    );
    ensure!(
        report.other_closes.is_empty(),
        "sockets were closed without 1012: {:?}",
        report.other_closes
    );
    ensure!(
        report.restarts > 0,
        "no socket was closed with 1012: nothing was measured"
    );
    ensure!(
        report.stored == report.sent,
        "{} messages were sent, the history has {}",
        report.sent,
        report.stored
    );
    ensure!(
        report.duplicates == 0,
        "{} message frames were delivered twice",
        report.duplicates
    );
    Ok(())
}

fn text(report: &LoadReport, took: Duration, shutdown: Duration, startup: Duration) -> String {
    let failed = report.failures.len();
    let build = if cfg!(debug_assertions) { ", debug binaries" } else { "" };
    #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
    let availability = 100.0 * (report.requests - failed) as f64 / report.requests as f64;
    format!(
        "Written by `bench rolling`{build}: two replicas of each of the five services as processes behind HAProxy, which checks their readiness \
         five times a second and retries nothing; Kafka, MariaDB and SecantusDB on the same two cores. Each of the ten is terminated with SIGTERM \
         and started again, one after the other, under the load of people who post, like and send messages.\n\n\
         | what | measured | target |\n| --- | --- | --- |\n\
         | requests | {} in {:.0} s, {failed} failed: {availability:.2} % ({WITHOUT_PROBES} with the legacy Spring services, without probes) | 0 failed |\n\
         | slowest response | {} | |\n\
         | closed sockets | {} with 1012 (reconnect), {} otherwise | 1012 |\n\
         | messages sent, in the history, on the receiver's socket | {}, {}, {} ({} twice) | none lost, none twice |\n\
         | likes, notices on the author's socket | {}, {} | a notice is pushed while no socket is open |\n\
         | slowest shutdown, and slowest start until ready | {}, {} | |\n",
        report.requests,
        took.as_secs_f64(),
        millis(report.slowest),
        report.restarts,
        report.other_closes.len(),
        report.sent,
        report.stored,
        report.delivered,
        report.duplicates,
        report.likes,
        report.notices,
        millis(shutdown),
        millis(startup),
    )
}
