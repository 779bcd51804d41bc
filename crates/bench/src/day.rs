//! A day of `docs/scale.md` against a running fleet: the highest rate of its mix of calls at which p99 stays within 100 ms, beside the rate
//! that the processor time of each call allows.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::future::try_join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_fleet::app::{NewPost, Phone, Socket, SocketEvent};
use sosohappy_testkit::{Cluster, EngineSet};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::report::{Samples, millis, verdict};
use crate::rounds::micros;
use crate::run::Run;
use crate::sockets::sign_up;
use crate::{LIKED_DAYS, addresses, noon_of};

/// People with an open socket of dm, and posts that each of them has at the beginning.
const PEOPLE: usize = 100;
const POSTS: i64 = 12;
/// People who exchange their tokens: apart, because an exchange ends the tokens with which other calls may be under way.
const REISSUERS: usize = 20;

/// What a person does on a day, in quarters of an act: the table "The load" of `docs/scale.md`.
const DAY: [(Act, &str, u32); 5] = [
    (Act::Page, "page of others' posts", 40),
    (Act::Message, "message", 40),
    (Act::Like, "like", 10),
    (Act::ReIssue, "re-issue", 8),
    (Act::Post, "post", 1),
];
const QUARTERS: u32 = 99;
/// The peak, in times of the average of the day.
const PEAK: f64 = 3.0;
const SECONDS_A_DAY: f64 = 86_400.0;

/// By how much the replay may differ from the model.
const TOLERANCE: f64 = 0.1;
/// The longest time of 99 of 100 acts.
const LIMIT: Duration = Duration::from_millis(100);
/// How long an act may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Acts under way at which a step ends: the fleet does not keep up.
const MOST_OPEN: usize = 2_000;
/// The first rate, in acts a second, and the most rates that are tried.
const FIRST_RATE: u32 = 50;
const MOST_STEPS: usize = 14;
/// The pause after a step, in which queues are emptied.
const PAUSE: Duration = Duration::from_secs(3);

/// Acts whose processor time is measured, of each kind, and how many of them at one time.
const MEASURED: usize = 400;
const AT_ONCE: usize = 4;
/// How long the fleet is measured without acts.
const IDLE: Duration = Duration::from_secs(5);
/// Of `/proc/stat` (`USER_HZ`, the same on all processors that Linux supports here).
const TICKS_A_SECOND: f64 = 100.0;

/// Measures and writes the section. Each rate is kept for `step`.
pub async fn run(run: &mut Run, step: Duration) -> anyhow::Result<()> {
    let binaries = run.binaries();
    let mut sets = vec![EngineSet::Embedded];
    if EngineSet::real_is_there() {
        sets.push(EngineSet::Real);
    }
    let mut capacities = Vec::new();
    for set in sets {
        let capacity = Capacity::measure(&binaries, set, step).await?;
        run.keep(capacity.engines, capacity.to_json());
        capacities.push(capacity);
    }
    run.write_section("Capacity", &text(&capacities, step)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Page,
    Message,
    Like,
    ReIssue,
    Post,
}

impl Act {
    /// Returns an act, each as often as on a day.
    fn random() -> Self {
        let entropy: &dyn Entropy = &SystemEntropy;
        let mut at = entropy.u64() % u64::from(QUARTERS);
        for (act, _, quarters) in DAY {
            match at.checked_sub(quarters.into()) {
                Some(rest) => at = rest,
                None => return act,
            }
        }
        Self::Page
    }
}

/// The figures of one set of engines.
struct Capacity {
    engines: &'static str,
    /// Each rate that was tried.
    steps: Vec<Value>,
    /// The highest rate within the limit; `None` if no rate was.
    highest: Option<(u32, Step)>,
    /// Processor seconds of one act of each kind, in the order of [`DAY`].
    processor: [f64; DAY.len()],
    /// Processor seconds of a second without acts.
    idle: f64,
    processors: f64,
}

impl Capacity {
    async fn measure(binaries: &Path, set: EngineSet, step: Duration) -> anyhow::Result<Self> {
        let engines = match set {
            EngineSet::Embedded => "embedded",
            EngineSet::Real => "Kafka, MariaDB, SecantusDB",
        };
        let fleet = Cluster::of(set, binaries).await;
        let crowd = Arc::new(Crowd::sign_up(&fleet).await?);
        let before = busy_seconds()?;
        sleep(IDLE).await;
        let idle = (busy_seconds()? - before) / IDLE.as_secs_f64();
        let mut processor = [0.0; DAY.len()];
        for (seconds, (act, name, _)) in processor.iter_mut().zip(DAY) {
            *seconds = crowd.processor_seconds(act, idle).await.context(name)?;
        }
        let mut steps = Vec::new();
        Ok(Self {
            engines,
            highest: crowd.highest_rate(step, &mut steps).await,
            steps,
            processor,
            idle,
            processors: f64::from(u32::try_from(std::thread::available_parallelism()?.get())?),
        })
    }

    /// Returns the acts a second that the processors allow.
    fn modelled_rate(&self) -> f64 {
        let shares = DAY.iter().zip(self.processor);
        let mean: f64 = shares
            .map(|((_, _, quarters), seconds)| f64::from(*quarters) / f64::from(QUARTERS) * seconds)
            .sum();
        (self.processors - self.idle) / mean
    }

    /// Returns the measurements for the raw data.
    fn to_json(&self) -> Value {
        let seconds = DAY.iter().zip(self.processor);
        let seconds: serde_json::Map<_, _> = seconds
            .map(|((_, name, _), seconds)| ((*name).to_owned(), json!(seconds)))
            .collect();
        json!({
            "steps": self.steps,
            "processorSeconds": seconds,
            "idleSeconds": self.idle,
            "processors": self.processors,
            "modelledRate": self.modelled_rate(),
        })
    }
}

/// Returns whether the model and the replay agree.
fn agrees(agreement: f64) -> bool {
    (agreement - 1.0).abs() <= TOLERANCE
}

/// Returns the people whose peak is this rate of acts a second.
fn people(rate: f64) -> f64 {
    rate * SECONDS_A_DAY / (f64::from(QUARTERS) / 4.0 * PEAK)
}

/// Returns the seconds for which the machine's processors have been busy since its start: with the fleet, its engines, this process and
/// whatever else runs.
fn busy_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("processor times are read from Linux's /proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [user, nice, system, _idle, _waiting, interrupts, soft_interrupts, ..] = ticks[..] else {
        bail!("unexpected first line of /proc/stat: {line}");
    };
    let busy = user + nice + system + interrupts + soft_interrupts;
    #[expect(clippy::cast_precision_loss, reason = "ticks of years are exact")]
    let ticks = busy as f64;
    Ok(ticks / TICKS_A_SECOND)
}

struct Crowd {
    people: Vec<Person>,
    reissuers: Vec<Mutex<Phone>>,
    acts: AtomicUsize,
    likes: AtomicUsize,
    _sockets: Vec<AbortOnDropHandle<anyhow::Result<()>>>,
}

struct Person {
    phone: Phone,
    /// Posts that were begun.
    posts: AtomicI64,
    messages: mpsc::UnboundedSender<Outgoing>,
}

struct Outgoing {
    receiver: String,
    accepted: oneshot::Sender<()>,
}

/// The outcome of one rate.
struct Step {
    times: Samples,
    failed: usize,
    is_overloaded: bool,
    /// Processors that were busy, on average; NaN where it cannot be read.
    busy: f64,
}

impl Step {
    fn holds(&self) -> bool {
        self.failed == 0 && !self.is_overloaded && self.times.quantile(990) <= LIMIT
    }

    fn to_json(&self, rate: u32) -> Value {
        let quantiles = [500, 900, 990, 999, 1000].map(|per_mille| self.times.quantile(per_mille));
        json!({
            "aSecond": rate,
            "p50p90p99p999MaxMicros": micros(&quantiles),
            "failed": self.failed,
            "isOverloaded": self.is_overloaded,
            "busyProcessors": self.busy,
        })
    }
}

impl Crowd {
    async fn sign_up(fleet: &Cluster) -> anyhow::Result<Self> {
        let (mut people, mut sockets, mut reissuers) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..PEOPLE + REISSUERS {
            let addresses = addresses(fleet.replicas[number % fleet.replicas.len()]);
            let phone = sign_up(&addresses, &format!("day{number}")).await?;
            if number >= PEOPLE {
                reissuers.push(Mutex::new(phone));
                continue;
            }
            for day in 0..POSTS {
                save(&phone, day).await?;
            }
            let (messages, outgoing) = mpsc::unbounded_channel();
            let socket = phone.resume_dm(0).await?;
            sockets.push(AbortOnDropHandle::new(tokio::spawn(converse(socket, outgoing))));
            people.push(Person {
                phone,
                posts: AtomicI64::new(POSTS),
                messages,
            });
        }
        Ok(Self {
            people,
            reissuers,
            acts: AtomicUsize::new(0),
            likes: AtomicUsize::new(0),
            _sockets: sockets,
        })
    }

    /// Does one thing, in the name of the next person.
    async fn act(&self, act: Act) -> anyhow::Result<()> {
        let number = self.acts.fetch_add(1, Ordering::Relaxed);
        let person = &self.people[number % PEOPLE];
        match act {
            Act::Page => person.phone.others().await.map(drop),
            Act::Message => person.write_to(&self.another(number).phone.nickname).await,
            Act::Like => {
                // Another pair of liker and post each time: a second like of a post would take the first one back.
                let number = self.likes.fetch_add(1, Ordering::Relaxed);
                let day = i64::try_from(number / (PEOPLE * (PEOPLE - 1)))? % POSTS;
                let (liker, author) = (&self.people[number % PEOPLE], self.another(number));
                let outcome = liker.phone.toggle_like(&author.phone.nickname, noon_of(day)).await;
                outcome.map(drop)
            }
            Act::ReIssue => {
                let status = self.reissuers[number % REISSUERS].lock().await.re_issue().await?;
                ensure!(status == StatusCode::OK, "re-issue returned {status}");
                Ok(())
            }
            Act::Post => save(&person.phone, person.posts.fetch_add(1, Ordering::Relaxed)).await,
        }
    }

    /// Returns a person other than the one of this number: each of the others in turn.
    fn another(&self, number: usize) -> &Person {
        let distance = 1 + number / PEOPLE % (PEOPLE - 1);
        &self.people[(number + distance) % PEOPLE]
    }

    /// Returns the processor seconds of one act of this kind, with all that follows from it.
    async fn processor_seconds(&self, act: Act, idle: f64) -> anyhow::Result<f64> {
        let (began, before) = (Instant::now(), busy_seconds()?);
        try_join_all((0..AT_ONCE).map(|_| async move {
            for _ in 0..MEASURED / AT_ONCE {
                self.act(act).await?;
            }
            anyhow::Ok(())
        }))
        .await?;
        // Events and notices are handled after the answers.
        sleep(PAUSE).await;
        let busy = busy_seconds()? - before - idle * began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "some hundred acts")]
        let acts = MEASURED as f64;
        Ok(busy / acts)
    }

    /// Returns the highest rate within the limit, to a twentieth: rates are doubled up to one that is not, then halved in between. Adds each
    /// rate to `steps`.
    async fn highest_rate(self: &Arc<Self>, length: Duration, steps: &mut Vec<Value>) -> Option<(u32, Step)> {
        let (mut highest, mut refused) = (None, None);
        let mut rate = FIRST_RATE;
        for _ in 0..MOST_STEPS {
            let step = self.replay(rate, length).await;
            println!(
                "{rate} acts a second: p50 {}, p99 {}, {} failed{}",
                millis(step.times.median()),
                millis(step.times.quantile(990)),
                step.failed,
                if step.is_overloaded { ", overloaded" } else { "" }
            );
            steps.push(step.to_json(rate));
            sleep(PAUSE).await;
            if step.holds() {
                highest = Some((rate, step));
            } else {
                refused = Some(rate);
            }
            let low = highest.as_ref().map_or(0, |(rate, _)| *rate);
            rate = match refused {
                None => low * 2,
                Some(high) if high - low <= (low / 20).max(1) => break,
                Some(high) => low.midpoint(high),
            };
        }
        highest
    }

    /// Has people act at this rate, whether or not earlier acts have ended. The time of an act counts from when it is due.
    async fn replay(self: &Arc<Self>, rate: u32, length: Duration) -> Step {
        let mut ticks = interval(Duration::from_secs(1) / rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (began, before) = (Instant::now(), busy_seconds().unwrap_or(f64::NAN));
        let end = began + length;
        let (mut times, mut failed) = (Vec::new(), 0);
        let mut note = |ended: Result<(Duration, anyhow::Result<()>), tokio::task::JoinError>| match ended {
            Ok((took, Ok(()))) => times.push(took),
            Ok((_, Err(error))) => {
                failed += 1;
                if failed == 1 {
                    println!("failed: {error:#}");
                }
            }
            Err(error) => {
                failed += 1;
                println!("failed: {error}");
            }
        };
        let mut acts = JoinSet::new();
        let is_overloaded = loop {
            let due = ticks.tick().await;
            if acts.len() >= MOST_OPEN {
                break true;
            }
            if due >= end {
                break false;
            }
            let crowd = self.clone();
            acts.spawn(async move {
                let outcome = crowd.act(Act::random()).await;
                (due.elapsed(), outcome)
            });
            while let Some(ended) = acts.try_join_next() {
                note(ended);
            }
        };
        while let Some(ended) = acts.join_next().await {
            note(ended);
        }
        Step {
            busy: (busy_seconds().unwrap_or(f64::NAN) - before) / began.elapsed().as_secs_f64(),
            times: Samples::new(times),
            failed,
            is_overloaded,
        }
    }
}

impl Person {
    /// Sends a message, and waits until it is acknowledged as stored.
    async fn write_to(&self, receiver: &str) -> anyhow::Result<()> {
        let (accepted, answer) = oneshot::channel();
        let message = Outgoing {
            receiver: receiver.to_owned(),
            accepted,
        };
        self.messages.send(message).ok().context("the socket has ended")?;
        let answered = timeout(PATIENCE, answer).await;
        answered
            .context("a message was not acknowledged")?
            .context("the socket has ended")
    }
}

/// Saves a post of one of the days of a year; a later post of a day takes the place of the one before.
async fn save(phone: &Phone, day: i64) -> anyhow::Result<()> {
    let post = NewPost {
        date: noon_of(day % LIKED_DAYS),
        text: "a post as people write it",
        pictures: &[],
    };
    phone.save_post(&post).await
}

/// Sends messages over a socket of version 2, and acknowledges the frames that arrive, until the socket ends.
async fn converse(mut socket: Socket, mut outgoing: mpsc::UnboundedReceiver<Outgoing>) -> anyhow::Result<()> {
    let entropy: &dyn Entropy = &SystemEntropy;
    let mut waiting: HashMap<String, oneshot::Sender<()>> = HashMap::new();
    loop {
        tokio::select! {
            event = socket.next_event() => {
                let text = match event {
                    SocketEvent::Text(text) => text,
                    SocketEvent::Closed(code) => bail!("the socket was closed: {code:?}"),
                };
                let frame: Value = serde_json::from_str(&text)?;
                if frame["topic"] == "accepted" {
                    if let Some(accepted) = frame["id"].as_str().and_then(|id| waiting.remove(id)) {
                        // The sender may have given up.
                        let _given_up = accepted.send(());
                    }
                } else if let Some(seq) = frame["seq"].as_i64() {
                    socket.send(&json!({"topic": "ack", "seq": seq})).await?;
                }
            }
            Some(Outgoing { receiver, accepted }) = outgoing.recv() => {
                let id = entropy.hex(16);
                let data = json!({"receiver": receiver, "text": "a message as people write it"});
                socket.send(&json!({"topic": "message", "id": id, "data": data})).await?;
                waiting.insert(id, accepted);
            }
        }
    }
}

fn text(capacities: &[Capacity], step: Duration) -> anyhow::Result<String> {
    let build = if cfg!(debug_assertions) { ", debug binaries" } else { "" };
    let mut text = format!(
        "Written by `bench day`{build}: {PEOPLE} people with a socket of dm each do what the table of [scale](scale.md) says, at random and at a fixed \
         rate (open loop; a time counts from when an act is due), {} s a rate. The highest rate at which p99 is at most {} ms is the peak of so many \
         people a day. The model is the rate at which the processors are busy all the time, by the processor time of each act alone. The load generator, the \
         fleet and its engines share the processors. Where less than all of them are busy at the highest rate, p99 is the limit and the replay is below the model.\n\n\
         | engines | acts a second | p50, p99 | processors busy | people a day | acts a second, people a day by the model | replay : model | target | |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        step.as_secs(),
        LIMIT.as_millis(),
    );
    for capacity in capacities {
        let modelled = capacity.modelled_rate();
        let engines = capacity.engines;
        match &capacity.highest {
            Some((rate, Step { times, busy, .. })) => {
                let highest = f64::from(*rate);
                let agreement = highest / modelled;
                writeln!(
                    text,
                    "| {engines} | {rate} | {}, {} | {busy:.2} | {:.0} | {modelled:.0}, {:.0} | {agreement:.2} | 0.90 to 1.10 | {} |",
                    millis(times.median()),
                    millis(times.quantile(990)),
                    people(highest),
                    people(modelled),
                    verdict(agrees(agreement))
                )?;
            }
            None => writeln!(
                text,
                "| {engines} | none within the limit | — | — | — | {modelled:.0}, {:.0} | — | 0.90 to 1.10 | {} |",
                people(modelled),
                verdict(false)
            )?,
        }
    }
    text += "\nProcessor time of one act, with the events and notices that follow from it:\n\n| engines |";
    for (_, name, _) in DAY {
        write!(text, " {name} |")?;
    }
    text += " a second without acts |\n| --- |";
    text += &" --- |".repeat(DAY.len() + 1);
    for capacity in capacities {
        write!(text, "\n| {} |", capacity.engines)?;
        for seconds in capacity.processor.iter().chain([&capacity.idle]) {
            write!(text, " {:.2} ms |", seconds * 1e3)?;
        }
    }
    text.push('\n');
    println!("{text}");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_model() {
        assert_eq!(DAY.iter().map(|(_, _, quarters)| quarters).sum::<u32>(), QUARTERS);
        // 24.75 acts a day, three times as many at the peak.
        assert!((people(24.75 * PEAK) - SECONDS_A_DAY).abs() < 1e-6);
        assert!([0.91, 1.0, 1.09].into_iter().all(agrees));
        assert!(!agrees(0.89) && !agrees(1.11));
        let pages = (0..10_000).filter(|_| Act::random() == Act::Page).count();
        assert!((3_500..4_600).contains(&pages), "{pages}");
    }
}
