//! A change of the configuration reaches every instance; an invalid change reaches none.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sosohappy_testkit::{Cluster, EngineSet, eventually};

/// The time limit from the refresh until every instance has the new version.
const OBJECTIVE: Duration = Duration::from_secs(2);

/// Changes that are measured until one meets it.
const TRIES: usize = 8;

/// One fleet at a time: how long it takes to follow is measured, and each would wait for the other's processors.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_on_the_embedded_engines() {
    let _alone = ALONE.lock().await;
    let settings = [("SOSOHAPPY_CONFIG__CANARY__WATCH", "500ms")];
    follow(Cluster::embedded_with(binaries(), &settings).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_each_on_the_real_engines() {
    let _alone = ALONE.lock().await;
    if EngineSet::real_is_there() {
        follow(Cluster::real(binaries()).await, 2).await;
    }
}

/// Returns the folder of this workspace's binaries.
fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder")
}

async fn follow(mut fleet: Cluster, replicas: usize) {
    let operator = Operator::of(&fleet);
    let started = operator.wait_for_convergence(replicas).await;

    // Config also finds and publishes the change by itself: the refresh makes sure that it has, and starts the measurement. The file has
    // thousands of keys of other programs besides the fleet's settings.
    let others = (0..8000).map(|number| format!("other{number}.name: {number}\n"));
    let others = others.collect::<Vec<_>>().concat();
    fleet.configure(
        "application.yml",
        &format!("log:\n  level: debug\nserver:\n  body-limit: 1000\ntracing:\n  sample-ratio: 0.5\n{others}"),
    );
    // The best of some changes: a machine that is busy with other things stalls one.
    let (mut changed, mut took) = (started, Vec::new());
    while took.last().is_none_or(|took| *took > OBJECTIVE) {
        assert!(took.len() < TRIES, "{took:?}");
        let text = 5 + took.len();
        fleet.configure("feed-config.yml", &format!("post:\n  text: {text}\n"));
        let (version, time) = operator.measure(text, replicas).await;
        assert_ne!(version, changed);
        changed = version;
        took.push(time);
    }
    println!("all instances have the version after {took:?}");
    for ports in fleet.replicas {
        for port in [ports.auth, ports.feed, ports.dm, ports.notice] {
            let loggers = get(port, "/actuator/loggers/ROOT").await;
            assert_eq!(loggers["configuredLevel"], "DEBUG", "port {port}");
        }
    }
    let convergence = operator.convergence().await;
    let feed = &convergence["services"]["feed-service"]["instances"][0];
    assert_eq!(feed["needsRestart"], serde_json::json!(["tracing.sample-ratio"]));
    for ports in fleet.replicas {
        let url = format!("http://127.0.0.1:{}/dm-service/findDirectMessage", ports.dm);
        let asked = sosohappy_common::tls::client()
            .post(url)
            .body("x".repeat(1001))
            .send()
            .await;
        assert_eq!(asked.unwrap().status(), 413, "a limit needs no restart");
    }

    // No part of an invalid version reaches an instance.
    fleet.configure("feed-config.yml", "post:\n  text: plenty\n");
    operator.refuses("post.text").await;
    let deep = vec!["a"; 3000].join(".");
    fleet.configure("application.properties", &format!("# note\n{deep}=1\n"));
    operator.refuses("a key has at most 32 parts").await;
    let status = operator.status(&format!("/actuator/busenv?name={deep}&value=1")).await;
    assert_eq!(status, 400);
    operator.post("/actuator/busrefresh").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(operator.wait_for_convergence(replicas).await, changed);

    // Instances start with a version that was fixed while all processes were down.
    fleet.configure("feed-config.yml", "post:\n  text: 107\n");
    fleet.configure("application.properties", "");
    for process in fleet.names() {
        fleet.kill(&process);
    }
    fleet.restart_all().await;
    assert_ne!(operator.wait_for_convergence(replicas).await, changed);
    canary_reaches_every_instance(&mut fleet, &operator, replicas).await;
}

/// Runs a canary to its end, and across a crash of config where config is a separate process.
async fn canary_reaches_every_instance(fleet: &mut Cluster, operator: &Operator, replicas: usize) {
    fleet.configure("feed-config.yml", "post:\n  text: 109\n");
    let started = operator.start_canary().await;
    assert_eq!(started["phase"], "running", "{started}");
    assert_eq!(
        started["updated"].as_array().map(Vec::len),
        Some(4),
        "one instance of each service: {started}"
    );
    if fleet.names().iter().any(|name| name == "config") {
        fleet.kill("config");
        fleet.restart("config").await;
    }
    let ended = eventually("the canary ends", async || {
        let canary = operator.convergence().await["canary"].clone();
        assert_eq!(canary["id"], started["id"]);
        (canary["phase"] != "running").then_some(canary)
    })
    .await;
    assert_eq!(ended["phase"], "finished", "{ended}");
    assert_eq!(operator.wait_for_convergence(replicas).await, started["to"]);
}

/// A client of config with the operator's credential.
struct Operator {
    config: u16,
    token: String,
}

impl Operator {
    fn of(fleet: &Cluster) -> Self {
        Self {
            config: fleet.config,
            token: fleet.operator_token.clone(),
        }
    }

    async fn convergence(&self) -> Value {
        self.ask("convergence").await
    }

    async fn ask(&self, what: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/config-service/{what}", self.config);
        let asked = sosohappy_common::tls::client()
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await;
        asked.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// Waits until config serves a change of both files, and refreshes. Returns the version, and how long all instances take to have it.
    async fn measure(&self, text: usize, replicas: usize) -> (Value, Duration) {
        // Both files: it may find the first one before the second.
        let changed = eventually("config serves the change", async || {
            let served = self.ask("feed-config/default").await;
            let sources = served["propertySources"].to_string();
            let is_whole =
                sources.contains(&format!(r#""post.text":{text}"#)) && sources.contains(r#""tracing.sample-ratio":"#);
            is_whole.then(|| served["version"].clone())
        })
        .await;
        let began = Instant::now();
        self.post("/actuator/busrefresh").await;
        assert_eq!(self.wait_for_convergence(replicas).await, changed);
        (changed, began.elapsed())
    }

    /// Waits until config has refused the version for that reason.
    async fn refuses(&self, reason: &str) {
        eventually("config has refused the version", async || {
            let status = self.ask("status").await;
            status["refused"].to_string().contains(reason).then_some(())
        })
        .await;
    }

    async fn start_canary(&self) -> Value {
        let url = format!("http://127.0.0.1:{}/actuator/busrefresh?canary=1", self.config);
        let asked = sosohappy_common::tls::client()
            .post(url)
            .bearer_auth(&self.token)
            .send()
            .await;
        asked.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn post(&self, path: &str) {
        let status = self.status(path).await;
        assert!(status < 300, "{path}: {status}");
    }

    async fn status(&self, path: &str) -> u16 {
        let url = format!("http://127.0.0.1:{}{path}", self.config);
        let asked = sosohappy_common::tls::client()
            .post(url)
            .bearer_auth(&self.token)
            .send()
            .await;
        asked.unwrap().status().as_u16()
    }

    /// Waits until all instances have the newest version, and returns it.
    async fn wait_for_convergence(&self, replicas: usize) -> Value {
        eventually("all instances have the newest version", async || {
            let convergence = self.convergence().await;
            let counts = [("auth", 1), ("feed", replicas), ("dm", replicas), ("notice", replicas)];
            let converged = counts.into_iter().all(|(name, count)| {
                let instances = convergence["services"][format!("{name}-service")]["instances"].as_array();
                let newest = |instance: &&Value| instance["standing"] == "newest";
                instances.is_some_and(|instances| instances.iter().filter(newest).count() == count)
            });
            converged.then(|| convergence["version"].clone())
        })
        .await
    }
}

async fn get(port: u16, path: &str) -> Value {
    let asked = sosohappy_common::tls::client()
        .get(format!("http://127.0.0.1:{port}{path}"))
        .send()
        .await;
    asked.unwrap().error_for_status().unwrap().json().await.unwrap()
}
