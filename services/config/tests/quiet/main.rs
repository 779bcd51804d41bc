//! Secrets are never logged or returned, and requests never touch the disk. A test process of its own, because the log belongs to the process.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use sosohappy_testkit::{Bed, EngineSet, Running, eventually};

/// The log of the process.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn install() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

async fn start(bed: &Bed, settings: &[(&str, &str)]) -> Running {
    let settings = bed.settings("config", sosohappy_config::DEFAULTS, settings).await;
    tracing::debug!(settings = ?settings.get(), "settings as a process logs them at its start");
    let context = bed.context(sosohappy_config::SERVICE);
    bed.start(sosohappy_config::build(settings, context, bed.bus.clone()).await)
        .await
}

const SECRET: &str = "hunter2hunter2hunter2";

#[expect(clippy::too_many_lines, reason = "one sequence of steps on one service")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_or_returned_and_no_request_touches_the_disk() {
    let log = Log::install();
    let bed = Bed::new(EngineSet::Embedded).await;
    let folder = bed.folder().join("config");
    std::fs::create_dir_all(&folder).unwrap();
    // Polling may read the folder at any moment: a file is there as a whole or not at all.
    let write = |name: &str, text: &str| {
        let beside = bed.folder().join("written");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, folder.join(name)).unwrap();
    };
    write(
        "feed-config.yml",
        &format!("db.password: {SECRET}\nother: '{{cipher}}00'\n"),
    );
    write("dm-config.yml", &format!("db.password: {SECRET}dm\n"));
    write("motd.txt", "hello ${db.password}\n");
    let settings = [
        ("source.poll", "50ms"),
        ("encrypt.key", SECRET),
        ("encrypt.keys.next", SECRET),
        ("webhooks.secret", SECRET),
        ("source.password", SECRET),
        ("applications.dm-config", "hunter2hunter2hunter2-of-dm"),
    ];
    let config = start(&bed, &settings).await;
    let client = sosohappy_common::tls::client();
    let url = |path: &str| config.at(&format!("/config-service{path}"));
    let get = async |path: &str, token: &str| client.get(url(path)).bearer_auth(token).send().await.unwrap();
    let settings = get("/feed-config/default", &bed.service_token)
        .await
        .text()
        .await
        .unwrap();
    assert!(settings.contains(SECRET), "its service reads it");

    // Errors and reports for operators.
    let operator = bed.operator_token.clone();
    let mut responses = Vec::new();
    for (path, token) in [
        ("/dm-config/default", bed.service_token.as_str()),
        ("/dm-config/default", SECRET),
        ("/feed-config/default/unknown", bed.service_token.as_str()),
        ("/status", operator.as_str()),
        ("/history", operator.as_str()),
        ("/audit", operator.as_str()),
    ] {
        responses.push(get(path, token).await.text().await.unwrap());
    }
    for (path, body) in [("/decrypt", SECRET), ("/monitor", SECRET)] {
        let answer = client
            .post(url(path))
            .bearer_auth(&operator)
            .body(body)
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_client_error(), "{path}");
        responses.push(answer.text().await.unwrap());
    }
    let encrypted = client
        .post(url("/encrypt"))
        .bearer_auth(&operator)
        .body(SECRET)
        .send()
        .await
        .unwrap();
    responses.push(encrypted.text().await.unwrap());
    let body = json!({"name": "db.password", "value": SECRET});
    let env = client
        .post(config.at("/actuator/busenv"))
        .bearer_auth(&operator)
        .json(&body);
    assert_eq!(env.send().await.unwrap().status(), 204);
    let first = get("/status", &operator)
        .await
        .json::<serde_json::Value>()
        .await
        .unwrap()["version"]
        .clone();
    write(
        "feed-config.yml",
        &format!("db.password: {SECRET}new\npost.text: {SECRET}\n"),
    );
    eventually("the version is refused", async || {
        let status = get("/status", &operator).await.text().await.unwrap();
        status.contains("post.text").then(|| responses.push(status))
    })
    .await;
    write(
        "feed-config.yml",
        &format!("db.password: {SECRET}new\nother: [{SECRET}\n"),
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    write("feed-config.yml", &format!("db.password: {SECRET}new\n"));
    eventually("the new version is served", async || {
        let answer = get("/feed-config/default", &bed.service_token)
            .await
            .text()
            .await
            .unwrap();
        answer.contains(&format!("{SECRET}new")).then_some(())
    })
    .await;
    let first = first.as_str().unwrap();
    responses.push(
        get(&format!("/diff?from={first}"), &operator)
            .await
            .text()
            .await
            .unwrap(),
    );
    assert!(responses.last().unwrap().contains("[redacted]"));
    for answer in &responses {
        assert!(!answer.contains("hunter2"), "{answer}");
    }
    let record = std::fs::read_to_string(bed.folder().join("config-state/record.jsonl")).unwrap();
    assert!(!record.contains("hunter2"), "{record}");

    without_the_disk(&bed, &config, &folder).await;
    config.stop().await;
    let log = log.text();
    assert!(log.contains("version refused"), "the log has been captured");
    let line = log.lines().find(|line| line.contains("hunter2"));
    assert_eq!(line, None);
}

/// Sends requests after source and state have been removed from the disk.
async fn without_the_disk(bed: &Bed, config: &Running, folder: &Path) {
    let state = bed.folder().join("config-state");
    std::fs::rename(folder, bed.folder().join("config-gone")).unwrap();
    std::fs::rename(&state, bed.folder().join("state-gone")).unwrap();
    let client = sosohappy_common::tls::client();
    let mut answered = 0;
    let paths = [
        "/feed-config/default",
        "/feed-config-default.yml",
        "/feed-config/default/motd.txt?useDefaultLabel",
    ];
    for _ in 0..40 {
        let asked = (0..50).map(|number| {
            let url = config.at(&format!("/config-service{}", paths[number % paths.len()]));
            let request = client.get(url).bearer_auth(&bed.service_token);
            async move {
                request
                    .send()
                    .await
                    .unwrap()
                    .error_for_status()
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap()
            }
        });
        for bytes in futures::future::join_all(asked).await {
            assert!(bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
            answered += 1;
        }
    }
    assert_eq!(answered, 2_000);
    assert!(!folder.exists() && !state.exists(), "no request created them");
}
