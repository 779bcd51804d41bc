//! Records on the topics of both sides.

use sosohappy_common::Context;
use sosohappy_common::settings::Events;
use sosohappy_events::Outgoing;
use sosohappy_fleet::mirror::{self, Topics};
use sosohappy_testkit::{EngineSet, eventually};

use crate::Bed;

/// Records of a pair come within it, on a slow machine too.
const WINDOW: std::time::Duration = std::time::Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_both_sides_are_compared() {
    if !EngineSet::real_is_there() {
        return;
    }
    // Its prefix begins the topics of both sides, and all of them go with it.
    let engines = sosohappy_testkit::Bed::new(EngineSet::Real).await;
    let (brokers, prefix) = engines.kafka().unwrap();
    let events = |side: &str| Events::new(&format!("kafka:{brokers}"), &format!("{prefix}{side}_"));
    let bed = Bed::new(|options| {
        options.topics = Some(Topics {
            spring: events("spring"),
            ours: events("ours"),
            window: WINDOW,
        });
    })
    .await;
    let open = async |side: &str| {
        let context = Context::system("test-service", 0);
        sosohappy_bus::open(&events(side), &context).await.unwrap()
    };
    // Opened before, that the records of a pair follow each other closely.
    let (spring, ours) = (open("spring").await, open("ours").await);
    let publish = async |side: &str, topic: &str, key: &str, value: &str| {
        let bus = if side == "spring" { &spring } else { &ours };
        let record = Outgoing {
            topic: topic.to_owned(),
            key: Some(key.to_owned()),
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
        };
        bus.publish(&[record]).await.unwrap();
    };
    let message = "{\"sender\":\"kim\",\"receiver\":\"lee\",\"date\":2026112809000000,\"text\":\"secret\"}";
    publish("spring", "noticeLike", "kim", "lee@x.kr+kakao,2026112809000000").await;
    publish("spring", "directMessage", "push-token", message).await;
    publish("spring", "resign", "lee@x.kr+kakao", "lee").await;
    publish("ours", "noticeLike", "kim", "lee,2026112809000000").await;
    publish("ours", "directMessage", "lee@x.kr+kakao", message).await;
    let records = eventually("all are judged", async || {
        let records = bed.report().await["records"].clone();
        (records["resign"]["onlySpring"] == 1 && records["directMessage"]["equal"] == 1).then_some(records)
    })
    .await;
    assert_eq!(records["noticeLike"]["equal"], 1, "{records}");
    let lines = eventually("a line", async || {
        Some(bed.lines("record")).filter(|lines| !lines.is_empty())
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (&lines[0]["topic"], &lines[0]["only"]),
        (&"resign".into(), &"spring".into())
    );
    assert!(!lines[0].to_string().contains("lee"), "{lines:?}");

    let same = mirror::Options {
        topics: Some(Topics {
            spring: events("spring"),
            ours: events("spring"),
            window: WINDOW,
        }),
        ..crate::options(&bed.spring.url(), &bed.ours.url(), bed.folder.path())
    };
    let refused = mirror::start(same, &mirror::shared().unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be distinguished"), "{refused}");
}
