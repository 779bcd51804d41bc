//! The time from exec until all five services are ready, and their resident memory.

use std::path::Path;
use std::time::Duration;

use sosohappy_testkit::Cluster;

use crate::report::{Report, Row, Samples, millis};

const STARTS: usize = 7;

pub async fn measure(report: &mut Report, binaries: &Path) -> anyhow::Result<()> {
    let mut fleet = Cluster::embedded(binaries).await;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        fleet.kill("fleet");
        times.push(fleet.restart("fleet").await);
    }
    let median = Samples::new(times).median();
    report.add(Row {
        what: "fleet, embedded, from exec to all ready (after `kill -9`)".to_owned(),
        measured: millis(median),
        baseline: "—".to_owned(),
        target: "≤ 1 s",
        met: median <= Duration::from_secs(1),
        why: "the others wait for config; each opens its database and reads its topics.",
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let resident = fleet.resident() / (1 << 20);
    report.add(Row {
        what: "fleet, embedded, resident memory".to_owned(),
        measured: format!("{resident} MiB"),
        baseline: "—".to_owned(),
        target: "≤ 120 MiB",
        met: resident <= 120,
        why: "five services with their pools, caches and registries.",
    });
    Ok(())
}
