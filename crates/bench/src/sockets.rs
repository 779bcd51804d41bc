//! 10,000 sockets, of the fleet and of a bare server: resident memory of one (the slope from 1,000 on), idle and after a fan-out, and the time
//! and processor time of a notice that is written to ten of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use sosohappy_fleet::app::{Addresses, NewPost, Phone, Socket};
use sosohappy_fleet::demo::picture;
use sosohappy_testkit::Cluster;
use tokio_tungstenite::tungstenite::Message;

use crate::bare::Bare;
use crate::echo::Client;
use crate::report::{Report, Row, Samples, millis, write_section};
use crate::{addresses, noon_of};

const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// The number of sockets of one account, all of which get its notices.
const EACH: usize = 10;
/// Notices to an account with one socket.
const ROUNDS: i64 = 100;
/// Frames of the bare server to each group.
const BARE_ROUNDS: usize = 5;
/// People that sign up, or open their sockets, at the same time.
const AT_ONCE: usize = 32;
/// For what was just opened or written to be at rest.
const REST: Duration = Duration::from_secs(2);

/// Measures and writes the section of the page.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    let executable = std::env::current_exe()?;
    let binaries = executable.parent().unwrap_or(Path::new("."));
    let bare = bare_costs().await?;
    let mut report = Report::default();
    measure(&mut report, binaries, &bare).await?;
    let body = format!(
        "Written by `bench sockets`, which `make bench` runs as well: 10,000 sockets of version 1, ten of each of 1,000 accounts, all of which get a \
         notice, one account after the other. The bare server has as many sockets and buffers of the same size; a frame of one client is \
         written to the ten of its group.\n\n{}",
        report.table()
    );
    write_section(file, "Sockets", &body)
}

/// Figures of one server.
struct Costs {
    /// Bytes of a socket.
    idle: u64,
    /// Bytes of a socket after the fan-out.
    after: u64,
    /// From the cause to the frame on the last of ten sockets.
    times: Samples,
    /// Processor time of the server, in milliseconds.
    per_frame: f64,
    per_notice: f64,
}

/// Returns the slope of the memory from the first sockets on.
fn slope(resident: u64, few: u64) -> u64 {
    resident.saturating_sub(few) / (MANY - FEW) as u64
}

#[expect(clippy::cast_precision_loss, reason = "some thousand frames")]
fn millis_each(seconds: f64, frames: usize) -> f64 {
    seconds / frames as f64 * 1_000.0
}

async fn bare_costs() -> anyhow::Result<Costs> {
    let bare = Bare::start("bare-sockets").await?;
    let mut groups = bare_groups(bare.port, 0..FEW / EACH).await?;
    tokio::time::sleep(REST).await;
    let few = bare.resident();
    groups.extend(bare_groups(bare.port, FEW / EACH..MANY / EACH).await?);
    tokio::time::sleep(REST).await;
    let idle = slope(bare.resident(), few);

    let (mut times, before) = (Vec::new(), bare.processor_seconds()?);
    for _ in 0..BARE_ROUNDS {
        for group in &mut groups {
            let began = Instant::now();
            group[0]
                .send(Message::text("a frame of about the length of a like"))
                .await?;
            for socket in group {
                let frame = socket.next().await.context("the bare server has left")??;
                ensure!(frame.is_text(), "unexpected frame {frame:?}");
            }
            times.push(began.elapsed());
        }
    }
    let processor = bare.processor_seconds()? - before;
    tokio::time::sleep(REST).await;
    Ok(Costs {
        idle,
        after: slope(bare.resident(), few),
        times: Samples::new(times),
        per_frame: millis_each(processor, BARE_ROUNDS * MANY),
        per_notice: millis_each(processor, BARE_ROUNDS * MANY / EACH),
    })
}

async fn bare_groups(port: u16, numbers: std::ops::Range<usize>) -> anyhow::Result<Vec<Vec<Client>>> {
    let open = |number: usize| async move {
        let mut group = Vec::with_capacity(EACH);
        for _ in 0..EACH {
            let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}")).await?;
            socket.send(Message::text(number.to_string())).await?;
            group.push(socket);
        }
        anyhow::Ok(group)
    };
    stream::iter(numbers).map(open).buffered(AT_ONCE).try_collect().await
}

/// An account with its sockets.
type Person = (Phone, Vec<Socket>);

async fn measure(report: &mut Report, binaries: &Path, bare: &Costs) -> anyhow::Result<()> {
    let fleet = Cluster::embedded(binaries).await;
    let addresses = addresses(fleet.replicas[0]);
    // All accounts and posts first: what they take is not counted as the sockets' memory.
    let phones: Vec<Phone> = stream::iter(0..MANY / EACH)
        .map(|number| author(&addresses, number))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let liker = sign_up(&addresses, "liker").await?;
    let single = sign_up(&addresses, "single").await?;
    for day in 0..ROUNDS {
        save(&single, day).await?;
    }

    let later = phones[FEW / EACH..].to_vec();
    let mut people = open_sockets(phones[..FEW / EACH].to_vec()).await?;
    tokio::time::sleep(REST).await;
    let few = fleet.resident();
    people.extend(open_sockets(later).await?);
    tokio::time::sleep(REST).await;
    let idle = slope(fleet.resident(), few);

    let mut single = (single.clone(), vec![single.connect_notice().await?]);
    let mut to_one = Vec::new();
    for day in 0..ROUNDS {
        to_one.push(like(&liker, &mut single, day).await?);
    }
    let (mut times, before) = (Vec::new(), processor_seconds(&addresses).await?);
    for person in &mut people {
        times.push(like(&liker, person, 0).await?);
    }
    let processor = processor_seconds(&addresses).await? - before;
    tokio::time::sleep(REST).await;
    let costs = Costs {
        idle,
        after: slope(fleet.resident(), few),
        times: Samples::new(times),
        per_frame: millis_each(processor, MANY),
        per_notice: millis_each(processor, MANY / EACH),
    };
    add_memory(report, &costs, bare);
    add_times(report, &costs, &Samples::new(to_one), bare);
    Ok(())
}

fn add_memory(report: &mut Report, costs: &Costs, bare: &Costs) {
    report.add(Row {
        what: "idle socket, resident, slope from 1,000 to 10,000".to_owned(),
        measured: format!("{} bytes", costs.idle),
        baseline: format!("{} bytes, bare server", bare.idle),
        target: "≤ 6 KiB",
        met: costs.idle <= 6 * 1024,
        why: "a socket takes a task, a queue, an entry in the hub and a buffer of 1 KiB.",
    });
    report.add(Row {
        what: "the same after a notice to each of the 10,000".to_owned(),
        measured: format!("{} bytes", costs.after),
        baseline: format!("{} bytes, bare server", bare.after),
        target: "≤ 2 × idle",
        met: costs.after <= costs.idle * 2,
        why: "a thousand likes, their notices and pushes passed through all services of the process, whose caches and buffers are counted here.",
    });
}

fn add_times(report: &mut Report, costs: &Costs, to_one: &Samples, bare: &Costs) {
    for (name, per_mille) in [("p50", 500), ("p99", 990)] {
        let [time, single, floor] = [&costs.times, to_one, &bare.times].map(|times| times.quantile(per_mille));
        report.add(Row {
            what: format!("like → its frame on all of 10 sockets, 10,000 open, {name}"),
            measured: millis(time),
            baseline: format!("{}, on one socket; {}, bare server", millis(single), millis(floor)),
            target: "≤ 2 × one socket",
            met: time <= single * 2,
            why: "ten frames, ten pings behind them and ten pongs instead of one each.",
        });
    }
    report.add(Row {
        what: "processor time of a notice's frame, the like's call and push included".to_owned(),
        measured: format!("{:.3} ms", costs.per_frame),
        baseline: format!("{:.3} ms, bare server", bare.per_frame),
        target: "≤ 2 ms",
        met: costs.per_frame <= 2.0,
        why: "a tenth of a like, its events, its notice and its push falls on each of ten frames.",
    });
    report.add(Row {
        what: "processor time of a notice with its ten frames".to_owned(),
        measured: format!("{:.2} ms", costs.per_notice),
        baseline: format!("{:.2} ms, bare server", bare.per_notice),
        target: "≤ 20 ms",
        met: costs.per_notice <= 20.0,
        why: "as that of a frame.",
    });
}

/// Opens the sockets of each person.
async fn open_sockets(phones: Vec<Phone>) -> anyhow::Result<Vec<Person>> {
    let open = |phone: Phone| async move {
        let mut sockets = Vec::with_capacity(EACH);
        for _ in 0..EACH {
            sockets.push(phone.connect_notice().await?);
        }
        anyhow::Ok((phone, sockets))
    };
    stream::iter(phones).map(open).buffered(AT_ONCE).try_collect().await
}

/// Signs up a person with a post that can be liked.
async fn author(addresses: &Addresses, number: usize) -> anyhow::Result<Phone> {
    let phone = sign_up(addresses, &format!("p{number}")).await?;
    save(&phone, 0).await?;
    Ok(phone)
}

/// Signs a person up, with a nickname.
pub async fn sign_up(addresses: &Addresses, name: &str) -> anyhow::Result<Phone> {
    let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google")?;
    phone.sign_in().await?;
    phone.set_profile(name, "", &picture(0)).await?;
    Ok(phone)
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
async fn like(liker: &Phone, (author, sockets): &mut Person, day: i64) -> anyhow::Result<Duration> {
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
