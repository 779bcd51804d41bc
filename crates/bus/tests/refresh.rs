//! Refresh events: their destinations read the settings again, acknowledge and report; instances that missed one poll.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, json};
use sosohappy_bus::Bus;
use sosohappy_bus::refresh::spawn_refresh;
use sosohappy_bus::{Reader, Start};
use sosohappy_common::Context;
use sosohappy_common::settings::{self, Live, Sources};
use sosohappy_events::types::{BusMessage, SettingsReport};
use sosohappy_events::{Envelope, Topic};
use support::{Bench, soon};

on_both!(
    addressed_instances_refresh_and_acknowledge,
    a_refused_version_is_reported_and_not_applied,
    a_missed_refresh_is_detected_by_polling,
    a_spring_service_is_understood,
);

const NEVER: Duration = Duration::from_hours(1);

#[derive(Debug, Deserialize)]
struct Settings {
    post: Post,
    #[serde(rename = "server")]
    _server: serde_json::Value,
    #[serde(rename = "rate-limits")]
    _limits: serde_json::Value,
    #[serde(rename = "log")]
    _log: serde_json::Value,
    #[serde(rename = "tracing")]
    _tracing: serde_json::Value,
    #[serde(rename = "events")]
    _events: serde_json::Value,
    #[serde(rename = "fleet")]
    _fleet: serde_json::Value,
    #[serde(rename = "erasure")]
    _erasure: serde_json::Value,
    #[serde(rename = "credentials")]
    _credentials: serde_json::Value,
    #[serde(rename = "config")]
    _config: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Post {
    posts: u32,
}

/// A service with settings of its own, on its own port of the bus.
struct Instance {
    context: Context,
    settings: Live<Settings>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Instance {
    async fn start(service: &'static str, bus: &Arc<dyn Bus>, poll: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        write(&file, 1);
        let secret = |key: &str| (format!("credentials.{key}-token"), "a-token-of-a-test".to_owned());
        let sources = Sources {
            service: "test",
            defaults: "live = [\"post\"]\n[server]\nport = 1\n",
            file: Some(file.clone()),
            overrides: vec![secret("service"), secret("operator")],
            environment: false,
        };
        let settings = settings::load::<Settings>(&sources).await.unwrap();
        let context = Context::system(service, 1);
        context.settings.attach(&settings);
        spawn_refresh(&context, bus.clone(), Live::new(poll));
        Self {
            context,
            settings,
            file,
            _folder: folder,
        }
    }

    fn posts(&self) -> u32 {
        self.settings.get().post.posts
    }
}

fn write(file: &Path, posts: i64) {
    std::fs::write(file, format!("[post]\nposts = {posts}\n")).unwrap();
}

async fn publish(bus: &Arc<dyn Bus>, message: BusMessage, context: &Context) {
    let record = Envelope::new(message, context).to_outgoing();
    bus.publish(&[record]).await.unwrap();
}

/// The next message of this kind.
async fn next(reader: &mut dyn Reader, kind: &str) -> BusMessage {
    loop {
        let record = soon(reader.next()).await.unwrap();
        let message = Envelope::<BusMessage>::decode(&record).unwrap().event;
        if message.kind == kind {
            return message;
        }
    }
}

async fn reading(bus: &Arc<dyn Bus>) -> Box<dyn Reader> {
    soon(bus.read(&[Topic::ConfigBus], Start::Latest)).await.unwrap()
}

async fn addressed_instances_refresh_and_acknowledge(bench: Bench) {
    let bus = bench.open().await;
    let mut reader = reading(&bus).await;
    let feed = Instance::start("feed-service", &bus, NEVER).await;
    let dm = Instance::start("dm-service", &bus, NEVER).await;
    for _ in 0..2 {
        let started = next(&mut *reader, BusMessage::REPORT).await;
        assert_eq!(started.to_report(), Some(SettingsReport::default()));
    }
    write(&feed.file, 2);
    write(&dm.file, 2);
    let message = BusMessage::refresh(&bench.context, "feed-service:**");
    publish(&bus, message.clone(), &bench.context).await;

    let ack = next(&mut *reader, BusMessage::ACK).await;
    assert_eq!(ack.origin_service, *feed.context.instance);
    assert_eq!(
        serde_json::Value::Object(ack.rest),
        json!({
            "ackId": message.id,
            "ackDestinationService": "feed-service:**",
            "event": "org.springframework.cloud.bus.event.RefreshRemoteApplicationEvent",
        })
    );
    assert_eq!(feed.posts(), 2);

    let values = Map::from_iter([("post.posts".to_owned(), json!("7"))]);
    publish(
        &bus,
        BusMessage::environment_change(&bench.context, "**", values),
        &bench.context,
    )
    .await;
    for _ in 0..2 {
        let ack = next(&mut *reader, BusMessage::ACK).await;
        assert!(
            ack.rest["event"]
                .as_str()
                .unwrap()
                .ends_with(".EnvironmentChangeRemoteApplicationEvent")
        );
    }
    assert_eq!((feed.posts(), dm.posts()), (7, 7));

    write(&feed.file, 8);
    publish(&bus, BusMessage::refresh(&feed.context, "**"), &feed.context).await;
    let acks = [
        next(&mut *reader, BusMessage::ACK).await,
        next(&mut *reader, BusMessage::ACK).await,
    ];
    assert!(
        acks.iter().any(|ack| ack.origin_service == *feed.context.instance),
        "its own is acknowledged"
    );
}

async fn a_refused_version_is_reported_and_not_applied(bench: Bench) {
    let bus = bench.open().await;
    let mut reader = reading(&bus).await;
    let feed = Instance::start("feed-service", &bus, NEVER).await;
    next(&mut *reader, BusMessage::REPORT).await;
    write(&feed.file, -1);
    publish(
        &bus,
        BusMessage::refresh(&bench.context, "feed-config:**"),
        &bench.context,
    )
    .await;
    let report = next(&mut *reader, BusMessage::REPORT).await.to_report().unwrap();
    assert!(report.refused.unwrap().starts_with("post.posts: "));
    assert_eq!(feed.posts(), 1);
    support::assert_counted(&feed.context, "settings_refused", &[], 1);

    write(&feed.file, 3);
    publish(
        &bus,
        BusMessage::refresh(&bench.context, "feed-config:**"),
        &bench.context,
    )
    .await;
    let report = next(&mut *reader, BusMessage::REPORT).await.to_report().unwrap();
    assert_eq!((report.refused, feed.posts()), (None, 3));
    support::assert_counted(&feed.context, "settings_refused", &[], 0);
}

async fn a_missed_refresh_is_detected_by_polling(bench: Bench) {
    let bus = bench.open().await;
    let feed = Instance::start("feed-service", &bus, Duration::from_millis(50)).await;
    write(&feed.file, 2);
    soon(async {
        while feed.posts() != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Bytes as a Spring fleet writes them, in both naming styles and of unknown types.
async fn a_spring_service_is_understood(bench: Bench) {
    let bus = bench.open().await;
    let mut reader = reading(&bus).await;
    let feed = Instance::start("feed-service", &bus, NEVER).await;
    next(&mut *reader, BusMessage::REPORT).await;
    write(&feed.file, 2);
    let unknown = json!({"type": "ShutdownRemoteApplicationEvent", "originService": "x:1:2", "destinationService": "**", "id": "1"});
    let refresh = json!({"type": "RefreshRemoteApplicationEvent", "timestamp": 1_700_000_000_000_i64,
        "origin_service": "config-server:8888:1f", "destination_service": "feed-service:**", "id": "2"});
    for message in [unknown, refresh] {
        let record = sosohappy_events::Outgoing {
            topic: Topic::ConfigBus.default_name().to_owned(),
            key: None,
            value: Some(message.to_string().into_bytes()),
            headers: Vec::new(),
        };
        bus.publish(&[record]).await.unwrap();
    }
    let ack = next(&mut *reader, BusMessage::ACK).await;
    assert_eq!(ack.rest["ackId"], "2");
    assert_eq!(feed.posts(), 2);
}
