//! A broker that is killed and comes back, several times, under processes that have idle and busy clients: none may die of it. About one
//! process in forty did before consumers were paused meanwhile.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use sosohappy_bus::{BusError, Start};
use sosohappy_events::Topic;
use sosohappy_testkit::Broker;

use crate::support::{Bench, record};

/// How often the broker is killed; more where this is set.
const RESTARTS: &str = "SOSOHAPPY_TEST_BROKER_RESTARTS";
const DEFAULT_RESTARTS: u32 = 2;

const PROCESSES: usize = 4;

/// Clients have reacted to the return of the broker after this time.
const SETTLING: Duration = Duration::from_secs(4);

/// A process that is ended with the test.
struct Process(Child);

impl Process {
    fn start(url: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restarts::child_with_clients", "--ignored", "--nocapture"])
            .env("CHILD_URL", url)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As services do while the broker is unavailable.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, BusError>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(BusError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Clients as a service has them: readers, members of groups, a relay that publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "only as a child process"]
async fn child_with_clients() {
    let bench = Bench::new(std::env::var("CHILD_URL").unwrap(), String::new());
    let bus = bench.open().await;
    patiently(async || bus.create_topics(&Topic::ALL).await).await;
    let idle = [
        Topic::AccessToken,
        Topic::Expired,
        Topic::Resign,
        Topic::AccountState,
        Topic::ConfigBus,
    ];
    for topic in idle.into_iter().chain([Topic::Notice]) {
        let mut reader = patiently(async || bus.read(&[topic], Start::Latest).await).await;
        tokio::spawn(async move { while reader.next().await.is_ok() {} });
    }
    for topic in [Topic::Resign, Topic::Relation, Topic::Notice] {
        let mut member = patiently(async || bus.join("test-service.consumers", &[topic]).await).await;
        tokio::spawn(async move {
            while let Ok(record) = member.next().await {
                let _ = member.done(&record).await;
            }
        });
    }
    for number in 0_u64.. {
        let _ = bus.publish(&[record(Topic::Notice, "key", &number.to_string())]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_broker_restart_crashes_no_process() {
    // Where a broker is given, nothing may be known of how it is started.
    let has_engines = std::env::var_os("SOSOHAPPY_TEST_KAFKA").is_some();
    if !has_engines {
        println!("skipped: SOSOHAPPY_TEST_KAFKA is not set");
        return;
    }
    let restarts = std::env::var(RESTARTS).map_or(DEFAULT_RESTARTS, |text| text.parse().unwrap());
    let broker = Broker::start();
    let url = broker.url();
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| Process::start(&url)).collect();
    std::thread::sleep(SETTLING);
    let mut died = Vec::new();
    for restart in 1..=restarts {
        let began = Instant::now();
        broker.kill();
        broker.restart();
        std::thread::sleep(SETTLING);
        for process in &mut processes {
            if let Some(status) = process.0.try_wait().unwrap() {
                died.push((restart, status));
                *process = Process::start(&url);
            }
        }
        println!("restart {restart}: {:?}, {} died so far", began.elapsed(), died.len());
    }
    assert!(
        died.is_empty(),
        "{} of {} processes died: {died:?}",
        died.len(),
        PROCESSES * usize::try_from(restarts).unwrap()
    );
    drop(processes);
}
