//! Messages of one person to a room with very many sockets, a hundredth of which do not read, beside a bare fan-out: the time until a socket
//! that reads has the frame, the processor time of a delivered message, and how many of the others the server cuts.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use sosohappy_fleet::app::{Addresses, Phone, Socket, SocketEvent};
use sosohappy_testkit::{Cluster, eventually};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::task::AbortOnDropHandle;

use crate::bare::{Bare, processor_seconds_at};
use crate::echo::Client;
use crate::message::frame;
use crate::report::{Report, Row, millis};
use crate::rounds::Rounds;
use crate::run::Run;
use crate::sockets::sign_up;
use crate::{addresses, metrics};

/// The most members of a room beside the sender and the person whose sockets are stalled.
const MOST_RECEIVERS: usize = 98;
/// One of so many sockets is stalled.
const STALLED: usize = 100;
/// Bytes of the receive buffer of a stalled socket; the system takes twice as many.
const RECEIVE_BUFFER: u32 = 4 * 1024;
/// Messages of 100 KB to the person of the stalled sockets: more than the buffers of the system take, which are at most 4 MiB for the server's
/// side of a connection (`net.ipv4.tcp_wmem`).
const FILLING: usize = 64;
/// A message has up to 4,000 characters; this one has 25 bytes.
const LONGEST: (&str, usize) = ("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}", 4_000);
/// `sockets.write-timeout`: a stalled socket is cut while messages to the others are measured.
const WRITE_TIMEOUT: &str = "2s";
/// Rounds of three phases: with stalled sockets, without, and of the bare server.
const ROUNDS: u32 = 5;
const PHASES: u32 = 3;
/// Messages a second, of which each receiver acknowledges the last.
const RATE: usize = 4;
const EVERY: Duration = Duration::from_millis(250);
/// People that sign up, or open their sockets, at the same time.
const AT_ONCE: usize = 32;
/// How long a delivery may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the fleet is measured without messages.
const IDLE: Duration = Duration::from_secs(3);
/// For acknowledgements that were just sent.
const REST: Duration = Duration::from_millis(500);

/// The processor time of a delivered message.
const MICROS: f64 = 40.0;
/// The p99 of sockets that read, in times of that without stalled ones.
const HARM: f64 = 1.1;

/// What is measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Size {
    /// Sockets that read, of up to 98 people
    #[arg(long, default_value_t = Size::default().sockets)]
    sockets: usize,
    /// Seconds of messages, of all rounds
    #[arg(long, default_value_t = Size::default().seconds)]
    seconds: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            sockets: 1_000,
            seconds: 60,
        }
    }
}

impl Size {
    fn stalled(self) -> usize {
        (self.sockets / STALLED).max(1)
    }

    /// Returns the messages of a phase.
    fn messages(self) -> usize {
        let seconds = self.seconds.div_ceil(ROUNDS * PHASES) as usize;
        seconds.max(1) * RATE
    }
}

/// Measures and writes the section of the page.
pub async fn run(run: &mut Run, size: Size) -> anyhow::Result<()> {
    ensure!(size.sockets > 0, "a room needs sockets");
    let mut bare = BareRoom::open(size.sockets + size.stalled()).await?;
    let mut room = Room::open(&run.binaries(), size.sockets).await?;
    // Warms both up.
    room.phase(RATE).await?;
    bare.phase(RATE).await?;

    let messages = size.messages();
    let mut measured = Measured::default();
    for _ in 0..ROUNDS {
        let without = room.phase(messages).await?;
        let (stalled, before) = (room.open_stalled(size.stalled()).await?, room.cut().await?);
        room.fill().await?;
        let with = room.phase(messages).await?;
        measured.cut += room.cut_of(stalled.len(), before).await?;
        measured.stalled += stalled.len();
        drop(stalled);
        measured.add(without, with, bare.phase(messages).await?);
    }
    run.keep("message to a room", measured.to_json());
    let mut report = Report::default();
    for row in measured.rows(size) {
        report.add(&row);
    }
    let body = format!(
        "Written by `bench rooms`, which `make bench` runs as well: one process on embedded engines, {RATE} messages a second of one person to a room with {} \
         others, who have {} sockets of version 2 that read and acknowledge once a second, and one who has {} that read nothing and whose buffers are \
         filled before by {FILLING} messages of 100 KB: the server's writes to them wait, and it cuts them after {WRITE_TIMEOUT}. {ROUNDS} rounds, in each of which {messages} messages with stalled sockets, without them, and \
         frames of a bare server to as many sockets take turns. Clients and servers share the processors.\n\n{}",
        size.sockets.min(MOST_RECEIVERS),
        size.sockets,
        size.stalled(),
        report.table()
    );
    run.write_section("Rooms", &body)
}

/// The deliveries of some messages.
struct Phase {
    times: Vec<Duration>,
    missed: usize,
    /// Processor seconds of the server.
    processor: f64,
}

#[derive(Debug, Default)]
struct Measured {
    to_bare: Rounds,
    to_quiet: Rounds,
    delivered: usize,
    missed: usize,
    /// Stalled sockets, and those of them that the server cut.
    stalled: usize,
    cut: usize,
    /// With stalled sockets, and of the bare server, in seconds.
    processor: f64,
    bare_processor: f64,
    bare_delivered: usize,
}

impl Measured {
    fn add(&mut self, without: Phase, with: Phase, bare: Phase) {
        self.delivered += with.times.len();
        self.missed += with.missed + without.missed;
        self.processor += with.processor;
        self.bare_delivered += bare.times.len();
        self.bare_processor += bare.processor;
        self.to_bare.add(with.times.clone(), bare.times);
        self.to_quiet.add(with.times, without.times);
    }

    fn to_json(&self) -> Value {
        json!({
            "besideABareServer": self.to_bare.to_json(),
            "besideNoStalledSockets": self.to_quiet.to_json(),
            "processorSeconds": self.processor,
            "bareProcessorSeconds": self.bare_processor,
            "missed": self.missed,
            "stalled": self.stalled,
            "cut": self.cut,
        })
    }

    fn rows(&self, size: Size) -> Vec<Row> {
        let sockets = size.sockets;
        let mut rows = Vec::new();
        for (name, per_mille, most, target) in [("p50", 500, 2.0, "≤ 2 ×"), ("p99", 990, 3.0, "≤ 3 ×")] {
            let bare = self.to_bare.compare(per_mille);
            rows.push(Row {
                what: format!("message to a room → its frame on one of {sockets} sockets that read, {name}"),
                measured: format!("{}, {}", millis(bare.time), bare.ratio.times()),
                baseline: format!("{}, a bare fan-out", millis(bare.baseline)),
                target,
                met: bare.ratio.median <= most,
                why: "before its fan-out a message is stored, published and consumed, and it has a number in the stream of each member.",
            });
        }
        let quiet = self.to_quiet.compare(990);
        rows.push(Row {
            what: format!(
                "the same, p99 with {} stalled sockets beside p99 without",
                size.stalled()
            ),
            measured: format!("{}, {}", millis(quiet.time), quiet.ratio.times()),
            baseline: format!("{}, no stalled sockets", millis(quiet.baseline)),
            target: "≤ 1.1 ×",
            met: quiet.ratio.median <= HARM,
            why: "the two phases of a round follow each other on processors that clients and servers share.",
        });
        let micros = micros_each(self.processor, self.delivered);
        rows.push(Row {
            what: "processor time of a delivered message, of the whole fleet, over that with sockets at rest".to_owned(),
            measured: format!("{micros:.1} µs"),
            baseline: format!("{:.1} µs, a bare fan-out", micros_each(self.bare_processor, self.bare_delivered)),
            target: "≤ 40 µs",
            met: micros <= MICROS,
            why: "an acknowledgement of each socket a second, the message's storing, publishing and consuming and the pushes that it withdraws are counted here, what the fleet takes at rest is not.",
        });
        rows.push(Row {
            what: "messages that a socket that reads did not get".to_owned(),
            measured: self.missed.to_string(),
            baseline: "—".to_owned(),
            target: "0",
            met: self.missed == 0,
            why: "sockets were closed, or frames took more than 10 s.",
        });
        rows.push(Row {
            what: "stalled sockets that the server cut".to_owned(),
            measured: format!("{} of {}", self.cut, self.stalled),
            baseline: "—".to_owned(),
            target: "all",
            met: self.cut == self.stalled,
            why: "the buffers of the system took all frames, so that no write waited.",
        });
        rows
    }
}

#[expect(clippy::cast_precision_loss, reason = "some million frames")]
fn micros_each(seconds: f64, frames: usize) -> f64 {
    seconds / frames.max(1) as f64 * 1e6
}

/// Returns the text of a message, as long as people write.
fn text(number: usize) -> String {
    format!("n={number}, a message of about the length that people write")
}

/// Returns the number of the message in a frame; `None` if the frame has none.
fn number_of(frame: &str) -> Option<usize> {
    let (_, rest) = frame.split_once("n=")?;
    let (digits, _) = rest.split_once(',')?;
    digits.parse().ok()
}

/// A frame that has arrived.
struct Delivery {
    number: usize,
    at: Instant,
}

/// The deliveries to all sockets that read.
struct Deliveries {
    arriving: UnboundedReceiver<Delivery>,
    sockets: usize,
    /// Of the next message.
    number: usize,
}

impl Deliveries {
    /// Waits for the messages from the last number on, which were sent then, and returns how long each took to each socket.
    async fn of(&mut self, sent: &[Instant]) -> Vec<Duration> {
        let (first, expected) = (self.number - sent.len(), sent.len() * self.sockets);
        let mut times = Vec::with_capacity(expected);
        while times.len() < expected {
            let Ok(Some(delivery)) = timeout(PATIENCE, self.arriving.recv()).await else {
                break;
            };
            // Of a message before, it is late and was counted as missed.
            let index = delivery.number.checked_sub(first);
            if let Some(sent) = index.and_then(|index| sent.get(index)) {
                times.push(delivery.at - *sent);
            }
        }
        times
    }

    fn next_number(&mut self) -> usize {
        self.number += 1;
        self.number - 1
    }
}

type Reading = AbortOnDropHandle<()>;

/// Has a task read frames until the socket ends.
fn spawn(reading: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> Reading {
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = reading.await {
            println!("a socket that reads has ended: {error:#}");
        }
    }))
}

/// A room of the fleet.
struct Room {
    id: Value,
    addresses: Addresses,
    from: Socket,
    /// The member whose sockets are stalled.
    slow: Phone,
    deliveries: Deliveries,
    /// Processor seconds of the fleet in a second without messages.
    idle: f64,
    _reading: Vec<Reading>,
    // Held for its drop: it ends the processes.
    _fleet: Cluster,
}

impl Room {
    async fn open(binaries: &Path, sockets: usize) -> anyhow::Result<Self> {
        let readers = sockets.min(MOST_RECEIVERS);
        // The stalled sockets are of one account, and those of the round before may still be closing.
        let per_account = sockets.div_ceil(readers).max(sockets / STALLED * 2).max(10).to_string();
        let settings = [
            ("SOSOHAPPY_DM__SOCKETS__PER_ACCOUNT", per_account.as_str()),
            ("SOSOHAPPY_DM__SOCKETS__WRITE_TIMEOUT", WRITE_TIMEOUT),
        ];
        let fleet = Cluster::embedded_with(binaries, &settings).await;
        let addresses = addresses(fleet.replicas[0]);
        let sender = sign_up(&addresses, "sender").await?;
        let receivers: Vec<Phone> = stream::iter(0..readers)
            .map(|number| {
                let addresses = &addresses;
                async move { sign_up(addresses, &format!("m{number}")).await }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let slow = sign_up(&addresses, "slow").await?;
        let members: Vec<&Phone> = receivers.iter().chain([&slow]).collect();
        let id = create_room(&addresses, &sender, &members).await?;
        let from = sender.resume_dm(0).await?;
        let open: Vec<Socket> = stream::iter(0..sockets)
            .map(|number| receivers[number % readers].resume_dm(0))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let (arrived, arriving) = mpsc::unbounded_channel();
        let reading = open.into_iter().map(|socket| spawn(read(socket, arrived.clone())));
        let reading = reading.collect();
        // What follows from the opening of the sockets is not counted.
        sleep(IDLE).await;
        let before = processor_seconds_at(&addresses.dm).await?;
        sleep(IDLE).await;
        let idle = (processor_seconds_at(&addresses.dm).await? - before) / IDLE.as_secs_f64();
        Ok(Self {
            id,
            addresses,
            from,
            idle,
            _reading: reading,
            slow,
            deliveries: Deliveries {
                arriving,
                sockets,
                number: 0,
            },
            _fleet: fleet,
        })
    }

    /// Opens sockets whose clients do not read, for new frames only.
    async fn open_stalled(&self, number: usize) -> anyhow::Result<Vec<WebSocketStream<TcpStream>>> {
        let tokens = self.slow.tokens.as_ref().context("the person is signed in")?;
        let host = self.addresses.dm.trim_start_matches("http://");
        let url = format!("ws://{host}/dm-service/connect-dm?nickname={}&v=2", self.slow.nickname);
        let mut stalled = Vec::with_capacity(number);
        for _ in 0..number {
            let mut request = url.as_str().into_client_request()?;
            request.headers_mut().insert("authorization", tokens.access.parse()?);
            request.headers_mut().insert("email", tokens.account.parse()?);
            let socket = TcpSocket::new_v4()?;
            // Before it is connected: the window of the connection depends on it.
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
            let stream = socket.connect(host.parse()?).await?;
            let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
            stalled.push(socket);
        }
        Ok(stalled)
    }

    /// Sends long messages to the person of the stalled sockets alone, until more is to be written to each than the system takes.
    async fn fill(&mut self) -> anyhow::Result<()> {
        let (character, times) = LONGEST;
        let text = character.repeat(times);
        for number in 0..FILLING {
            let data = json!({"receiver": self.slow.nickname, "text": text});
            // Another one in each round.
            let id = format!("filling {} {number}", self.deliveries.number);
            let message = json!({"topic": "message", "id": id, "data": data});
            self.from.send(&message).await?;
            frame(&mut self.from, "accepted").await?;
        }
        Ok(())
    }

    /// Returns how many sockets the server has cut because they did not read in time.
    async fn cut(&self) -> anyhow::Result<usize> {
        cut_in(&metrics::of(&self.addresses.dm).await?)
    }

    /// Waits until so many sockets were cut since that count, and returns how many it were.
    async fn cut_of(&self, stalled: usize, before: usize) -> anyhow::Result<usize> {
        let began = Instant::now();
        loop {
            let cut = self.cut().await? - before;
            if cut >= stalled || began.elapsed() > PATIENCE {
                return Ok(cut);
            }
            sleep(REST).await;
        }
    }

    /// Sends messages at the rate, and waits for their frames.
    async fn phase(&mut self, messages: usize) -> anyhow::Result<Phase> {
        let (began, before) = (Instant::now(), processor_seconds_at(&self.addresses.dm).await?);
        let mut sent = Vec::with_capacity(messages);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..messages {
            ticks.tick().await;
            let number = self.deliveries.next_number();
            let data = json!({"roomId": self.id, "text": text(number)});
            sent.push(Instant::now());
            let message = json!({"topic": "message", "id": number.to_string(), "data": data});
            self.from.send(&message).await?;
            frame(&mut self.from, "accepted").await?;
        }
        let times = self.deliveries.of(&sent).await;
        sleep(REST).await;
        Ok(Phase {
            missed: messages * self.deliveries.sockets - times.len(),
            times,
            processor: processor_seconds_at(&self.addresses.dm).await?
                - before
                - self.idle * began.elapsed().as_secs_f64(),
        })
    }
}

/// Creates the room, as soon as dm knows the names of all members, and returns its id.
pub async fn create_room(addresses: &Addresses, owner: &Phone, members: &[&Phone]) -> anyhow::Result<Value> {
    let tokens = owner.tokens.as_ref().context("the owner is signed in")?;
    let names: Vec<&str> = members.iter().map(|member| member.nickname.as_str()).collect();
    let form = [("name", "a room".to_owned()), ("members", names.join(","))];
    let created = eventually("the room is created", async || {
        let request = sosohappy_common::tls::client().post(format!("{}/dm-service/createRoom", addresses.dm));
        let request = request.form(&form).header("authorization", &tokens.access);
        let answer = request.header("email", &tokens.account).send().await.ok()?;
        answer.error_for_status().ok()?.json::<Value>().await.ok()
    })
    .await;
    let joined = created["members"].as_array().map_or(0, Vec::len);
    ensure!(joined == members.len() + 1, "{joined} people are in the room");
    Ok(created["roomId"].clone())
}

/// Reads the number of sockets that were cut in the metrics of a service.
fn cut_in(metrics: &str) -> anyhow::Result<usize> {
    let is_cut =
        |line: &&str| line.starts_with("sosohappy_sockets_closed_total{") && line.contains(r#"reason="too-slow""#);
    let series = metrics.lines().find(is_cut).context("the metric is missing")?;
    let (_, value) = series.rsplit_once(' ').context("the metric has no value")?;
    Ok(value.parse()?)
}

/// Reads frames, and acknowledges the last of each second.
async fn read(mut socket: Socket, arrived: UnboundedSender<Delivery>) -> anyhow::Result<()> {
    loop {
        let text = match socket.next_event().await {
            SocketEvent::Text(text) => text,
            SocketEvent::Closed(code) => bail!("closed with {code:?}"),
        };
        let at = Instant::now();
        let Some(number) = number_of(&text) else { continue };
        if arrived.send(Delivery { number, at }).is_err() {
            return Ok(());
        }
        if number % RATE == RATE - 1 {
            let frame: Value = serde_json::from_str(&text)?;
            socket.send(&json!({"topic": "ack", "seq": frame["seq"]})).await?;
        }
    }
}

/// The baseline: a bare server that writes a frame to all sockets of a group.
struct BareRoom {
    process: Bare,
    from: Client,
    deliveries: Deliveries,
    _reading: Vec<Reading>,
}

impl BareRoom {
    async fn open(sockets: usize) -> anyhow::Result<Self> {
        let process = Bare::start("bare-sockets").await?;
        let from = join(process.port).await?;
        let open: Vec<Client> = stream::iter(0..sockets)
            .map(|_| join(process.port))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let (arrived, arriving) = mpsc::unbounded_channel();
        let reading = open.into_iter().map(|client| spawn(read_bare(client, arrived.clone())));
        Ok(Self {
            from,
            _reading: reading.collect(),
            deliveries: Deliveries {
                arriving,
                sockets,
                number: 0,
            },
            process,
        })
    }

    /// As [`Room::phase`].
    async fn phase(&mut self, messages: usize) -> anyhow::Result<Phase> {
        let before = self.process.processor_seconds()?;
        let mut sent = Vec::with_capacity(messages);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..messages {
            ticks.tick().await;
            let number = self.deliveries.next_number();
            // As long as the frame of a message.
            let frame = format!("{}{}", text(number), " ".repeat(300));
            sent.push(Instant::now());
            self.from.send(Message::text(frame)).await?;
            self.from.next().await.context("the bare server has left")??;
        }
        let times = self.deliveries.of(&sent).await;
        sleep(REST).await;
        let missed = messages * self.deliveries.sockets - times.len();
        ensure!(missed == 0, "the bare server did not deliver {missed} frames");
        Ok(Phase {
            missed,
            times,
            processor: self.process.processor_seconds()? - before,
        })
    }
}

/// Opens a socket of the bare server, in the one group.
async fn join(port: u16) -> anyhow::Result<Client> {
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}")).await?;
    client.send(Message::text("the room")).await?;
    Ok(client)
}

async fn read_bare(mut client: Client, arrived: UnboundedSender<Delivery>) -> anyhow::Result<()> {
    while let Some(frame) = client.next().await.transpose()? {
        let at = Instant::now();
        if let Some(number) = frame.to_text().ok().and_then(number_of)
            && arrived.send(Delivery { number, at }).is_err()
        {
            return Ok(());
        }
    }
    bail!("the bare server has left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_in_its_frame() {
        let frame = json!({"topic": "message", "seq": 7, "data": {"text": text(12), "sender": "kim"}}).to_string();
        assert_eq!(number_of(&frame), Some(12));
        assert_eq!(number_of(r#"{"topic":"room","data":{"roomId":"a"}}"#), None);
        assert_eq!(number_of("n=x, "), None);
    }

    #[test]
    fn cut_sockets_are_counted() {
        let metrics = "# TYPE sosohappy_sockets_closed_total counter\n\
            sosohappy_sockets_closed_total{application=\"dm\",reason=\"idle\"} 3\n\
            sosohappy_sockets_closed_total{application=\"dm\",reason=\"too-slow\"} 10\n\
            sosohappy_sockets_refused_total{application=\"dm\",reason=\"too-slow\"} 1\n";
        assert_eq!(cut_in(metrics).unwrap(), 10);
        assert!(cut_in("sosohappy_sockets_closed_total{reason=\"idle\"} 3").is_err());
    }

    #[test]
    fn a_small_size_measures_something() {
        let size = Size { sockets: 3, seconds: 0 };
        assert_eq!((size.stalled(), size.messages()), (1, RATE));
        let size = Size::default();
        assert_eq!((size.stalled(), size.messages()), (10, 4 * RATE));
    }

    #[tokio::test]
    async fn late_deliveries_are_not_of_the_next_messages() {
        let (arrived, arriving) = mpsc::unbounded_channel();
        let mut deliveries = Deliveries {
            arriving,
            sockets: 2,
            number: 0,
        };
        let began = Instant::now();
        assert_eq!(
            [
                deliveries.next_number(),
                deliveries.next_number(),
                deliveries.next_number()
            ],
            [0, 1, 2]
        );
        for (number, after) in [(1, 9), (0, 90), (2, 3), (1, 4), (2, 5)] {
            let at = began + Duration::from_millis(after);
            assert!(arrived.send(Delivery { number, at }).is_ok());
        }
        let times = deliveries.of(&[began, began]).await;
        let times: Vec<_> = times.iter().map(Duration::as_millis).collect();
        assert_eq!(times, [9, 3, 4, 5]);
    }
}
