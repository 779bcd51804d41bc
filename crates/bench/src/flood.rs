//! Delivery latency of other people's messages while one client sends 6,000 valid frames a second, with and without the frame limit.

use std::path::Path;
use std::time::{Duration, Instant};

use sosohappy_fleet::app::{Message, Phone, Socket, SocketEvent};
use sosohappy_fleet::demo::picture;
use sosohappy_testkit::Cluster;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::addresses;
use crate::report::{Samples, millis};
use crate::run::Run;

const FIRST_DATE: i64 = 2_026_030_112_000_000;
/// The senders, each within the limit: half of them send before the flood, half during it.
const SENDERS: usize = 10;
const MESSAGES: usize = 100;
const MESSAGE_EVERY: Duration = Duration::from_millis(10);
/// Frames that the flooding client sends every [`BATCH_EVERY`].
const BATCH: i64 = 60;
const BATCH_EVERY: Duration = Duration::from_millis(10);

/// Latencies without and with the flood.
struct Measured {
    quiet: Samples,
    flooded: Samples,
}

pub async fn run(run: &mut Run) -> anyhow::Result<()> {
    let binaries = run.binaries();
    // The test cluster disables limits unless they are set.
    let unlimited = measure(&binaries, &[]).await?;
    let defaults = [
        ("SOSOHAPPY_DM__SOCKETS__FRAMES_PER_MINUTE", "120"),
        ("SOSOHAPPY_DM__RATE_LIMITS__PER_ACCOUNT__CONNECT", "60"),
    ];
    let limited = measure(&binaries, &defaults).await?;
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let row = |what: &str, measured: &Measured| {
        format!(
            "| {what} | {}, {} | {}, {} |\n",
            millis(measured.quiet.median()),
            millis(measured.quiet.quantile(990)),
            millis(measured.flooded.median()),
            millis(measured.flooded.quantile(990)),
        )
    };
    let text = format!(
        "Written by `bench flood` ({build} build): one process on embedded engines, {} messages of five people to one, one every {} ms, \
         from the sender's socket to the receiver's. Meanwhile another client sends 6,000 valid frames a second and reconnects when \
         the socket is closed.\n\n\
         | limits | p50, p99 without the flood | p50, p99 with it |\n| --- | --- | --- |\n{}{}",
        SENDERS / 2 * MESSAGES,
        MESSAGE_EVERY.as_millis(),
        row("off", &unlimited),
        row(
            "120 frames and 60 connects a minute and account (the default)",
            &limited
        ),
    );
    println!("{text}");
    run.write_section("Flood of frames", &text)
}

async fn measure(binaries: &Path, limits: &[(&str, &str)]) -> anyhow::Result<Measured> {
    let fleet = Cluster::embedded_with(binaries, limits).await;
    let addresses = addresses(fleet.replicas[0]);
    let mut phones = Vec::new();
    let senders: Vec<_> = (0..SENDERS).map(|number| format!("sender{number}")).collect();
    for name in ["kim", "lee", "nari"]
        .into_iter()
        .chain(senders.iter().map(String::as_str))
    {
        let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google")?;
        phone.sign_in().await?;
        phone.set_profile(name, "", &picture(0)).await?;
        phones.push(phone);
    }
    let mut receiver = phones[2].connect_dm().await?;
    let mut sockets = Vec::new();
    for (name, phone) in senders.iter().zip(&phones[3..]) {
        sockets.push((name.as_str(), phone.connect_dm().await?));
    }
    let (before, during) = sockets.split_at_mut(SENDERS / 2);
    let quiet = converse(before, &mut receiver).await?;
    let flooding = AbortOnDropHandle::new(tokio::spawn(flood(phones.swap_remove(0))));
    let flooded = converse(during, &mut receiver).await?;
    drop(flooding);
    Ok(Measured { quiet, flooded })
}

/// Sends [`MESSAGES`] messages from each sender, and measures each from the sender's socket to the receiver's.
async fn converse(senders: &mut [(&str, Socket)], receiver: &mut Socket) -> anyhow::Result<Samples> {
    let mut samples = Vec::new();
    let mut ticks = interval(MESSAGE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for date in (FIRST_DATE..).take(MESSAGES) {
        for (name, sender) in &mut *senders {
            ticks.tick().await;
            let began = Instant::now();
            sender.send(&message(name, "nari", date)).await?;
            receiver.text().await?;
            samples.push(began.elapsed());
        }
    }
    Ok(Samples::new(samples))
}

/// Sends frames until the task is aborted. Reconnects when the socket is closed or the handshake refused.
async fn flood(phone: Phone) {
    let mut ticks = interval(BATCH_EVERY);
    let mut date = FIRST_DATE;
    loop {
        ticks.tick().await;
        let Ok(mut socket) = phone.connect_dm().await else {
            continue;
        };
        let mut is_open = true;
        while is_open {
            ticks.tick().await;
            for _ in 0..BATCH {
                date += 1;
                is_open &= socket.send(&message("kim", "lee", date)).await.is_ok();
            }
            // Reads pending error frames: the server would close the socket of a slow reader.
            while let Ok(event) = timeout(Duration::ZERO, socket.next_event()).await {
                is_open &= !matches!(event, SocketEvent::Closed(_));
                if !is_open {
                    break;
                }
            }
        }
    }
}

fn message(sender: &str, receiver: &str, date: i64) -> Message {
    Message {
        sender: sender.to_owned(),
        receiver: receiver.to_owned(),
        date,
        text: "a message as people write it".to_owned(),
    }
}
