//! The move of auth, forward and back, as docs/migration.md has it, while people change their profiles, re-issue and sign up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use sosohappy_fleet::app::{Addresses, Phone, Tokens};
use sosohappy_testkit::spring::SpringAuth;
use sosohappy_testkit::{Bed, EngineSet, Running};
use tokio::task::JoinSet;

use super::legacy::{Legacy, PNG, SECRET, Target, count};
use super::moving::{Gateway, PAUSE};

const PEOPLE: usize = 4;

/// Requests that are acknowledged before and after each step: several of each person, and with them newcomers and re-issued tokens.
const ACKNOWLEDGED: usize = 40;

fn phone(auth: &str, name: &str, tokens: Option<&Tokens>) -> Phone {
    let mut phone = Phone::new(Addresses::behind(auth), &format!("{name}@example.com"), "kakao").expect("a phone");
    phone.tokens = tokens.cloned();
    phone
}

/// A person's state between requests.
struct Member {
    name: String,
    tokens: Option<Tokens>,
    /// Sign-ins that were necessary although the person was signed in.
    signed_in_again: Arc<AtomicUsize>,
}

impl Member {
    /// Sets the introduction, as the app does: with a token that was re-issued when the old one is refused.
    async fn introduce(&mut self, auth: &str, number: i64) -> anyhow::Result<()> {
        let mut phone = phone(auth, &self.name, self.tokens.as_ref());
        let introduction = number.to_string();
        if phone.tokens.is_none() {
            phone.sign_in().await?;
        } else if number % 3 == 0 || phone.set_profile(&self.name, &introduction, PNG).await.is_err() {
            match phone.re_issue().await? {
                StatusCode::OK => {}
                StatusCode::FORBIDDEN => {
                    phone.sign_in().await?;
                    self.signed_in_again.fetch_add(1, Ordering::SeqCst);
                }
                status => anyhow::bail!("reIssueToken: {status}"),
            }
        }
        self.tokens.clone_from(&phone.tokens);
        phone.set_profile(&self.name, &introduction, PNG).await
    }
}

async fn sign_up(auth: &str, name: &str) -> anyhow::Result<()> {
    let mut phone = phone(auth, name, None);
    phone.sign_in().await?;
    phone.set_profile(name, "0", PNG).await
}

async fn live(gateway: Arc<Gateway>, number: usize, signed_in_again: Arc<AtomicUsize>) {
    let mut member = Member {
        name: format!("person{number}"),
        tokens: None,
        signed_in_again,
    };
    for step in 1.. {
        let newcomer = (step % 4 == 0).then(|| format!("new{number}x{step}"));
        loop {
            let Some(attempt) = gateway.attempt() else { return };
            let mut acknowledged = None;
            if let Some(auth) = &attempt.service
                && member.introduce(auth, step).await.is_ok()
            {
                acknowledged = Some((member.name.clone(), step, String::new()));
            }
            if attempt.end(acknowledged).await {
                break;
            }
        }
        while let Some(name) = &newcomer {
            let Some(attempt) = gateway.attempt() else { return };
            let mut acknowledged = None;
            if let Some(auth) = &attempt.service
                && sign_up(auth, name).await.is_ok()
            {
                acknowledged = Some((name.clone(), 0, String::new()));
            }
            if attempt.end(acknowledged).await {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Nicknames whose introduction is older than the last that was acknowledged.
async fn lost(auth: &str, gateway: &Gateway) -> Vec<(String, i64, String)> {
    let mut newest = BTreeMap::new();
    for (name, number, _) in gateway.acknowledged.lock().iter() {
        newest.insert(name.clone(), *number);
    }
    let mut reader = phone(auth, "reader", None);
    reader.sign_in().await.expect("the reader is signed in");
    let mut lost = Vec::new();
    for (name, number) in newest {
        let shown = reader.introduction_of(&name).await.expect("auth answers");
        if shown.parse().unwrap_or(-1) < number {
            lost.push((name, number, shown));
        }
    }
    lost
}

async fn ours(bed: &Bed) -> Running {
    let more = [("fleet.spring", "feed,dm,notice"), ("tokens.legacy-key", SECRET)];
    let settings = bed.settings("auth", sosohappy_auth::DEFAULTS, &more).await;
    let built = sosohappy_auth::build(settings, bed.context(sosohappy_auth::SERVICE), bed.bus.clone()).await;
    bed.start(built).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_moves_forward_and_back_under_load() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let (legacy, target) = (Legacy::new().await, Target::of(&bed).await);
    let database = legacy.url("auth");
    let arguments = ["--auth", database.as_str()];
    let gateway = Arc::new(Gateway::default());
    let signed_in_again = Arc::<AtomicUsize>::default();
    let mut writers = JoinSet::new();
    for number in 0..PEOPLE {
        writers.spawn(live(gateway.clone(), number, signed_in_again.clone()));
    }

    let spring = SpringAuth::start_with_secret(&bed.bus, &database, SECRET).await;
    gateway.leads_to(Some(spring.url()));
    gateway.more(ACKNOWLEDGED).await;
    let bulk = tokio::task::block_in_place(|| target.import(&arguments));
    assert!(count(&bulk, "user", "created") > 0, "{bulk}");
    gateway.more(ACKNOWLEDGED).await;

    gateway.leads_to(None);
    gateway.quiet().await;
    drop(spring);
    let rest = tokio::task::block_in_place(|| target.import(&arguments));
    assert!(count(&rest, "user", "updated") > 0, "{rest}");
    let auth = ours(&bed).await;
    assert_eq!(lost(&auth.url, &gateway).await, [], "forward");
    gateway.leads_to(Some(&auth.url));
    gateway.more(ACKNOWLEDGED).await;
    assert_eq!(signed_in_again.load(Ordering::SeqCst), 0, "everybody stays signed in");

    gateway.leads_to(None);
    gateway.quiet().await;
    auth.stop().await;
    let back = tokio::task::block_in_place(|| target.export(&arguments));
    assert!(
        count(&back, "user", "updated") > 0 && count(&back, "user", "created") > 0,
        "{back}"
    );
    let spring = SpringAuth::start_with_secret(&bed.bus, &database, SECRET).await;
    assert_eq!(lost(spring.url(), &gateway).await, [], "back");
    gateway.leads_to(Some(spring.url()));
    gateway.more(ACKNOWLEDGED).await;
    gateway.end(writers).await;
    assert_eq!(lost(spring.url(), &gateway).await, [], "after the move back");
    let doubled = legacy
        .text(
            "SELECT CAST(COUNT(*) AS CHAR) FROM (SELECT email FROM `user` GROUP BY email HAVING COUNT(*) > 1) AS doubled",
            true,
        )
        .await;
    assert_eq!(doubled, "0", "no account is there twice");
    println!(
        "{} profiles were acknowledged by Spring, ours and Spring again",
        gateway.acknowledged.lock().len()
    );
}
