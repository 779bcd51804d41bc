//! A revoked token is refused within two seconds while auth is available, also if auth is killed between its response and its relay.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_fleet::app::{Addresses, Phone};
use sosohappy_testkit::{Cluster, EngineSet};

/// The time limit for a revocation.
const OBJECTIVE: Duration = Duration::from_secs(2);

/// The number of kills: some of them hit the moment between the response and the relay.
const ROUNDS: usize = 4;

/// One fleet at a time: what is promised is measured, and each would wait for the other's processors.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resigned_account_is_refused_after_a_crash_on_the_embedded_engines() {
    let _alone = ALONE.lock().await;
    resign_and_kill(Cluster::embedded(binaries()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resigned_account_is_refused_after_a_crash_on_the_real_engines() {
    let _alone = ALONE.lock().await;
    if EngineSet::real_is_there() {
        resign_and_kill(Cluster::real(binaries()).await).await;
    }
}

/// Returns the folder of this workspace's binaries.
fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder")
}

/// Resigns, kills the process of auth at once, and measures when the token is refused after its restart.
async fn resign_and_kill(mut fleet: Cluster) {
    let ports = fleet.replicas[0];
    let addresses = Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice);
    let names = fleet.names();
    let victim = names.iter().find(|name| *name == "auth").unwrap_or(&names[0]).clone();
    let entropy: &dyn Entropy = &SystemEntropy;
    for round in 0..ROUNDS {
        let name = format!("kim{}", entropy.hex(3));
        let mut kim = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google").unwrap();
        kim.sign_in().await.unwrap();
        let picture = sosohappy_fleet::demo::picture(0);
        kim.set_profile(&name, "hello", &picture).await.unwrap();
        assert_eq!(kim.access_status().await.unwrap(), StatusCode::OK, "round {round}");

        kim.resign().await.unwrap();
        fleet.kill(&victim);
        fleet.restart(&victim).await;
        let restarted = Instant::now();
        while kim.access_status().await.unwrap() != StatusCode::FORBIDDEN {
            assert!(
                restarted.elapsed() < OBJECTIVE,
                "round {round}: the token is still valid"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!(
            "round {round}: refused {} ms after auth's restart",
            restarted.elapsed().as_millis()
        );
    }
}
