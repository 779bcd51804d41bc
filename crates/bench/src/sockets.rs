//! 10,000 sockets: the resident memory of an idle one (the slope from 1,000 on), and the time and processor time of a notice that is written
//! to ten of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sosohappy_fleet::app::{Addresses, NewPost, Phone, Socket};
use sosohappy_fleet::demo::picture;
use sosohappy_testkit::Cluster;

use crate::report::{Report, Row, Samples, millis};
use crate::{addresses, noon_of};

const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// The number of sockets of one account.
const EACH: usize = 10;
/// Accounts that get a notice, one after the other; each of their sockets gets the frame.
const NOTIFIED: usize = 500;
/// Notices of the baseline.
const ROUNDS: i64 = 100;

pub async fn measure(report: &mut Report, binaries: &Path) -> anyhow::Result<()> {
    let fleet = Cluster::embedded(binaries).await;
    let addresses = addresses(fleet.replicas[0]);
    // All accounts first: what they take is not counted as the sockets' memory.
    let mut people: Vec<(Phone, Vec<Socket>)> = Vec::with_capacity(MANY / EACH);
    for number in 0..MANY / EACH {
        people.push((sign_up(&addresses, &format!("p{number}")).await?, Vec::new()));
    }
    let mut few = 0;
    for (number, (phone, sockets)) in people.iter_mut().enumerate() {
        for _ in 0..EACH {
            sockets.push(phone.connect_notice().await?);
        }
        if (number + 1) * EACH == FEW {
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
        target: "≤ 6 KiB",
        met: each <= 6 * 1024,
        why: "a socket takes a task, a queue, an entry in the hub and a buffer of 1 KiB.",
    });
    fan_out(report, &addresses, people).await
}

/// Signs a person up, with a nickname.
pub async fn sign_up(addresses: &Addresses, name: &str) -> anyhow::Result<Phone> {
    let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google")?;
    phone.sign_in().await?;
    phone.set_profile(name, "", &picture(0)).await?;
    Ok(phone)
}

/// Measures likes whose notices are written to ten sockets each, while all 10,000 are open. The baseline is the same for one socket.
async fn fan_out(
    report: &mut Report,
    addresses: &Addresses,
    mut people: Vec<(Phone, Vec<Socket>)>,
) -> anyhow::Result<()> {
    let liker = sign_up(addresses, "liker").await?;
    let single = sign_up(addresses, "single").await?;
    let single_socket = single.connect_notice().await?;
    people.truncate(NOTIFIED);
    let mut single = (single, vec![single_socket]);
    for (phone, _) in &people {
        save(phone, 0).await?;
    }
    for day in 0..ROUNDS {
        save(&single.0, day).await?;
    }

    let mut to_one = Vec::new();
    for day in 0..ROUNDS {
        to_one.push(like(&liker, &mut single, day).await?);
    }
    let (mut to_ten, before) = (Vec::new(), processor_seconds(addresses).await?);
    for person in &mut people {
        to_ten.push(like(&liker, person, 0).await?);
    }
    let processor = processor_seconds(addresses).await? - before;
    let (to_one, to_ten) = (Samples::new(to_one), Samples::new(to_ten));
    for (name, per_mille) in [("p50", 500), ("p99", 990)] {
        let (time, baseline) = (to_ten.quantile(per_mille), to_one.quantile(per_mille));
        report.add(Row {
            what: format!("like → its frame on all of 10 sockets, 10,000 open, {name}"),
            measured: millis(time),
            baseline: format!("{}, on one socket", millis(baseline)),
            target: "≤ 2 ×",
            met: time <= baseline * 2,
            why: "ten frames, ten pings behind them and ten pongs instead of one each.",
        });
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand frames")]
    let per_frame = processor / (NOTIFIED * EACH) as f64 * 1_000.0;
    report.add(Row {
        what: "processor time of a notice's frame, the like's call and push included".to_owned(),
        measured: format!("{per_frame:.2} ms"),
        baseline: "—".to_owned(),
        target: "≤ 2 ms",
        met: per_frame <= 2.0,
        why: "a tenth of a like, its events, its notice and its push falls on each of ten frames.",
    });
    Ok(())
}

async fn save(author: &Phone, day: i64) -> anyhow::Result<()> {
    let post = NewPost {
        date: noon_of(day),
        text: "liked",
        pictures: &[],
    };
    author.save_post(&post).await
}

/// Returns the time from the call to the frame on the last of the author's sockets.
async fn like(liker: &Phone, (author, sockets): &mut (Phone, Vec<Socket>), day: i64) -> anyhow::Result<Duration> {
    let began = Instant::now();
    liker.toggle_like(&author.nickname, noon_of(day)).await?;
    futures::future::try_join_all(sockets.iter_mut().map(Socket::text)).await?;
    Ok(began.elapsed())
}

/// Returns the processor time of the process, which is the whole fleet.
async fn processor_seconds(addresses: &Addresses) -> anyhow::Result<f64> {
    let url = format!("{}/actuator/prometheus", addresses.notice);
    let metrics = sosohappy_common::tls::client().get(url).send().await?.text().await?;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("process_cpu_seconds_total"))
        .context("the processor time is missing")?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}
