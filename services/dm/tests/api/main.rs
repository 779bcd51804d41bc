//! Dm from the outside, over HTTP, sockets and the topics.

mod access;
mod changes;
mod delivery;
mod export;
mod frames;
mod history;
mod limits;
mod model;
mod outage;
mod receipts;
mod refusals;
mod replicas;
mod reports;
mod requests;
mod resign;
mod revocations;
mod rooms;
mod schedule;
mod search;
mod stream;

use std::sync::Arc;

use reqwest::multipart::Form;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sosohappy_bus::{Bus, Reader, Start};
use sosohappy_common::clock::Clock;
use sosohappy_events::types::{DirectMessageSent, MessageReceipt, ReceiptProgress};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, PATIENCE, Person, Running, Socket};

/// A replica of the dm service, and how to call it.
struct Dm {
    running: Running,
    client: Client,
}

const DATE: i64 = 2_023_090_513_248_392;

const DELIVERY_TIMEOUT: &str = "messages.delivery-timeout";

impl Dm {
    async fn start(bed: &Bed) -> Self {
        Self::start_with(bed, &[]).await
    }

    async fn start_with(bed: &Bed, settings: &[(&str, &str)]) -> Self {
        Self::start_on(bed, bed.bus.clone(), settings).await
    }

    /// A replica with a clock of its own.
    async fn start_with_clock(bed: &Bed, clock: Arc<dyn Clock>) -> Self {
        let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &[]).await;
        let mut context = bed.context(sosohappy_dm::SERVICE);
        context.clock = clock;
        let service = sosohappy_dm::build(settings, context, bed.bus.clone()).await;
        Self {
            running: bed.start(service).await,
            client: sosohappy_common::tls::client(),
        }
    }

    async fn start_on(bed: &Bed, bus: Arc<dyn Bus>, settings: &[(&str, &str)]) -> Self {
        let mut settings = settings.to_vec();
        if settings.iter().all(|(key, _)| *key != DELIVERY_TIMEOUT) {
            // A socket of a busy test has not been read for some seconds: that is no reason for a push.
            settings.push((DELIVERY_TIMEOUT, "1m"));
        }
        let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &settings).await;
        let context = bed.context(sosohappy_dm::SERVICE);
        context.settings.attach(&settings);
        let running = bed.start(sosohappy_dm::build(settings, context, bus).await).await;
        Self {
            running,
            client: sosohappy_common::tls::client(),
        }
    }

    fn at(&self, call: &str) -> String {
        self.running.at(&format!("/dm-service/{call}"))
    }

    async fn connect(&self, who: &Person) -> Socket {
        let url = self
            .running
            .socket_at(&format!("/dm-service/connect-dm?nickname={}", who.nickname));
        Socket::connect(&url, Some(who)).await.expect("the socket opens")
    }

    async fn post(&self, who: &Person, call: &str, params: &[(&str, &str)]) -> (StatusCode, Value) {
        read(who.sign(self.client.post(self.at(call)).form(params))).await
    }

    async fn history(&self, who: &Person, with: &str) -> Value {
        let (status, body) = self
            .post(
                who,
                "findDirectMessage",
                &[("sender", &who.nickname), ("receiver", with)],
            )
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// The status of a call that only a valid token allows.
    async fn status(&self, who: &Person) -> u16 {
        let call = [("sender", who.nickname.as_str())];
        self.post(who, "findMultipleDirectMessage", &call).await.0.as_u16()
    }

    async fn newest(&self, who: &Person) -> Value {
        let (status, body) = self
            .post(who, "findMultipleDirectMessage", &[("sender", &who.nickname)])
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }
}

async fn read(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.expect("dm answers");
    let status = answer.status();
    (status, answer.json().await.expect("answers are JSON"))
}

fn message(from: &str, to: &str, date: i64, text: &str) -> Value {
    json!({ "sender": from, "receiver": to, "date": date, "text": text })
}

/// Kim and Lee, signed in.
async fn two(bed: &Bed) -> (Person, Person) {
    (
        bed.person("kim@example.com+kakao", "kim").await,
        bed.person("lee@example.com+apple", "lee").await,
    )
}

/// Reads what dm publishes from here on.
async fn sent(bed: &Bed) -> Box<dyn Reader> {
    bed.bus
        .read(&[Topic::DirectMessage], Start::Earliest)
        .await
        .expect("the bus reads")
}

/// Reads the receipts that dm publishes.
async fn receipts(bed: &Bed) -> Box<dyn Reader> {
    let reader = bed.bus.read(&[Topic::MessageReceipt], Start::Earliest).await;
    reader.expect("the bus reads")
}

/// The ids of the messages that sockets of that person have shown, by the next receipt of that kind.
async fn next_shown(reader: &mut Box<dyn Reader>, to: &Person) -> Vec<String> {
    loop {
        let record = tokio::time::timeout(PATIENCE, reader.next()).await;
        let receipt = Envelope::<MessageReceipt>::decode(&record.expect("a receipt comes").expect("the bus reads"));
        let receipt = receipt.expect("the event is one").event;
        if let ReceiptProgress::Shown { messages } = receipt.progress {
            assert_eq!(receipt.reader, to.account);
            return messages;
        }
    }
}

async fn next(reader: &mut Box<dyn Reader>) -> Envelope<DirectMessageSent> {
    let record = tokio::time::timeout(PATIENCE, reader.next()).await;
    Envelope::decode(&record.expect("an event comes").expect("the bus reads")).expect("the event is one")
}

fn multipart(params: &[(&'static str, String)]) -> Form {
    params
        .iter()
        .fold(Form::new(), |form, (name, value)| form.text(*name, value.clone()))
}
