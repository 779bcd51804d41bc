//! A session that ends is refused on every replica within two seconds, and its sockets are closed; so is a revoked token if auth is killed
//! between its response and its relay; and no kill takes back a re-issue or a resignation that was acknowledged, whichever of their steps it
//! follows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_events::types::Role;
use sosohappy_fleet::app::{Addresses, Phone, Socket};
use sosohappy_testkit::{Cluster, EngineSet, PATIENCE, eventually};

/// The time limit for a revocation.
const OBJECTIVE: Duration = Duration::from_secs(2);

/// Sessions that end in each way and are out in time.
const IN_TIME: usize = 3;

/// The most sessions that end in each way until then: a busy machine stalls some of them.
const ENDED: usize = 12;

/// The close code of the socket of a session that has ended.
const ENDED_CODE: u16 = 1008;

/// The number of kills: some of them hit the moment between the response and the relay.
const ROUNDS: usize = 4;

/// The most kills until one is followed by a revocation in time: a busy machine stalls some of them.
const MOST_ROUNDS: usize = 12;

/// How much later than the first one the last kill is while phones renew and another one resigns, in milliseconds. Those between are spread
/// evenly; crash points hit each step by name.
const LAST_KILL: u64 = 49;

/// Phones that renew meanwhile.
const PHONES: usize = 4;

/// The steps of a re-issue, in their order: a process crashes after each of them, and once when the client has its answer.
const REISSUE_STEPS: &[&str] = &[
    "auth.reissue-verified",
    "auth.reissue-rotated",
    "auth.reissue-written",
    "auth.reissue-committed",
    "relay.published",
];

/// The steps of a resignation, in their order. The first ones are before its commit: a crash there leaves the account as it was.
const RESIGNATION_STEPS: &[&str] = &[
    "auth.resign-deleted",
    "auth.resign-written",
    "auth.resign-committed",
    "relay.published",
    "feed.posts-erased",
    "feed.content-erased",
    "feed.account-erased",
    "dm.content-erased",
    "dm.account-erased",
    "notice.account-erased",
    "auth.receipt-of-feed-service",
    "auth.receipt-of-dm-service",
    "auth.receipt-of-notice-service",
    "auth.proof-written",
    "auth.proof-committed",
];

/// Those before the commit.
const UNCOMMITTED: [&str; 2] = ["auth.resign-deleted", "auth.resign-written"];

/// Held for writing while the latency of a fleet is measured: others would compete for processors. Fleets that only crash hold it for reading.
static MEASURED: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// The kills of a fleet.
#[derive(Debug, Clone, Copy)]
struct Kills {
    /// While phones renew and another one resigns; two or more.
    at_any_time: u64,
    /// After steps of a re-issue.
    reissue: &'static [&'static str],
    /// After steps of a resignation.
    resignation: &'static [&'static str],
}

/// After every step.
const EVERY: Kills = Kills {
    at_any_time: 5,
    reissue: REISSUE_STEPS,
    resignation: RESIGNATION_STEPS,
};

/// For the real engines, after the steps at which they do what the embedded ones do otherwise: transactions of `MySQL` that are rolled back or
/// committed, records of Kafka, writes to `MongoDB`. The statements of auth and feed, and what follows from receipts, are the same on both.
/// `SOSOHAPPY_TEST_EVERY_KILL` asks for [`EVERY`].
const OF_THE_ENGINES: Kills = Kills {
    at_any_time: 3,
    reissue: &["auth.reissue-written", "auth.reissue-committed", "relay.published"],
    resignation: &[
        "auth.resign-written",
        "auth.resign-committed",
        "relay.published",
        "feed.account-erased",
        "dm.content-erased",
        "dm.account-erased",
        "notice.account-erased",
        "auth.receipt-of-notice-service",
        "auth.proof-committed",
    ],
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resigned_and_suspended_accounts_are_refused_after_a_crash_on_the_embedded_engines() {
    revoke(EngineSet::Embedded, EVERY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resigned_and_suspended_accounts_are_refused_after_a_crash_on_the_real_engines() {
    if EngineSet::real_is_there() {
        let asks_for_every = std::env::var_os("SOSOHAPPY_TEST_EVERY_KILL").is_some();
        revoke(EngineSet::Real, if asks_for_every { EVERY } else { OF_THE_ENGINES }).await;
    }
}

async fn revoke(set: EngineSet, kills: Kills) {
    let alone = MEASURED.write().await;
    let mut fleet = Cluster::of(set, binaries()).await;
    let replicas = fleet.replicas;
    let replicas = replicas.map(|ports| Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice));
    let mut admin = phone(&replicas[0], "boss").await;
    let account = admin.account().unwrap().parse().unwrap();
    sosohappy_fleet::grant_role::run(&replicas[0].auth, &fleet.operator_token, &account, Role::Admin)
        .await
        .unwrap();
    admin.sign_in().await.unwrap();
    end_sessions(&replicas, &admin).await;
    let names = fleet.names();
    let victim = names.iter().find(|name| *name == "auth").unwrap_or(&names[0]).clone();
    revoke_and_kill(&mut fleet, &replicas[0], &admin, &victim).await;
    drop(alone);

    let _beside_others = MEASURED.read().await;
    kill_while_people_renew_and_resign(&mut fleet, &replicas[0], &victim, kills.at_any_time).await;
    crash_between_the_steps_of_a_reissue(&mut fleet, &replicas[0], &victim, kills.reissue).await;
    crash_between_the_steps_of_a_resignation(&mut fleet, &replicas[0], kills.resignation).await;
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

/// Sends a call of an account, and returns the answer.
async fn call(who: &Phone, request: reqwest::RequestBuilder) -> Value {
    let tokens = who.tokens.as_ref().unwrap();
    let request = request
        .header("Authorization", &tokens.access)
        .header("email", &tokens.account);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

/// How a session ends while its access token lives.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// A superseded refresh token is shown.
    TokenReused,
    /// Another session of the account closes it.
    Closed,
    Suspended,
}

async fn end_sessions(replicas: &[Addresses; 2], admin: &Phone) {
    for ending in [Ending::TokenReused, Ending::Closed, Ending::Suspended] {
        let (mut took, mut in_time) = (Vec::new(), 0);
        while in_time < IN_TIME {
            assert!(took.len() < ENDED, "{ending:?}: {took:?}");
            let time = end_session(replicas, admin, ending).await;
            in_time += usize::from(time < OBJECTIVE);
            took.push(time);
        }
        println!("{ending:?}: out everywhere after {took:?}");
    }
}

/// Returns the time from the end of a session until both replicas refuse its access token and have closed its sockets.
async fn end_session(replicas: &[Addresses; 2], admin: &Phone, ending: Ending) -> Duration {
    let mut kim = sign_up(&replicas[0]).await;
    let mut thief = kim.clone();
    // The first refresh token is superseded, and its successor is used.
    for _ in 0..2 {
        assert_eq!(kim.re_issue().await.unwrap(), StatusCode::OK);
    }
    let mut sockets = Vec::new();
    for replica in replicas {
        let mut phone = Phone::new(replica.clone(), "kim@example.com", "kakao").unwrap();
        phone.tokens.clone_from(&kim.tokens);
        phone.nickname.clone_from(&kim.nickname);
        sockets.push(opened(async || phone.connect_dm().await).await);
        sockets.push(opened(async || phone.connect_notice().await).await);
    }
    expect_statuses(replicas, &kim, StatusCode::OK).await;

    let client = sosohappy_common::tls::client();
    let auth = format!("{}/auth-service", replicas[0].auth);
    match ending {
        Ending::TokenReused => assert_eq!(thief.re_issue().await.unwrap(), StatusCode::FORBIDDEN),
        Ending::Closed => {
            let sessions = call(&kim, client.get(format!("{auth}/sessions"))).await;
            let sessions = sessions["sessions"].as_array().unwrap();
            let own = sessions.iter().find(|session| session["current"] == true).unwrap();
            let mut tablet = kim.clone();
            tablet.sign_in().await.unwrap();
            let close = client.post(format!("{auth}/closeSession"));
            let closed = call(&tablet, close.form(&[("id", own["id"].as_str().unwrap())])).await;
            assert_eq!(closed["success"], true);
        }
        Ending::Suspended => {
            let suspend = client.post(format!("{auth}/admin/suspend"));
            let fields = [("nickname", kim.nickname.as_str()), ("reason", "spam")];
            call(admin, suspend.form(&fields)).await;
        }
    }
    let ended = Instant::now();
    let closed = join_all(sockets.iter_mut().map(async |socket| socket.closed().await.unwrap()));
    let (codes, ()) = tokio::join!(closed, expect_statuses(replicas, &kim, StatusCode::FORBIDDEN));
    let took = ended.elapsed();
    assert_eq!(codes, [ENDED_CODE; 4]);
    took
}

/// Returns a socket that stays open: a replica closes one under a nickname that it does not know yet.
async fn opened(connect: impl AsyncFn() -> anyhow::Result<Socket>) -> Socket {
    eventually("the socket is open", async || {
        let mut socket = connect().await.ok()?;
        let is_silent = socket.silent_for(Duration::from_millis(50)).await;
        is_silent.unwrap_or(false).then_some(socket)
    })
    .await
}

/// Waits until feed, dm and notice of every replica answer an access token with that status.
async fn expect_statuses(replicas: &[Addresses; 2], who: &Phone, expected: StatusCode) {
    let client = sosohappy_common::tls::client();
    let tokens = who.tokens.as_ref().unwrap();
    for replica in replicas {
        for url in [
            format!("{}/feed-service/findOtherFeed?nickname={}", replica.feed, who.nickname),
            format!("{}/dm-service/unreadCount", replica.dm),
            format!("{}/notice-service/preferences", replica.notice),
        ] {
            eventually(&format!("{url} answers {expected}"), async || {
                let request = client.get(&url).header("Authorization", &tokens.access);
                let response = request.header("email", &tokens.account).send().await.unwrap();
                (response.status() == expected).then_some(())
            })
            .await;
        }
    }
}

/// One account resigns and another is suspended; kills the process of auth at once, and measures when both tokens are refused after its restart.
/// The audit has the entry of the suspension.
async fn revoke_and_kill(fleet: &mut Cluster, addresses: &Addresses, admin: &Phone, victim: &str) {
    let entropy: &dyn Entropy = &SystemEntropy;
    let mut took = Vec::<Duration>::new();
    let client = sosohappy_common::tls::client();
    while took.len() < ROUNDS || took.iter().min().is_none_or(|best| *best >= OBJECTIVE) {
        let round = took.len();
        assert!(round < MOST_ROUNDS, "{took:?}");
        let name = format!("kim{}", entropy.hex(3));
        let kim = phone(addresses, &name).await;
        let lee = phone(addresses, &format!("{name}2")).await;

        kim.resign().await.unwrap();
        let suspend = client.post(format!("{}/auth-service/admin/suspend", addresses.auth));
        call(
            admin,
            suspend.form(&[("nickname", lee.nickname.as_str()), ("reason", "spam")]),
        )
        .await;
        fleet.kill(victim);
        fleet.restart(victim).await;
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
        let audit = call(
            admin,
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
async fn kill_while_people_renew_and_resign(fleet: &mut Cluster, addresses: &Addresses, victim: &str, kills: u64) {
    let mut phones = Vec::new();
    while phones.len() < PHONES {
        phones.push(sign_up(addresses).await);
    }
    for round in 0..kills {
        let later = LAST_KILL * round / (kills - 1);
        let mut leaving = sign_up(addresses).await;
        let restarted = AtomicBool::new(false);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(20 + later)).await;
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
            tokio::time::sleep(Duration::from_millis(15 + later * 5 / 7)).await;
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

/// Neither the app nor its notification extension, which begins with the same refresh token, is signed out, and the session stays open.
async fn crash_between_the_steps_of_a_reissue(
    fleet: &mut Cluster,
    addresses: &Addresses,
    victim: &str,
    steps: &[&str],
) {
    let refresh = |phone: &Phone| phone.tokens.as_ref().unwrap().refresh.clone();
    let mut app = sign_up(addresses).await;
    for step in steps.iter().copied().map(Some).chain([None]) {
        let mut extension = app.clone();
        let answered = if let Some(step) = step {
            fleet.crash_at(step);
            let answered = app.re_issue().await;
            let crashed = fleet.crashed().await;
            fleet.restart(&crashed).await;
            answered
        } else {
            let answered = app.re_issue().await;
            fleet.kill(victim);
            fleet.restart(victim).await;
            answered
        };
        let step = step.unwrap_or("answered");
        if let Ok(status) = &answered {
            assert_eq!(*status, StatusCode::OK, "{step}: signed out");
        }
        let held = app.access_status().await.unwrap();
        assert_eq!(held, StatusCode::OK, "{step}: an access token is refused");

        assert_eq!(
            extension.re_issue().await.unwrap(),
            StatusCode::OK,
            "{step}: signed out"
        );
        if answered.is_err() {
            assert_eq!(app.re_issue().await.unwrap(), StatusCode::OK, "{step}: signed out");
        }
        assert_eq!(
            refresh(&app),
            refresh(&extension),
            "{step}: two successors of one token"
        );
        for phone in [&app, &extension] {
            let fresh = phone.access_status().await.unwrap();
            assert_eq!(fresh, StatusCode::OK, "{step}: a new access token is refused");
        }
        let sessions = sosohappy_common::tls::client().get(format!("{}/auth-service/sessions", addresses.auth));
        let sessions = call(&app, sessions).await;
        assert_eq!(
            sessions["sessions"].as_array().map(Vec::len),
            Some(1),
            "{step}: {sessions}"
        );
    }
}

/// A resignation happens as a whole, with its proof, or not at all. The test of the erasure searches the files for what is left.
async fn crash_between_the_steps_of_a_resignation(fleet: &mut Cluster, addresses: &Addresses, steps: &[&str]) {
    for step in steps {
        let mut leaving = sign_up(addresses).await;
        fleet.crash_at(step);
        let answered = leaving.resign().await;
        let crashed = fleet.crashed().await;
        fleet.restart(&crashed).await;
        // Also where the relay has published, and crashed, before the resignation arrived.
        let is_signed_in = answered.is_err() && leaving.re_issue().await.unwrap() == StatusCode::OK;
        assert!(
            is_signed_in || !UNCOMMITTED.contains(step),
            "{step}: signed out before the commit"
        );
        if is_signed_in {
            leaving.resign().await.unwrap();
        }
        eventually(&format!("{step}: the resignation is complete"), async || {
            (pending_resignations(fleet, addresses).await == 0).then_some(())
        })
        .await;
        let status = leaving.re_issue().await.unwrap();
        assert_eq!(status, StatusCode::FORBIDDEN, "{step}: still there");
        let nickname = leaving.sign_in().await.unwrap();
        assert_eq!(nickname, "", "{step}: the profile is still there");
    }
}

/// Returns the number of resignations without a proof.
async fn pending_resignations(fleet: &Cluster, addresses: &Addresses) -> u64 {
    let url = format!("{}/auth-service/pendingResignations", addresses.auth);
    let request = sosohappy_common::tls::client()
        .get(url)
        .bearer_auth(&fleet.operator_token);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    answer["count"].as_u64().unwrap()
}
