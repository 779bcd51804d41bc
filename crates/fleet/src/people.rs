//! `fleet demo --people N`: people who post, like and write to each other until they are stopped. Their phones are phones: they are
//! suspended, lose answers and connect again. In the end it counts what the fleet acknowledged, and what became of it.

mod ledger;
mod person;
mod report;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sosohappy_common::clock::{Entropy, SystemEntropy};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::app::{Addresses, Phone};
use crate::demo::picture;
use ledger::Ledger;
pub use ledger::Summary;
use person::Person;
pub use report::{Console, CrowdReport};

/// How often a line of counts is printed.
const REPORT: Duration = Duration::from_secs(5);
/// How long deliveries may take after the last act.
const SETTLE: Duration = Duration::from_mins(1);
/// The pause after a sign-in that the fleet refused: a limit of sign-ins of one address, or a restart.
const SIGN_IN_AGAIN: Duration = Duration::from_secs(5);
/// Tries of a sign-in.
const SIGN_INS: usize = 12;

/// How many people there are, and what they do.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// At least 2.
    pub people: usize,
    /// Acts of all people a second.
    pub rate: NonZeroU32,
    /// Without it, until Ctrl-C.
    pub length: Option<Duration>,
}

impl Crowd {
    fn report(self, began: Instant, is_over: bool, summary: Summary) -> CrowdReport {
        CrowdReport {
            people: self.people,
            rate: self.rate.get(),
            seconds: began.elapsed().as_secs(),
            is_over,
            summary,
        }
    }
}

/// Runs a crowd against a running fleet, and reports its counts to the console. Returns the counts, or an error if something that was acknowledged
/// is missing, or is there twice.
pub async fn run(addresses: Addresses, crowd: Crowd, console: Option<Console>) -> anyhow::Result<Summary> {
    ensure!(crowd.people >= 2, "at least two people are needed");
    let ledger = Arc::new(Ledger::default());
    let people = sign_in(&addresses, crowd.people).await?;
    // Registered before the line that asks for it, and once: no Ctrl-C is lost between two acts.
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C cannot be awaited")?;
    println!("{} people are signed in; Ctrl-C ends it", people.len());
    let nicknames: Arc<[String]> = people.iter().map(|phone| phone.nickname.clone()).collect();

    let stop = CancellationToken::new();
    let mut sockets = JoinSet::new();
    let people: Vec<_> = people
        .into_iter()
        .map(|phone| Person::start(phone, nicknames.clone(), ledger.clone(), &stop, &mut sockets))
        .collect();

    let began = Instant::now();
    act(&people, crowd, &ledger, began, console.as_ref(), &mut interrupt).await;
    settle(&ledger).await;
    for person in &people {
        person.count_posts().await.context("reading the posts at the end")?;
    }
    stop.cancel();
    while let Some(ended) = sockets.join_next().await {
        ended.context("a socket's task panicked")?;
    }

    let summary = ledger.summary();
    if let Some(console) = &console {
        console.send(&crowd.report(began, true, summary.clone())).await;
    }
    println!("{summary}");
    ensure!(summary.is_kept(), "a promise is broken");
    Ok(summary)
}

/// Signs people in who have not been here before.
async fn sign_in(addresses: &Addresses, people: usize) -> anyhow::Result<Vec<Phone>> {
    let entropy: &dyn Entropy = &SystemEntropy;
    let tag = entropy.hex(2);
    let photo = picture(5);
    let mut phones = Vec::with_capacity(people);
    for number in 0..people {
        let mut phone = Phone::new(
            addresses.clone(),
            &format!("person-{tag}-{number}@example.com"),
            "kakao",
        )?;
        let mut tries = 0;
        while let Err(error) = enter(&mut phone, &format!("p{tag}{number}"), &photo).await {
            tries += 1;
            if tries == SIGN_INS {
                return Err(error.context("signing in"));
            }
            tokio::time::sleep(SIGN_IN_AGAIN).await;
        }
        phones.push(phone);
    }
    Ok(phones)
}

async fn enter(phone: &mut Phone, nickname: &str, photo: &[u8]) -> anyhow::Result<()> {
    phone.sign_in().await?;
    phone.set_profile(nickname, "안녕하세요", photo).await
}

/// Has random people act at the rate, whether or not earlier acts have ended, until the time has passed or Ctrl-C.
async fn act(
    people: &[Arc<Person>],
    crowd: Crowd,
    ledger: &Ledger,
    began: Instant,
    console: Option<&Console>,
    interrupt: &mut Signal,
) {
    let entropy: &dyn Entropy = &SystemEntropy;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / crowd.rate.get());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut report = tokio::time::interval_at(tokio::time::Instant::now() + REPORT, REPORT);
    let over = async {
        match crowd.length {
            Some(length) => tokio::time::sleep(length).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    let mut acts = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut over => break,
            _ = interrupt.recv() => break,
            _ = report.tick() => {
                println!("{:>6} s  {}", began.elapsed().as_secs(), ledger.line());
                if let Some(console) = console.cloned() {
                    let report = crowd.report(began, false, ledger.summary());
                    acts.spawn(async move { console.send(&report).await });
                }
            }
            _ = ticks.tick() => {
                let one = usize::try_from(entropy.u64() % people.len() as u64).unwrap_or(0);
                let person = people[one].clone();
                acts.spawn(async move { person.act().await });
            }
            Some(_) = acts.join_next(), if !acts.is_empty() => {}
        }
    }
    while acts.join_next().await.is_some() {}
}

/// Waits until everything that was acknowledged was shown.
async fn settle(ledger: &Ledger) {
    let deadline = Instant::now() + SETTLE;
    while !ledger.is_settled() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// `7 likes`, as one column of a table.
struct Column<'a>(usize, &'a str);

impl fmt::Display for Column<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7} {}", self.0, self.1)
    }
}
