//! A conversation while Kafka is killed and comes back.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use serde_json::Value;
use sosohappy_common::settings::Events;
use sosohappy_testkit::{Bed, Broker, EngineSet, PATIENCE, Person, Socket};
use tokio::time::timeout;

use super::stream::{open, seq, typed};
use super::{Dm, two};

/// Turns before the broker is killed, while it is unavailable and after it has come back, beside those in between.
const TURNS: usize = 10;
/// Between two turns: the conversation has some hundred messages, however long the broker takes.
const PACE: Duration = Duration::from_millis(50);
/// A frame that was written is read within this time.
const SHORTLY: Duration = Duration::from_millis(500);
/// Within this time of the broker's return everything is shown: a replica may replace a client that is stuck, and its next one.
const CATCH_UP: Duration = PATIENCE.saturating_mul(2);

/// A device, with numbers and ids of the messages that it has shown, in their order.
struct Device {
    socket: Socket,
    shown: Vec<(i64, Value)>,
}

impl Device {
    async fn open(dm: &Dm, who: &Person) -> Self {
        Self {
            socket: open(dm, who, "").await,
            shown: Vec::new(),
        }
    }

    /// Reads a frame, and returns it unless it is a message, which the device shows. Safe to cancel.
    async fn read(&mut self) -> Option<Value> {
        let frame = self.socket.json().await;
        if frame["topic"] != "message" {
            return Some(frame);
        }
        self.shown.push((seq(&frame), frame["id"].clone()));
        None
    }

    /// Sends a message until it is accepted, and returns the id that it has then.
    async fn say(&mut self, id: &str, to: &str) -> Value {
        loop {
            self.socket.send(typed(id, to, id)).await;
            let answer = loop {
                if let Some(answer) = self.read().await {
                    break answer;
                }
            };
            assert_eq!(answer["id"], id, "{answer}");
            if answer["topic"] == "accepted" {
                return answer["data"]["messageId"].clone();
            }
            assert_eq!(answer["data"]["code"], "unavailable", "{answer}");
        }
    }

    /// Shows what has come, and answers pings meanwhile.
    fn show_what_came(&mut self) {
        while let Some(frame) = self.read().now_or_never() {
            assert_eq!(frame, None);
        }
    }

    /// Shows frames as they come until it has shown so many messages.
    async fn show(&mut self, messages: usize) {
        while self.shown.len() < messages {
            // A shorter wait than the socket's own.
            if let Ok(frame) = timeout(SHORTLY, self.read()).await {
                assert_eq!(frame, None);
            }
        }
    }
}

/// Two people, each with a device at each of two replicas. Each message is accepted before the next one is sent.
struct Conversation {
    devices: [Device; 4],
    accepted: Vec<Value>,
}

impl Conversation {
    async fn turn(&mut self) {
        for (device, to) in [(0, "lee"), (3, "kim")] {
            let id = format!("c{}", self.accepted.len());
            self.accepted.push(self.devices[device].say(&id, to).await);
        }
        tokio::time::sleep(PACE).await;
        self.devices.iter_mut().for_each(Device::show_what_came);
    }

    async fn turns(&mut self) {
        for _ in 0..TURNS {
            self.turn().await;
        }
    }

    /// Goes on until something has been done.
    async fn turns_until_done(&mut self, work: impl FnOnce() + Send + 'static) {
        let work = tokio::task::spawn_blocking(work);
        while !work.is_finished() {
            self.turn().await;
        }
        work.await.unwrap();
    }

    /// Waits until every device has shown every message.
    async fn show(&mut self) {
        let messages = self.accepted.len();
        let shown = join_all(self.devices.iter_mut().map(|device| device.show(messages)));
        if timeout(CATCH_UP, shown).await.is_err() {
            let shown = self.devices.each_ref().map(|device| device.shown.len());
            panic!("{shown:?} of {messages} messages are shown");
        }
    }
}

/// A replica with a bus of its own, as another process has it.
async fn replica(bed: &Bed) -> Dm {
    let (brokers, prefix) = bed.kafka().expect("the real engines");
    let events = Events::new(&format!("kafka:{brokers}"), prefix);
    let bus = sosohappy_bus::open(&events, &bed.context(sosohappy_dm::SERVICE)).await;
    Dm::start_on(bed, bus.expect("the bus opens"), &[]).await
}

/// What is accepted is stored, and needs no broker: it is shown when the broker has come back, once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_message_is_shown_once_after_kafka_was_killed() {
    if !EngineSet::real_is_there() {
        return;
    }
    // Dropped last.
    let broker = Arc::new(Broker::start());
    let bed = Bed::on_broker(&broker).await;
    let (here, there) = (replica(&bed).await, replica(&bed).await);
    let (kim, lee) = two(&bed).await;
    let mut conversation = Conversation {
        devices: [
            Device::open(&here, &kim).await,
            Device::open(&there, &kim).await,
            Device::open(&here, &lee).await,
            Device::open(&there, &lee).await,
        ],
        accepted: Vec::new(),
    };
    conversation.turns().await;
    conversation.show().await;

    let killed = broker.clone();
    conversation.turns_until_done(move || killed.kill()).await;
    conversation.turns().await;
    let other = &mut conversation.devices[1];
    while timeout(SHORTLY, other.read()).await.is_ok() {}
    assert!(other.shown.len() < conversation.accepted.len(), "the broker is away");

    let restarted = broker.clone();
    conversation.turns_until_done(move || restarted.restart()).await;
    conversation.turns().await;
    conversation.show().await;
    let expected: Vec<(i64, Value)> = (1..).zip(conversation.accepted.iter().cloned()).collect();
    let silent = conversation
        .devices
        .iter_mut()
        .map(|device| device.socket.silent_for(SHORTLY));
    assert_eq!(join_all(silent).await, [true; 4]);
    for (number, device) in conversation.devices.iter().enumerate() {
        assert_eq!(device.shown, expected, "device {number}");
    }
}
