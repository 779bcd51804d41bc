//! The time from exec until the services are ready, their resident memory, and the sizes of their binaries.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use sosohappy_testkit::{Cluster, EngineSet};

use crate::report::{Report, Row, Samples, millis};
use crate::rounds::micros;
use crate::run::Run;

const STARTS: usize = 7;
/// Of each service as a process, which starts on the real engines.
const STARTS_OF_SERVICE: usize = 3;

/// The binaries of an image each, and the process of [`Cluster::real`] that runs one.
const SERVICES: [(&str, &str); 5] = [
    ("sosohappy-config", "config"),
    ("sosohappy-auth", "auth"),
    ("sosohappy-feed", "feed-1"),
    ("sosohappy-dm", "dm-1"),
    ("sosohappy-notice", "notice-1"),
];

pub async fn measure(run: &mut Run, report: &mut Report) -> anyhow::Result<()> {
    let binaries = run.binaries();
    let mut fleet = Cluster::embedded(&binaries).await;
    let times = starts(&mut fleet, "fleet", STARTS).await;
    run.keep("starts of the fleet", json!({"micros": micros(&times)}));
    let median = Samples::new(times).median();
    report.add(&Row {
        what: "fleet, embedded, from exec to all ready (after `kill -9`)".to_owned(),
        measured: millis(median),
        baseline: "—".to_owned(),
        target: "≤ 1 s",
        met: median <= Duration::from_secs(1),
        why: "the others wait for config; each opens its database and reads its topics.",
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let resident = fleet.resident() / (1 << 20);
    report.add(&Row {
        what: "fleet, embedded, resident memory".to_owned(),
        measured: format!("{resident} MiB"),
        baseline: "—".to_owned(),
        target: "≤ 120 MiB",
        met: resident <= 120,
        why: "five services with their pools, caches and registries.",
    });
    drop(fleet);
    let table = sizes(&binaries, median).await?;
    run.write_section("Binaries and starts", &table)
}

/// Returns the table of binaries, with the times from exec until they are ready.
async fn sizes(binaries: &Path, of_fleet: Duration) -> anyhow::Result<String> {
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let mut table = format!(
        "Written by `make bench`: sizes of the binaries of the {build} build, of which an image has one beside its base, not of the images. Medians of \
         {STARTS} starts of the fleet on embedded engines and of {STARTS_OF_SERVICE} of each service, on Kafka, MariaDB and SecantusDB, after `kill -9` \
         each, while the other processes run.\n\n\
         | binary | size | from exec to ready |\n| --- | --- | --- |\n| `fleet` | {} | {} |\n",
        size(&binaries.join("fleet"))?,
        millis(of_fleet)
    );
    let mut fleet = None;
    if EngineSet::real_is_there() {
        fleet = Some(Cluster::real(binaries).await);
    }
    for (binary, process) in SERVICES {
        let start = match &mut fleet {
            Some(fleet) => millis(Samples::new(starts(fleet, process, STARTS_OF_SERVICE).await).median()),
            None => "—".to_owned(),
        };
        writeln!(table, "| `{binary}` | {} | {start} |", size(&binaries.join(binary))?)?;
    }
    Ok(table)
}

/// Kills a process and starts it again, so many times.
async fn starts(fleet: &mut Cluster, process: &str, number: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(number);
    for _ in 0..number {
        fleet.kill(process);
        times.push(fleet.restart(process).await);
    }
    times
}

fn size(binary: &Path) -> anyhow::Result<String> {
    let tenths = std::fs::metadata(binary)?.len() * 10 / (1 << 20);
    Ok(format!("{}.{} MiB", tenths / 10, tenths % 10))
}
