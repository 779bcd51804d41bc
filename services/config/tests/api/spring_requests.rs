//! Requests of Spring's config client, bus and operators byte by byte, as files in `tests/golden/spring` beside their responses, and records of
//! `configBus`. `SOSOHAPPY_UPDATE_GOLDEN=1` rewrites the responses.
//!
//! Source: spring-cloud-config-client's `ConfigServerConfigDataLoader` over `RestTemplate`, spring-cloud-bus's events as Jackson writes them.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sosohappy_bus::Start;
use sosohappy_events::types::BusMessage;
use sosohappy_events::{Envelope, Outgoing, Topic};
use sosohappy_testkit::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Fixture;
use crate::answers::{golden, steady};

const FILES: [(&str, &str); 6] = [
    ("application.yml", "shared: true\n"),
    ("feed-config.yml", "server:\n  port: 8891\nlist: [a, b]\n"),
    (
        "feed-config-prod.yml",
        "spring.datasource.url: jdbc:mysql://mysql/feed\n",
    ),
    ("release/1/feed-config.yml", "label: release\n"),
    ("logback.xml", "<level>${server.port}</level>\n"),
    ("release/1/logback.xml", "<level>${label}</level>\n"),
];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/spring")
        .join(name)
}

/// Sends the bytes of a request file and returns status, content type and body of the response.
async fn exchange(fixture: &Fixture, name: &str) -> String {
    let text = std::fs::read_to_string(file(&format!("{name}.http"))).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let body = body.trim_end_matches('\n');
    let host = fixture.config.url.strip_prefix("http://").unwrap();
    let basic = |token: &str| BASE64_STANDARD.encode(format!("user:{token}"));
    let head = head
        .replace("{{host}}", host)
        .replace("{{basic}}", &basic(&fixture.bed.service_token))
        .replace("{{operator}}", &basic(&fixture.bed.operator_token))
        .replace("{{token}}", &fixture.bed.service_token)
        .replace("{{length}}", &body.len().to_string());
    let request = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));

    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // The connection is kept alive: the response ends at its content length.
    let (head, body) = loop {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "{name}: incomplete response");
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let status = head.split(' ').nth(1).unwrap();
    let content_type = header(&head, "content-type").unwrap_or("-");
    let body = match serde_json::from_str::<serde_json::Value>(&body) {
        Ok(json) => format!("{json:#}\n"),
        Err(_) => body,
    };
    format!("{status} {content_type}\n{body}")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[tokio::test]
async fn requests_of_spring_clients_and_operators_get_the_golden_responses() {
    let fixture = Fixture::new(&FILES, &[("encrypt.key", "a test key")]).await;
    for name in [
        "environment",
        "environment-at-label",
        "environment-encoded-label",
        "environment-of-no-label",
        "resource",
        "resource-as-bytes",
        "busrefresh",
        "busenv",
        "encrypt-status",
        "monitor",
    ] {
        let answer = exchange(&fixture, name).await;
        golden(&format!("spring/{name}.answer"), &steady(&fixture, &answer));
    }
}

#[tokio::test]
async fn records_of_spring_services_on_the_bus_are_read_in_both_naming_styles() {
    let fixture = Fixture::new(&FILES, &[("source.poll", "50ms")]).await;
    let mut bus = fixture.bed.bus.read(&[Topic::ConfigBus], Start::Latest).await.unwrap();
    fixture.write("feed-config.yml", "server.port: 8892\n");
    let refresh = loop {
        let record = bus.next().await.unwrap();
        let message = Envelope::<BusMessage>::decode(&record).unwrap().event;
        if message.kind == BusMessage::REFRESH {
            break message;
        }
    };
    for name in ["shutdown.json", "ack.json", "ack-snake-case.json"] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        let record = Outgoing {
            topic: Topic::ConfigBus.default_name().to_owned(),
            key: None,
            value: Some(text.replace("{{refresh}}", &refresh.id).into_bytes()),
            headers: Vec::new(),
        };
        fixture.bed.bus.publish(&[record]).await.unwrap();
    }
    let known = eventually("both services are known", async || {
        let known = fixture.ask("/convergence").await;
        let services = known["services"].as_object().unwrap();
        (services.len() >= 2).then(|| known.clone())
    })
    .await;
    let services: Vec<_> = known["services"].as_object().unwrap().keys().collect();
    assert_eq!(
        services,
        ["dm-service", "feed-service"],
        "a shutdown event has no effect"
    );
    assert_eq!(known["converged"], true, "{known}");
}
