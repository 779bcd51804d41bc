//! The resident memory of an idle socket: the slope between 1,000 and 10,000 sockets.

use std::path::Path;
use std::time::Duration;

use sosohappy_fleet::app::{Phone, Socket};
use sosohappy_fleet::demo::picture;
use sosohappy_testkit::Cluster;

use crate::addresses;
use crate::report::{Report, Row};

const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// The number of sockets of one account.
const EACH: usize = 10;

pub async fn measure(report: &mut Report, binaries: &Path) -> anyhow::Result<()> {
    let fleet = Cluster::embedded(binaries).await;
    let addresses = addresses(fleet.replicas[0]);
    let mut sockets: Vec<Socket> = Vec::with_capacity(MANY);
    let mut few = 0;
    for number in 0..MANY / EACH {
        let mut phone = Phone::new(addresses.clone(), &format!("p{number}@example.com"), "google")?;
        phone.sign_in().await?;
        phone.set_profile(&format!("p{number}"), "", &picture(0)).await?;
        for _ in 0..EACH {
            sockets.push(phone.connect_notice().await?);
        }
        if sockets.len() == FEW {
            tokio::time::sleep(Duration::from_secs(2)).await;
            few = fleet.resident();
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = fleet.resident().saturating_sub(few) / (MANY - FEW) as u64;
    report.add(Row {
        what: "idle socket, resident, slope from 1,000 to 10,000".to_owned(),
        measured: format!("{each} bytes"),
        baseline: "—".to_owned(),
        target: "≤ 12 KiB",
        met: each <= 12 * 1024,
        why: "a socket takes a task, a queue, an entry in the hub and two buffers of 4 KiB.",
    });
    Ok(())
}
