//! A model of version 2: random sends, drops, acknowledgements, reconnects, edits, cancels, and kills of either of two replicas. At its end
//! every device has seen every acknowledged message of its person exactly once, in the order of the history.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::clock::{Clock as _, SystemClock};
use sosohappy_testkit::{Bed, EngineSet, Person, Socket, eventually, on_both_engines};
use tokio::runtime::Runtime;

use super::Dm;
use super::stream::open;

on_both_engines!(every_acknowledged_message_is_shown_once_in_one_order);

const STEPS: usize = 220;

/// On the real engines, whose steps take several times as long: two of the three kills. Each run has steps of its own.
const STEPS_ON_REAL: usize = 130;

const NAMES: [&str; 3] = ["kim", "lee", "park"];
/// Reading takes what is there.
const SHORTLY: Duration = Duration::from_millis(5);

/// A small generator (xorshift), so that a failure is repeated by its seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// A replica in a runtime of its own. Killed, all its tasks end where they are: nothing drains, no lease is released.
struct Replica {
    runtime: Option<Runtime>,
    dm: Option<Dm>,
}

impl Replica {
    async fn start(bed: &Arc<Bed>) -> Self {
        let bed = bed.clone();
        let started = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let dm = runtime.block_on(Dm::start(&bed));
            (runtime, dm)
        });
        let (runtime, dm) = started.await.unwrap();
        Self {
            dm: Some(dm),
            runtime: Some(runtime),
        }
    }

    fn dm(&self) -> &Dm {
        self.dm.as_ref().unwrap()
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.dm = None;
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A device of a person: its socket, and what it has shown.
struct Device {
    who: usize,
    socket: Option<Socket>,
    /// The greatest number that it has seen.
    seen: i64,
    /// The message or change of each number.
    frames: BTreeMap<i64, Value>,
}

/// A message that its sender's client has not forgotten.
struct Sent {
    from: usize,
    to: usize,
    id: String,
    text: String,
}

struct Model {
    chance: Chance,
    bed: Arc<Bed>,
    people: Vec<Person>,
    replicas: Vec<Replica>,
    devices: Vec<Device>,
    waiting: Vec<Sent>,
    /// Message ids of accepted messages, by the id that their client gave: sender, receiver, message.
    accepted: HashMap<String, (usize, usize, String)>,
    next: usize,
}

impl Model {
    async fn connect(&mut self, device: usize) {
        let replica = self.chance.below(self.replicas.len());
        let Device { who, seen, .. } = self.devices[device];
        let dm = self.replicas[replica].dm();
        let socket = open(dm, &self.people[who], &format!("&since={seen}")).await;
        self.devices[device].socket = Some(socket);
        // A client sends again what was not answered.
        let again: Vec<String> = self
            .waiting
            .iter()
            .filter(|sent| sent.from == who)
            .map(frame_of)
            .collect();
        for frame in again {
            self.send(device, frame).await;
        }
    }

    async fn send(&mut self, device: usize, frame: String) {
        let device = &mut self.devices[device];
        if let Some(socket) = &mut device.socket
            && socket.try_send(frame).await.is_err()
        {
            device.socket = None;
        }
    }

    /// Reads what has arrived at a device.
    async fn read(&mut self, device: usize) {
        loop {
            let state = &mut self.devices[device];
            let Some(socket) = &mut state.socket else { return };
            let frame: Value = match tokio::time::timeout(SHORTLY, socket.text_or_code()).await {
                Err(_) => return,
                Ok(Err(_)) => {
                    state.socket = None;
                    return;
                }
                Ok(Ok(text)) => serde_json::from_str(&text).unwrap(),
            };
            match frame["topic"].as_str().unwrap() {
                "accepted" => {
                    let id = frame["id"].as_str().unwrap().to_owned();
                    let message = frame["data"]["messageId"].as_str().unwrap().to_owned();
                    if let Some(at) = self.waiting.iter().position(|sent| sent.id == id) {
                        let sent = self.waiting.swap_remove(at);
                        self.accepted.insert(id, (sent.from, sent.to, message));
                    } else {
                        assert_eq!(self.accepted[&id].2, message, "one id is one message");
                    }
                }
                "message" | "edit" | "retract" => {
                    let seq = frame["seq"].as_i64().unwrap();
                    assert!(seq > state.seen, "{seq} after {}: {frame}", state.seen);
                    state.seen = seq;
                    assert!(state.frames.insert(seq, frame).is_none());
                }
                "receipt" => {}
                // Sent again with the same id.
                "error" => assert_eq!(frame["data"]["code"], "unavailable", "{frame}"),
                other => panic!("{other}: {frame}"),
            }
        }
    }

    async fn step(&mut self, step: usize) {
        let device = self.chance.below(self.devices.len());
        match self.chance.below(20) {
            0..=8 => {
                let from = self.devices[device].who;
                let to = (from + 1 + self.chance.below(NAMES.len() - 1)) % NAMES.len();
                self.next += 1;
                let sent = Sent {
                    from,
                    to,
                    id: format!("c{}", self.next),
                    text: format!("text {}", self.next),
                };
                let frame = frame_of(&sent);
                self.waiting.push(sent);
                self.send(device, frame).await;
            }
            9..=10 => self.devices[device].socket = None,
            11..=13 => self.connect(device).await,
            14..=15 => {
                let seen = self.devices[device].seen;
                if seen > 0 {
                    self.send(device, json!({ "topic": "ack", "seq": seen }).to_string())
                        .await;
                }
            }
            16..=17 => self.change("editMessage", step).await,
            18 => self.change("cancelMessage", step).await,
            _ => self.read(device).await,
        }
        if step % 60 == 59 {
            let replica = self.chance.below(self.replicas.len());
            self.replicas[replica].kill();
            self.replicas[replica] = Replica::start(&self.bed).await;
        }
        if self.chance.below(3) == 0 {
            let device = self.chance.below(self.devices.len());
            self.read(device).await;
        }
    }

    /// Edits or retracts one of the accepted messages.
    async fn change(&mut self, call: &str, step: usize) {
        let mut ids: Vec<_> = self.accepted.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        ids.sort();
        let (from, _, message) = self.accepted[&ids[self.chance.below(ids.len())]].clone();
        let replica = self.chance.below(self.replicas.len());
        let dm = self.replicas[replica].dm();
        let text = format!("edited {step}");
        let mut params = vec![("id", message.as_str())];
        if call == "editMessage" {
            params.push(("text", &text));
        }
        let (status, body) = dm.post(&self.people[from], call, &params).await;
        // Retracted before.
        let is_known = status == StatusCode::OK || status == StatusCode::CONFLICT;
        assert!(is_known || status == StatusCode::SERVICE_UNAVAILABLE, "{status} {body}");
    }

    /// The messages of a conversation in the history of one of its people, the oldest first.
    async fn history(&self, who: usize, with: usize) -> Vec<Value> {
        let dm = self.replicas[0].dm();
        let (mut cursor, mut found) = ("start".to_owned(), Vec::new());
        loop {
            let params = [("sender", NAMES[who]), ("receiver", NAMES[with]), ("cursor", &cursor)];
            let (status, body) = dm.post(&self.people[who], "findDirectMessage", &params).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            found.extend(body["content"].as_array().unwrap().iter().map(|it| it["id"].clone()));
            match body["nextCursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        found.reverse();
        found
    }
}

fn frame_of(sent: &Sent) -> String {
    let data = json!({ "receiver": NAMES[sent.to], "text": sent.text });
    json!({ "topic": "message", "id": sent.id, "data": data }).to_string()
}

async fn every_acknowledged_message_is_shown_once_in_one_order(bed: Bed) {
    let steps = match bed.set {
        EngineSet::Embedded => STEPS,
        EngineSet::Real => STEPS_ON_REAL,
    };
    let bed = Arc::new(bed);
    let seed = u64::from(seed()) | 1;
    let mut people = Vec::new();
    for name in NAMES {
        people.push(bed.person(&format!("{name}@example.com+kakao"), name).await);
    }
    let devices = (0..2 * NAMES.len()).map(|number| Device {
        who: number % NAMES.len(),
        socket: None,
        seen: 0,
        frames: BTreeMap::new(),
    });
    let mut model = Model {
        chance: Chance(seed),
        people,
        replicas: vec![Replica::start(&bed).await, Replica::start(&bed).await],
        devices: devices.collect(),
        waiting: Vec::new(),
        accepted: HashMap::new(),
        next: 0,
        bed,
    };
    for device in 0..model.devices.len() {
        model.connect(device).await;
    }
    for step in 0..steps {
        model.step(step).await;
    }

    // Everybody comes back and sends again until all is answered and seen.
    let mut rounds = 0_usize;
    let what = format!("every device has seen every message, seed {seed}");
    eventually(&what, async || {
        rounds += 1;
        for device in 0..model.devices.len() {
            if model.devices[device].socket.is_none() || rounds.is_multiple_of(16) {
                model.connect(device).await;
            }
            model.read(device).await;
        }
        let newest: Vec<i64> = (0..NAMES.len())
            .map(|who| {
                let own = model.devices.iter().filter(|device| device.who == who);
                own.map(|device| device.seen).max().unwrap_or_default()
            })
            .collect();
        let all_seen = model.devices.iter().all(|device| device.seen == newest[device.who]);
        let complete = model.accepted.values().all(|(from, to, message)| {
            let people = model
                .devices
                .iter()
                .filter(|device| device.who == *from || device.who == *to);
            people.into_iter().all(|device| has(device, message))
        });
        (model.waiting.is_empty() && all_seen && complete).then_some(())
    })
    .await;

    assert!(!model.accepted.is_empty());
    for who in 0..NAMES.len() {
        let own: Vec<_> = model.devices.iter().filter(|device| device.who == who).collect();
        let messages = |device: &Device| -> Vec<(i64, Value)> {
            let frames = device.frames.iter().filter(|(_, frame)| frame["topic"] == "message");
            frames.map(|(seq, frame)| (*seq, frame["id"].clone())).collect()
        };
        let shown = messages(own[0]);
        assert_eq!(
            shown,
            messages(own[1]),
            "both devices show the same under the same numbers"
        );
        let mut ids: Vec<_> = shown.iter().map(|(_, id)| id.as_str().unwrap().to_owned()).collect();
        let mut expected: Vec<_> = model
            .accepted
            .values()
            .filter(|(from, to, _)| *from == who || *to == who)
            .map(|(_, _, message)| message.clone())
            .collect();
        ids.sort();
        expected.sort();
        assert_eq!(ids, expected, "each accepted message once");
        for with in (0..NAMES.len()).filter(|with| *with != who) {
            let history = model.history(who, with).await;
            let in_history: Vec<_> = shown
                .iter()
                .filter(|(_, id)| history.contains(id))
                .map(|(_, id)| id.clone())
                .collect();
            assert_eq!(in_history, history, "{who} and {with}: the order of the history");
            assert_eq!(history, model.history(with, who).await);
        }
    }
}

fn has(device: &Device, message: &str) -> bool {
    let mut frames = device.frames.values();
    frames.any(|frame| frame["topic"] == "message" && frame["id"] == message)
}

/// A failure is repeated with the seed that it names.
fn seed() -> u32 {
    let given = std::env::var("SOSOHAPPY_MODEL_SEED").ok();
    let given = given.and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| SystemClock.now().subsec_nanosecond().unsigned_abs())
}
