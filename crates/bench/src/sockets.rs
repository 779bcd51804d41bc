//! Thousands of sockets, of the fleet and of a bare server: resident memory of one (the slope from 1,000 on), idle and after a fan-out, and the time
//! and processor time of a notice that is written to ten of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use sosohappy_fleet::app::{Addresses, NewPost, Phone, Socket};
use sosohappy_fleet::demo::picture;
use sosohappy_testkit::Cluster;
use tokio_tungstenite::tungstenite::Message;

use crate::bare::{Bare, processor_seconds_at};
use crate::echo::Client;
use crate::report::{Report, Row, millis};
use crate::rounds::Rounds;
use crate::run::Run;
use crate::{addresses, noon_of};

/// The sockets that are open when the memory is first read.
const FEW: usize = 1_000;
/// The number of sockets of one account, all of which get its notices.
const EACH: usize = 10;
/// Rounds, in which notices to one socket, to ten, and frames of the bare server take turns.
const ROUNDS: usize = 5;
/// Notices of a round to an account with one socket.
const SINGLE: usize = 20;
/// Frames of the bare server to each group, before its memory is read again.
const BARE_ROUNDS: usize = 5;
/// Groups of the bare server that stay open beside the fleet's sockets: a process may have 20,000 files open.
const BARE_GROUPS: usize = 200;
/// People that sign up, or open their sockets, at the same time.
const AT_ONCE: usize = 32;
/// For what was just opened or written to be at rest.
const REST: Duration = Duration::from_secs(2);

/// Measures with so many sockets, and writes the section of the page.
pub async fn run(run: &mut Run, many: usize) -> anyhow::Result<()> {
    ensure!(
        many.is_multiple_of(EACH * ROUNDS) && many > FEW,
        "the number of sockets is a multiple of {} above {FEW}",
        EACH * ROUNDS
    );
    let (bare, costs) = BareServer::start(many).await?;
    let mut report = Report::default();
    measure(run, &mut report, many, bare, &costs).await?;
    let body = format!(
        "Written by `bench sockets`, which `make bench` runs as well: {many} sockets of version 1, ten of each of {} accounts, all of which get a \
         notice, one account after the other, in {ROUNDS} rounds in turn with notices to one socket and frames of the bare server. The bare server \
         has as many sockets and buffers of the same size, for its times {} of them; a frame of one client is written to the ten of its group.\n\n{}",
        many / EACH,
        BARE_GROUPS * EACH,
        report.table()
    );
    run.write_section("Sockets", &body)
}

/// Memory and processor time of one server.
struct Costs {
    /// Bytes of a socket.
    idle: u64,
    /// Bytes of a socket after the fan-out.
    after: u64,
    /// Processor time of the server, in milliseconds.
    per_frame: f64,
    per_notice: f64,
}

/// Returns the slope of the memory from the first sockets on.
fn slope(resident: u64, few: u64, many: usize) -> u64 {
    resident.saturating_sub(few) / (many - FEW) as u64
}

#[expect(clippy::cast_precision_loss, reason = "some thousand frames")]
fn millis_each(seconds: f64, frames: usize) -> f64 {
    seconds / frames as f64 * 1_000.0
}

/// The baseline.
struct BareServer {
    groups: Vec<Vec<Client>>,
    // Held for its drop: it ends the process.
    _process: Bare,
}

impl BareServer {
    /// Measures with so many sockets, most of which are closed afterwards.
    async fn start(many: usize) -> anyhow::Result<(Self, Costs)> {
        let bare = Bare::start("bare-sockets").await?;
        let mut groups = bare_groups(bare.port, 0..FEW / EACH).await?;
        tokio::time::sleep(REST).await;
        let few = bare.resident();
        groups.extend(bare_groups(bare.port, FEW / EACH..many / EACH).await?);
        tokio::time::sleep(REST).await;
        let idle = slope(bare.resident(), few, many);

        let before = bare.processor_seconds()?;
        for _ in 0..BARE_ROUNDS {
            frames_to(&mut groups).await?;
        }
        let processor = bare.processor_seconds()? - before;
        tokio::time::sleep(REST).await;
        let costs = Costs {
            idle,
            after: slope(bare.resident(), few, many),
            per_frame: millis_each(processor, BARE_ROUNDS * many),
            per_notice: millis_each(processor, BARE_ROUNDS * many / EACH),
        };
        groups.truncate(BARE_GROUPS);
        let server = Self { groups, _process: bare };
        Ok((server, costs))
    }
}

/// Writes a frame to each group, one after the other, and returns the times until the last socket has it.
async fn frames_to(groups: &mut [Vec<Client>]) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(groups.len());
    for group in groups {
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
    Ok(times)
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

async fn measure(
    run: &mut Run,
    report: &mut Report,
    many: usize,
    mut bare: BareServer,
    bare_costs: &Costs,
) -> anyhow::Result<()> {
    let fleet = Cluster::embedded(&run.binaries()).await;
    let addresses = addresses(fleet.replicas[0]);
    // All accounts and posts first: what they take is not counted as the sockets' memory.
    let phones: Vec<Phone> = stream::iter(0..many / EACH)
        .map(|number| author(&addresses, number))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let liker = sign_up(&addresses, "liker").await?;
    let single = sign_up(&addresses, "single").await?;
    let days = i64::try_from(ROUNDS * SINGLE)?;
    for day in 0..days {
        save(&single, day).await?;
    }

    let later = phones[FEW / EACH..].to_vec();
    let mut people = open_sockets(phones[..FEW / EACH].to_vec()).await?;
    tokio::time::sleep(REST).await;
    let few = fleet.resident();
    people.extend(open_sockets(later).await?);
    tokio::time::sleep(REST).await;
    let idle = slope(fleet.resident(), few, many);

    let mut single = (single.clone(), vec![single.connect_notice().await?]);
    let mut days = 0..days;
    let (mut to_one, mut to_bare, mut processor) = (Rounds::default(), Rounds::default(), 0.0);
    for people in people.chunks_mut(many / EACH / ROUNDS) {
        let mut ones = Vec::with_capacity(SINGLE);
        for day in days.by_ref().take(SINGLE) {
            ones.push(like(&liker, &mut single, day).await?);
        }
        let bare = frames_to(&mut bare.groups).await?;
        let before = processor_seconds_at(&addresses.notice).await?;
        let mut times = Vec::with_capacity(people.len());
        for person in people {
            times.push(like(&liker, person, 0).await?);
        }
        processor += processor_seconds_at(&addresses.notice).await? - before;
        to_one.add(times.clone(), ones);
        to_bare.add(times, bare);
    }
    tokio::time::sleep(REST).await;
    let costs = Costs {
        idle,
        after: slope(fleet.resident(), few, many),
        per_frame: millis_each(processor, many),
        per_notice: millis_each(processor, many / EACH),
    };
    run.keep(
        "like → its frame on all of 10 sockets",
        json!({"besideOneSocket": to_one.to_json(), "besideABareServer": to_bare.to_json()}),
    );
    add_memory(report, many, &costs, bare_costs);
    add_times(report, many, &to_one, &to_bare);
    add_processor(report, &costs, bare_costs);
    Ok(())
}

fn add_memory(report: &mut Report, many: usize, costs: &Costs, bare: &Costs) {
    report.add(&Row {
        what: format!("idle socket, resident, slope from {FEW} to {many}"),
        measured: format!("{} bytes", costs.idle),
        baseline: format!("{} bytes, bare server", bare.idle),
        target: "≤ 6 KiB",
        met: costs.idle <= 6 * 1024,
        why: "a socket takes a task, a queue, an entry in the hub and a buffer of 1 KiB.",
    });
    report.add(&Row {
        what: "the same after a notice to each of them".to_owned(),
        measured: format!("{} bytes", costs.after),
        baseline: format!("{} bytes, bare server", bare.after),
        target: "≤ 2 × idle",
        met: costs.after <= costs.idle * 2,
        why: "likes of all accounts, their notices and pushes passed through all services of the process, whose caches and buffers are counted here.",
    });
}

fn add_times(report: &mut Report, many: usize, to_one: &Rounds, to_bare: &Rounds) {
    for (name, per_mille) in [("p50", 500), ("p99", 990)] {
        let (one, bare) = (to_one.compare(per_mille), to_bare.compare(per_mille));
        report.add(&Row {
            what: format!("like → its frame on all of 10 sockets, {many} open, {name}"),
            measured: format!(
                "{}, {}; {:.1} × the bare server {}",
                millis(one.time),
                one.ratio.times(),
                bare.ratio.median,
                bare.ratio.range(1)
            ),
            baseline: format!(
                "{}, on one socket; {}, bare server",
                millis(one.baseline),
                millis(bare.baseline)
            ),
            target: "≤ 2 × one socket",
            met: one.ratio.median <= 2.0,
            why: "ten frames, ten pings behind them and ten pongs instead of one each.",
        });
    }
}

fn add_processor(report: &mut Report, costs: &Costs, bare: &Costs) {
    report.add(&Row {
        what: "processor time of a notice's frame, the like's call and push included".to_owned(),
        measured: format!("{:.3} ms", costs.per_frame),
        baseline: format!("{:.3} ms, bare server", bare.per_frame),
        target: "≤ 2 ms",
        met: costs.per_frame <= 2.0,
        why: "a tenth of a like, its events, its notice and its push falls on each of ten frames.",
    });
    report.add(&Row {
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
