use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use sosohappy_access::Denied;
use sosohappy_common::clock::ManualClock;
use sosohappy_events::EventId;
use sosohappy_events::types::{Relation, SessionId, State};
use sosohappy_testkit::statements::Cost;
use sosohappy_testkit::{Bed, Commands, EngineSet, PATIENCE, eventually, on_both_engines};

use super::*;
use crate::banners::Banners;
use crate::domain::{Content, Kind, Mute, Notice, Platform, Registration, WaitingPush};
use crate::store::{self, Decision, DeviceChange, STORED_AT_ONCE};
use crate::{DEFAULTS, Settings};

#[derive(Debug, Default)]
struct Fake {
    answers: Mutex<HashMap<String, fn() -> PushError>>,
    sent: Mutex<Vec<(String, EventId, PushText)>>,
    /// Messages that show no banner.
    silent: Mutex<Vec<(String, PushMessage)>>,
}

#[async_trait]
impl Gateway for Fake {
    async fn push(&self, device: &str, event: EventId, message: &PushMessage) -> Result<(), PushError> {
        if let Some(error) = self.answers.lock().get(device) {
            return Err(error());
        }
        match message {
            PushMessage::Alert(text) => self.sent.lock().push((device.to_owned(), event, text.clone())),
            silent => self.silent.lock().push((device.to_owned(), silent.clone())),
        }
        Ok(())
    }
}

/// The nickname of an account is the part before the `@`; that of `away` is unknown.
#[derive(Debug)]
struct ByAddress;

#[async_trait]
impl Names for ByAddress {
    async fn account_of(&self, _nickname: &str) -> Result<Option<Account>, Denied> {
        Ok(None)
    }

    async fn account_of_fresh(&self, _nickname: &str) -> Result<Option<Account>, Denied> {
        Ok(None)
    }

    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, Denied> {
        let name = |account: &Account| {
            account
                .as_str()
                .split('@')
                .next()
                .filter(|name| *name != "away")
                .map(str::to_owned)
        };
        Ok(accounts.iter().map(name).collect())
    }
}

struct Bench {
    worker: Worker,
    gateway: Arc<Fake>,
    clock: Arc<ManualClock>,
    /// On `MongoDB`.
    commands: Commands,
    _bed: Bed,
}

async fn bench() -> Bench {
    bench_on(Bed::new(EngineSet::Embedded).await).await
}

async fn bench_on(bed: Bed) -> Bench {
    let settings = bed.settings::<Settings>("notice", DEFAULTS, &[]).await;
    let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
    let mut context = bed.context("notice-service");
    context.clock = clock.clone();
    let commands = Commands::default();
    let opened = store::open_observed(&settings.get().inbox, &context, &commands)
        .await
        .unwrap();
    let gateway = Arc::new(Fake::default());
    let worker = Worker {
        settings,
        metrics: NoticeMetrics::new(&context.metrics),
        context,
        store: opened.store,
        directory: opened.directory,
        names: Arc::new(ByAddress),
        revocations: Revocations::default(),
        gateway: gateway.clone(),
        woken: WakeHandle::default(),
    };
    Bench {
        worker,
        gateway,
        clock,
        commands,
        _bed: bed,
    }
}

fn account(name: &str) -> Account {
    format!("{name}@example.com+kakao").parse().unwrap()
}

impl Bench {
    async fn device(&self, who: &str, session: u64, token: &str) {
        let (session, at) = (Some(SessionId(session)), self.worker.context.clock.now());
        let change = DeviceChange {
            account: account(who),
            session,
            token: Some(token.to_owned()),
            at,
        };
        self.worker.store.change(&change).await.unwrap();
    }

    async fn tokens(&self, who: &str) -> Vec<String> {
        let devices = self.worker.store.of(&account(who)).await.unwrap();
        devices.into_iter().map(|device| device.token).collect()
    }

    fn push(&self, target: Target, actor: Option<&str>, content: PushContent) -> WaitingPush {
        let now = self.worker.context.clock.now();
        WaitingPush {
            event: EventId::new(&self.worker.context),
            target,
            actor: actor.map(account),
            content,
            occurred_at: now,
            authorized_at: None,
            queued_at: now,
            attempts: 0,
            sent: Vec::new(),
            cause: None,
        }
    }

    async fn queue(&self, target: Target, actor: Option<&str>, content: PushContent) -> EventId {
        let push = self.push(target, actor, content);
        self.worker.store.queue(&push, push.queued_at).await.unwrap();
        push.event
    }

    async fn like(&self, liker: &str, author: &str) -> EventId {
        let content = PushContent::Like {
            date: 2_023_090_513_248_392,
        };
        self.queue(Target::Account(account(author)), Some(liker), content).await
    }

    /// Queues the push of a like that the inbox has.
    async fn stored_like(&self, liker: &str, author: &str) -> EventId {
        let event = EventId::new(&self.worker.context);
        self.store_like(event, liker, author).await;
        event
    }

    async fn store_like(&self, event: EventId, liker: &str, author: &str) {
        let now = self.worker.context.clock.now();
        let notice = Notice {
            event,
            receiver: account(author),
            occurred_at: now,
            authorized_at: None,
            content: Content::Like {
                liker: account(liker),
                known_as: liker.to_owned(),
                date: 2_023_090_513_248_392,
            },
        };
        self.worker.store.add(&notice, now).await.unwrap();
        let content = PushContent::Like {
            date: 2_023_090_513_248_392,
        };
        let push = WaitingPush {
            event,
            ..self.push(Target::Account(account(author)), Some(liker), content)
        };
        self.worker.store.queue(&push, now).await.unwrap();
    }

    async fn after(&self, time: Duration) -> usize {
        self.clock.advance(time);
        self.worker.round().await.unwrap()
    }

    /// The account reads all of its notices. Returns when.
    async fn read_all(&self, account: &Account) -> Timestamp {
        let now = self.worker.context.clock.now();
        let by = Decision {
            account,
            authorized_at: now,
            at: now,
        };
        self.worker.store.read(&by, i64::MAX).await.unwrap();
        now
    }

    fn sent(&self) -> Vec<(String, EventId, PushText)> {
        std::mem::take(&mut self.gateway.sent.lock())
    }

    fn counted(&self, outcome: &str) -> bool {
        let counted = format!(r#"outcome="{outcome}""#);
        self.worker
            .context
            .metrics
            .render()
            .lines()
            .any(|line| line.starts_with("notice_pushes_total") && line.contains(&counted))
    }
}

const SOON: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_like_goes_to_every_device_in_the_names_of_now() {
    let bench = bench().await;
    bench.device("kim", 1, "phone").await;
    bench.device("kim", 2, "pad").await;
    let event = bench.like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);

    let mut sent = bench.sent();
    sent.sort_by(|one, other| one.0.cmp(&other.0));
    let wording = Wording::Like {
        liker: "lee".to_owned(),
        others: 0,
        author: "kim".to_owned(),
        date: 2_023_090_513_248_392,
    };
    let text = PushText {
        badge: Some(0),
        ..wording.text(Language::Ko)
    };
    assert_eq!(
        sent,
        [
            ("pad".to_owned(), event, text.clone()),
            ("phone".to_owned(), event, text)
        ]
    );
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0, "and never again");
    assert!(bench.counted("sent"));
}

/// The badge counts the unread notices of accounts that are in no block with the receiver.
#[tokio::test]
async fn each_device_gets_its_language_and_the_badge() {
    let bench = bench().await;
    let now = bench.worker.context.clock.now();
    for (session, token, language) in [(1, "phone", Language::Ko), (2, "pad", Language::En)] {
        let registration = Registration {
            account: account("kim"),
            session: SessionId(session),
            token: token.to_owned(),
            language,
            platform: Platform::Ios,
            authorized_at: now,
            at: now,
        };
        assert!(bench.worker.store.register(&registration).await.unwrap());
    }
    for liker in ["lee", "park", "choi"] {
        let notice = Notice {
            event: EventId::new(&bench.worker.context),
            receiver: account("kim"),
            occurred_at: now,
            authorized_at: None,
            content: Content::Like {
                liker: account(liker),
                known_as: liker.to_owned(),
                date: 2_023_090_513_248_392,
            },
        };
        bench.worker.store.add(&notice, now).await.unwrap();
    }
    let directory = &bench.worker.directory;
    directory
        .set_relation(Relation::Block, &account("kim"), &account("choi"), now)
        .await
        .unwrap();
    bench.like("lee", "kim").await;
    bench.after(SOON).await;
    let mut sent = bench.sent();
    sent.sort_by(|one, other| one.0.cmp(&other.0));
    let shown: Vec<_> = sent
        .iter()
        .map(|(device, _, text)| (device.as_str(), text.title.as_str(), text.badge))
        .collect();
    assert_eq!(shown, [("pad", "SoSoHappy", Some(2)), ("phone", "소소해피", Some(2))]);
}

#[tokio::test]
async fn a_message_is_signed_with_the_senders_present_name() {
    let bench = bench().await;
    let frame = r#"{"sender":"before","receiver":"kim","date":2023090513248392,"text":"안녕"}"#;
    let message = || PushContent::Message {
        frame: frame.to_owned(),
    };
    bench.queue(Target::Token("fcm".into()), None, message()).await;
    bench.after(SOON).await;
    let text = |sender: &str| {
        let wording = Wording::Message {
            sender: sender.to_owned(),
            text: "안녕".to_owned(),
            frame: frame.to_owned(),
        };
        wording.text(Language::Ko)
    };
    assert_eq!(bench.sent()[0].2, text("before"), "a Spring dm names no account");

    bench.queue(Target::Token("fcm".into()), Some("now"), message()).await;
    bench.after(SOON).await;
    assert_eq!(bench.sent()[0].2, text("now"));
}

#[tokio::test]
async fn without_a_device_there_is_nothing_to_do() {
    let bench = bench().await;
    bench.like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    bench.device("kim", 1, "phone").await;
    assert_eq!(bench.after(Duration::from_mins(2)).await, 0);
    assert!(bench.counted("no-device"));
}

#[tokio::test]
async fn a_gateway_that_is_unavailable_is_retried_and_given_up_in_the_end() {
    let bench = bench().await;
    bench.device("kim", 1, "phone").await;
    bench
        .gateway
        .answers
        .lock()
        .insert("phone".into(), || PushError::unavailable(anyhow::anyhow!("down")));
    bench.like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.after(Duration::from_secs(1)).await, 0, "not at once");
    assert_eq!(bench.after(Duration::from_secs(2)).await, 1);

    bench.gateway.answers.lock().clear();
    assert_eq!(bench.after(Duration::from_secs(10)).await, 1);
    assert_eq!(bench.sent().len(), 1);

    bench
        .gateway
        .answers
        .lock()
        .insert("phone".into(), || PushError::unavailable(anyhow::anyhow!("down")));
    bench.like("lee", "kim").await;
    assert_eq!(bench.after(Duration::from_hours(25)).await, 1);
    bench.gateway.answers.lock().clear();
    assert_eq!(bench.after(Duration::from_hours(25)).await, 0);
    assert!(bench.counted("given-up"));
}

#[tokio::test]
async fn a_push_that_panics_is_retried_and_given_up_in_the_end() {
    let bench = bench().await;
    bench.device("kim", 1, "phone").await;
    let panics: fn() -> PushError = || panic!("index 3 out of range");
    bench.gateway.answers.lock().insert("phone".into(), panics);
    bench.like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.after(Duration::from_secs(1)).await, 0, "not at once");
    assert_eq!(bench.after(Duration::from_secs(2)).await, 1);
    assert_eq!(bench.after(Duration::from_hours(25)).await, 1);
    assert!(bench.counted("given-up"));
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
}

#[tokio::test]
async fn a_device_that_is_gone_is_forgotten_and_the_others_are_served() {
    let bench = bench().await;
    bench.device("kim", 1, "gone").await;
    bench.device("kim", 2, "picky").await;
    bench.device("kim", 3, "phone").await;
    bench
        .gateway
        .answers
        .lock()
        .insert("gone".into(), || PushError::Gone { since: None });
    bench
        .gateway
        .answers
        .lock()
        .insert("picky".into(), || PushError::Refused("too long".into()));
    bench.like("lee", "kim").await;
    bench.after(SOON).await;
    assert_eq!(bench.sent().len(), 1);
    let mut left = bench.tokens("kim").await;
    left.sort();
    assert_eq!(left, ["phone", "picky"]);
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
}

#[tokio::test]
async fn a_push_waits_while_its_names_are_unknown() {
    let bench = bench().await;
    bench.device("kim", 1, "phone").await;
    bench.like("away", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.sent(), []);
    assert!(bench.counted("postponed"));
    assert_eq!(bench.after(Duration::from_secs(3)).await, 1);
}

/// The replica is killed after the take, with one of the pushes sent and recorded.
async fn pushes_whose_replica_died_go_from_another(bed: Bed) {
    let bench = bench_on(bed).await;
    let mut events = Vec::new();
    for name in ["kim", "park", "choi"] {
        bench.device(name, 1, name).await;
        events.push(bench.like("lee", name).await);
    }
    assert_eq!(bench.worker.take(BATCH).await.unwrap().len(), 3);
    let store = &bench.worker.store;
    store.sent(&events[..1], "kim").await.unwrap();
    assert_eq!(bench.after(SOON).await, 0);
    assert_eq!(bench.after(TAKEN_FOR).await, 3);
    let mut devices: Vec<String> = bench.sent().into_iter().map(|(device, ..)| device).collect();
    devices.sort();
    assert_eq!(devices, ["choi", "park"]);
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
}

/// Each push is sent by one of two replicas that look for due pushes at the same time.
async fn two_replicas_send_each_push_once(bed: Bed) {
    let bench = bench_on(bed).await;
    let this = &bench.worker;
    let inbox = this.settings.get().inbox.clone();
    // With metrics of its own.
    let context = Context {
        clock: this.context.clock.clone(),
        ..Context::system("notice-service", 0)
    };
    let other = Worker {
        settings: this.settings.clone(),
        store: store::open(&inbox, &context).await.unwrap().store,
        context,
        directory: this.directory.clone(),
        names: this.names.clone(),
        revocations: this.revocations.clone(),
        gateway: this.gateway.clone(),
        metrics: this.metrics.clone(),
        woken: WakeHandle::default(),
    };
    let mut expected = Vec::new();
    for number in 0..12 {
        let author = format!("author{number}");
        bench.device(&author, 1, &author).await;
        expected.push((author.clone(), bench.like("lee", &author).await));
    }
    bench.clock.advance(SOON);
    let (one, two) = tokio::join!(this.round(), other.round());
    assert_eq!(one.unwrap() + two.unwrap(), expected.len());
    let mut sent: Vec<(String, EventId)> = bench.sent().into_iter().map(|(to, event, _)| (to, event)).collect();
    sent.sort();
    expected.sort();
    assert_eq!(sent, expected);
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
}

#[tokio::test]
async fn a_running_worker_sends_more_than_a_batch() {
    let bench = bench().await;
    let mut expected = Vec::new();
    for number in 0..=3 * BATCH {
        let author = format!("author{number}");
        bench.device(&author, 1, &author).await;
        expected.push(bench.like("lee", &author).await);
    }
    bench.clock.advance(SOON);
    let Bench {
        worker, gateway, _bed, ..
    } = bench;
    let lifecycle = worker.context.lifecycle.clone();
    worker.spawn();
    eventually("all pushes are sent", async || {
        (gateway.sent.lock().len() >= expected.len()).then_some(())
    })
    .await;
    assert!(lifecycle.shutdown(PATIENCE).await.is_empty());
    let mut sent: Vec<EventId> = gateway.sent.lock().iter().map(|(_, event, _)| *event).collect();
    sent.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_device_that_got_it_is_left_out_of_later_tries() {
    let bench = bench().await;
    bench.device("kim", 1, "phone").await;
    bench.device("kim", 2, "pad").await;
    let busy = || PushError::Unavailable {
        retry_after: Some(Duration::from_mins(2)),
        source: anyhow::anyhow!("429"),
    };
    bench.gateway.answers.lock().insert("pad".into(), busy);
    bench.like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.sent().len(), 1);
    bench.gateway.answers.lock().clear();
    assert_eq!(bench.after(Duration::from_secs(119)).await, 0, "not before Retry-After");
    assert_eq!(bench.after(Duration::from_secs(40)).await, 1);
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].0.as_str()), (1, "pad"));
    assert!(bench.counted("sent"));
}

/// Entropy whose numbers are all the same.
#[derive(Debug)]
struct Always(u64);

impl sosohappy_common::clock::Entropy for Always {
    fn fill(&self, bytes: &mut [u8]) {
        let number = self.0.to_le_bytes();
        for (byte, value) in bytes.iter_mut().zip(number.iter().cycle()) {
            *byte = *value;
        }
    }
}

/// So that a provider that asked all to come back in two minutes is not met by all at once then.
#[tokio::test]
async fn retry_after_has_a_quarter_of_jitter_on_top() {
    for (number, seconds) in [(0, 120), (250, 150)] {
        let mut bench = bench().await;
        bench.worker.context.entropy = Arc::new(Always(number));
        bench.device("kim", 1, "phone").await;
        let busy = || PushError::Unavailable {
            retry_after: Some(Duration::from_mins(2)),
            source: anyhow::anyhow!("429"),
        };
        bench.gateway.answers.lock().insert("phone".into(), busy);
        bench.like("lee", "kim").await;
        assert_eq!(bench.after(SOON).await, 1);
        bench.gateway.answers.lock().clear();
        let almost = Duration::from_secs(seconds).saturating_sub(SOON);
        assert_eq!(bench.after(almost).await, 0, "before {seconds} s");
        assert_eq!(bench.after(SOON).await, 1, "after {seconds} s");
        assert_eq!(bench.sent().len(), 1);
    }
}

#[tokio::test]
async fn a_rejected_credential_does_not_burn_the_queue() {
    let bench = bench().await;
    bench.device("kim", 1, "phone").await;
    let rejected = || PushError::Credential("403".into());
    bench.gateway.answers.lock().insert("phone".into(), rejected);
    bench.like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    for _ in 0..20 {
        assert_eq!(bench.after(Duration::from_secs(40)).await, 1, "the pause does not grow");
    }
    bench.gateway.answers.lock().clear();
    assert_eq!(bench.after(Duration::from_secs(40)).await, 1);
    assert_eq!(bench.sent().len(), 1);
}

#[tokio::test]
async fn a_token_that_was_registered_after_it_was_gone_stays() {
    let bench = bench().await;
    bench.device("kim", 1, "again").await;
    bench.device("kim", 2, "gone").await;
    let long_ago = || PushError::Gone {
        since: Some(Timestamp::from_second(1_600_000_000).unwrap()),
    };
    let now = || PushError::Gone {
        since: Some(Timestamp::from_second(1_800_000_000).unwrap()),
    };
    bench.gateway.answers.lock().extend([
        ("again".to_owned(), long_ago as fn() -> PushError),
        ("gone".to_owned(), now),
    ]);
    bench.like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.tokens("kim").await, ["again"]);
}

/// A notice that is read on the pad is removed from the phone, which shows it, and not from the watch, which had removed it before.
async fn a_banner_is_removed_from_other_devices_when_it_is_read(bed: Bed) {
    let bench = bench_on(bed).await;
    let kim = account("kim");
    for (session, token) in [(1, "phone"), (2, "pad"), (3, "watch")] {
        bench.device("kim", session, token).await;
    }
    let now = bench.worker.context.clock.now();
    let event = bench.stored_like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.sent().len(), 3);
    let banners = Banners {
        store: bench.worker.store.clone(),
        pushes: WakeHandle::default(),
    };
    banners.shown_on(&kim, "watch", &[], &[]).await.unwrap();
    let pad = SessionId(2);
    banners.withdraw_handled(&kim, Some(pad), now).await.unwrap();
    assert_eq!(bench.after(SOON).await, 0, "nothing is read yet");

    let by = Decision {
        account: &kim,
        authorized_at: now,
        at: now,
    };
    bench.worker.store.read(&by, i64::MAX).await.unwrap();
    let shown = bench.worker.store.banners(&kim).await.unwrap();
    for is_killed in [true, false, false] {
        banners
            .withdraw_handled(&kim, Some(pad), bench.worker.context.clock.now())
            .await
            .unwrap();
        // The push that removes the banners is queued, and they are not forgotten.
        if is_killed {
            for banner in &shown {
                bench.worker.store.add_banner(&kim, banner).await.unwrap();
            }
        }
    }
    assert_eq!(bench.after(SOON).await, 1);
    let handled = PushMessage::Handled {
        events: vec![event],
        badge: 0,
    };
    let expected = [handled, PushMessage::Badge(0)].map(|message| ("phone".to_owned(), message));
    assert_eq!(*bench.gateway.silent.lock(), expected);
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
    assert_eq!(bench.sent(), [], "no banner");
    assert!(bench.worker.store.banners(&kim).await.unwrap().is_empty());
}

/// It has left the phone in between, each time.
async fn a_like_that_is_given_again_after_its_banner_was_removed_is_pushed_again(bed: Bed) {
    let bench = bench_on(bed).await;
    let kim = account("kim");
    bench.device("kim", 1, "phone").await;
    let event = bench.stored_like("lee", "kim").await;
    let banners = Banners {
        store: bench.worker.store.clone(),
        pushes: WakeHandle::default(),
    };
    for _ in 0..2 {
        assert_eq!(bench.after(SOON).await, 1);
        assert_eq!(bench.sent()[0].2.badge, Some(1));
        let now = bench.worker.context.clock.now();
        bench.worker.store.withdraw(event, now, now).await.unwrap();
        banners.withdraw_handled(&kim, None, now).await.unwrap();
        assert_eq!(bench.after(SOON).await, 1);
        let handled = PushMessage::Handled {
            events: vec![event],
            badge: 0,
        };
        let expected = [handled, PushMessage::Badge(0)].map(|message| ("phone".to_owned(), message));
        assert_eq!(std::mem::take(&mut *bench.gateway.silent.lock()), expected);
        bench.store_like(event, "lee", "kim").await;
    }
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.sent()[0].2.badge, Some(1));
    // One that was read keeps its settled push.
    let now = bench.read_all(&kim).await;
    banners.withdraw_handled(&kim, None, now).await.unwrap();
    assert!(bench.worker.store.is_settled(event).await.unwrap());
}

/// A provider that gets pushes while their account reads them.
#[derive(Debug)]
struct ReadMeanwhile {
    account: Account,
    banners: Banners,
    at: Timestamp,
}

#[async_trait]
impl Gateway for ReadMeanwhile {
    async fn push(&self, _device: &str, _event: EventId, message: &PushMessage) -> Result<(), PushError> {
        if matches!(message, PushMessage::Alert(_)) {
            let by = Decision {
                account: &self.account,
                authorized_at: self.at,
                at: self.at,
            };
            let read = self.banners.store.read(&by, i64::MAX).await;
            assert_eq!(read.unwrap().len(), 1);
            self.banners
                .withdraw_handled(&self.account, None, self.at)
                .await
                .unwrap();
        }
        Ok(())
    }
}

/// What reads it finds no banner yet.
async fn a_notice_that_is_read_while_its_push_is_sent_keeps_no_banner(bed: Bed) {
    let mut bench = bench_on(bed).await;
    bench.device("kim", 1, "phone").await;
    bench.stored_like("lee", "kim").await;
    let kim = account("kim");
    bench.worker.gateway = Arc::new(ReadMeanwhile {
        account: kim.clone(),
        banners: Banners {
            store: bench.worker.store.clone(),
            pushes: WakeHandle::default(),
        },
        at: bench.worker.context.clock.now(),
    });
    assert_eq!(bench.after(SOON).await, 1);
    assert!(bench.worker.store.banners(&kim).await.unwrap().is_empty());
    assert_eq!(bench.after(SOON).await, 1, "a push removes the banner");
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
}

fn message(text: &str) -> PushContent {
    let frame = format!(r#"{{"sender":"lee","receiver":"kim","date":2023090513248392,"text":"{text}"}}"#);
    PushContent::Message { frame }
}

impl Bench {
    async fn message(&self, sender: &str, number: usize) {
        let content = message(&number.to_string());
        self.queue(Target::Account(account("kim")), Some(sender), content).await;
    }

    async fn queue_all(&self, pushes: &[WaitingPush]) {
        let due: Vec<_> = pushes.iter().map(|push| (push, push.queued_at)).collect();
        for due in due.chunks(STORED_AT_ONCE) {
            self.worker.store.queue_all(due).await.unwrap();
        }
    }

    async fn messages(&self, sender: &str, count: usize) {
        let target = || Target::Account(account("kim"));
        let pushes = (0..count).map(|number| self.push(target(), Some(sender), message(&number.to_string())));
        self.queue_all(&pushes.collect::<Vec<_>>()).await;
    }

    fn bodies(&self) -> Vec<String> {
        self.sent().into_iter().map(|(_, _, text)| text.body).collect()
    }
}

/// Case D3: 2,000 messages in 12 seconds. By default three pushes of one sender a minute, then one for all the rest.
async fn a_burst_of_one_sender_is_few_pushes(bed: Bed) {
    // The MongoDB server of the tests is slow.
    let per_second = match bed.set {
        EngineSet::Embedded => 170,
        EngineSet::Real => 20,
    };
    let bench = bench_on(bed).await;
    bench.device("kim", 1, "phone").await;
    for _ in 0..12 {
        bench.messages("stranger", per_second).await;
        bench.after(Duration::from_secs(1)).await;
    }
    let body = |count: usize| format!("새 메시지 {count}개");
    assert_eq!(bench.bodies(), vec![body(per_second); 3]);
    assert!(bench.counted("limited"));
    bench.message("friend", 1).await;
    bench.after(SOON).await;
    assert_eq!(bench.bodies(), ["1"], "another sender is not delayed");
    bench.after(Duration::from_secs(50)).await;
    assert_eq!(bench.bodies(), [body(9 * per_second)]);
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
}

/// Each sender alone is within the limit of a thread.
async fn a_burst_of_many_senders_is_few_pushes(bed: Bed) {
    let bench = bench_on(bed).await;
    bench.device("kim", 1, "phone").await;
    for number in 0..40 {
        bench.message(&format!("sender{number}"), number).await;
    }
    while bench.after(SOON).await > 0 {}
    assert_eq!(bench.bodies().len(), 30);
    bench.message("late", 40).await;
    while bench.after(SOON).await > 0 {}
    assert_eq!(bench.bodies(), [""; 0]);
    bench.after(Duration::from_mins(1)).await;
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].2.title.as_str(), sent[0].2.body.as_str()),
        ("소소해피", "새 메시지 11개")
    );
}

/// A provider that was unavailable for long gets one push of a sender, too.
async fn a_burst_while_the_provider_is_unavailable_is_one_push(bed: Bed) {
    let bench = bench_on(bed).await;
    bench.device("kim", 1, "phone").await;
    let down = || PushError::unavailable(anyhow::anyhow!("down"));
    bench.gateway.answers.lock().insert("phone".into(), down);
    for number in 0..10 {
        bench.message("stranger", number).await;
        bench.after(SOON).await;
    }
    bench.gateway.answers.lock().clear();
    bench.after(Duration::from_mins(20)).await;
    assert_eq!(bench.bodies(), ["새 메시지 10개"]);
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
}

async fn likes_of_a_post_are_one_push(bed: Bed) {
    let bench = bench_on(bed).await;
    bench.device("kim", 1, "phone").await;
    for liker in ["a", "b", "c", "d", "e"] {
        bench.like(liker, "kim").await;
        bench.clock.advance(SOON);
    }
    bench.after(SOON).await;
    assert_eq!(bench.bodies(), ["e님 외 4명이 kim님의 행복을 응원합니다🩷"]);
}

/// Two messages that wait are two pushes: each would have its text.
async fn likes_that_wait_leave_with_the_first_of_their_post(bed: Bed) {
    let bench = bench_on(bed).await;
    bench.device("kim", 1, "phone").await;
    let wait = Duration::from_secs(5);
    let waiting = async |who: &str, content| {
        let push = bench.push(Target::Account(account("kim")), Some(who), content);
        bench.worker.store.queue(&push, push.queued_at + wait).await.unwrap();
    };
    for liker in ["a", "b", "c", "d", "e"] {
        let content = PushContent::Like {
            date: 2_023_090_513_248_392,
        };
        waiting(liker, content).await;
        waiting("lee", message(liker)).await;
        bench.clock.advance(Duration::from_millis(400));
    }
    assert_eq!(bench.after(Duration::from_millis(2_999)).await, 0);
    assert_eq!(bench.after(SOON).await, 2);
    let mut bodies = bench.bodies();
    bodies.sort();
    assert_eq!(bodies, ["a", "e님 외 4명이 kim님의 행복을 응원합니다🩷"]);
    assert_eq!(bench.after(Duration::from_millis(400)).await, 1);
    assert_eq!(bench.bodies(), ["b"]);
}

/// The banner of the next replaces that of those before. It counts none that was read, or of an account in a block.
async fn the_push_of_a_like_counts_the_unread_likes_of_the_post(bed: Bed) {
    let bench = bench_on(bed).await;
    let kim = account("kim");
    bench.device("kim", 1, "phone").await;
    for liker in ["a", "b", "c"] {
        bench.stored_like(liker, "kim").await;
        bench.clock.advance(SOON);
    }
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.bodies(), ["c님 외 2명이 kim님의 행복을 응원합니다🩷"]);
    let now = bench.worker.context.clock.now();
    let directory = &bench.worker.directory;
    directory
        .set_relation(Relation::Block, &kim, &account("a"), now)
        .await
        .unwrap();
    bench.stored_like("d", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.bodies(), ["d님 외 2명이 kim님의 행복을 응원합니다🩷"]);

    bench.read_all(&kim).await;
    bench.clock.advance(SOON);
    bench.stored_like("e", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.bodies(), ["e님이 kim님의 행복을 응원합니다🩷"]);
}

/// The like of another account's post is queued behind all of them, and is sent in the same round.
async fn a_flood_of_likes_of_one_post_delays_no_push_of_others(bed: Bed) {
    // The MongoDB server of the tests is slow.
    let people = match bed.set {
        EngineSet::Embedded => 10_000,
        EngineSet::Real => 200,
    };
    let bench = bench_on(bed).await;
    bench.device("kim", 1, "phone").await;
    bench.device("park", 2, "pad").await;
    let push_of = |number: usize| {
        let content = PushContent::Like {
            date: 2_023_090_513_248_392,
        };
        let liker = format!("liker{number}");
        bench.push(Target::Account(account("kim")), Some(&liker), content)
    };
    let likes: Vec<_> = (0..people).map(push_of).collect();
    bench.queue_all(&likes).await;
    bench.clock.advance(SOON);
    bench.like("lee", "park").await;
    assert_eq!(bench.after(SOON).await, 2, "one push of each post");
    let mut sent = bench.sent();
    sent.sort_by(|one, other| one.0.cmp(&other.0));
    let devices: Vec<_> = sent.iter().map(|(device, ..)| device.as_str()).collect();
    assert_eq!(devices, ["pad", "phone"]);
    assert_eq!(sent[0].2.body, "lee님이 park님의 행복을 응원합니다🩷");
    let others = format!("님 외 {}명이 kim님의 행복을 응원합니다🩷", people - 1);
    assert!(sent[1].2.body.ends_with(&others), "{}", sent[1].2.body);
}

/// Of a group, what others did is pushed.
async fn a_block_stops_the_pushes_that_wait(bed: Bed) {
    let bench = bench_on(bed).await;
    bench.device("kim", 1, "phone").await;
    let target = || Target::Account(account("kim"));
    let comment = PushContent::Notice {
        notice: Kind::Comment,
        date: Some(2_023_090_513_248_392),
        title: None,
        text: None,
    };
    bench.message("lee", 1).await;
    bench.queue(target(), Some("park"), comment).await;
    for liker in ["lee", "a", "park", "b"] {
        bench.like(liker, "kim").await;
        bench.clock.advance(SOON);
    }
    bench.like("lee", "kim").await;
    // Messages of the limit of an account: those of the friend are older than all that are read at first.
    let kind = bench.push(target(), None, message("")).kind_thread();
    let mut waiting = vec![bench.push(target(), Some("friend"), message("hello"))];
    bench.clock.advance(SOON);
    waiting.extend((0..15).map(|number| bench.push(target(), Some("lee"), message(&number.to_string()))));
    bench.queue_all(&waiting).await;
    let events: Vec<EventId> = waiting.iter().map(|push| push.event).collect();
    let now = bench.worker.context.clock.now();
    bench.worker.store.defer(&events, &kind, now).await.unwrap();

    for (by, other) in [("kim", "lee"), ("park", "kim")] {
        let (by, other) = (account(by), account(other));
        let block = bench.worker.directory.set_relation(Relation::Block, &by, &other, now);
        block.await.unwrap();
    }
    assert_eq!(bench.after(SOON).await, 4);
    assert_eq!(bench.bodies(), ["b님 외 1명이 kim님의 행복을 응원합니다🩷"]);
    assert!(bench.counted("blocked"));
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.bodies(), ["hello"]);
    assert_eq!(bench.after(Duration::from_hours(1)).await, 0);
}

/// Both wait in the thread of all messages, whose newest is the muted one.
async fn the_mute_of_a_blocked_sender_stops_no_other(bed: Bed) {
    let bench = bench_on(bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    bench.device("kim", 1, "phone").await;
    let target = || Target::Account(kim.clone());
    let mut waiting = vec![bench.push(target(), Some("friend"), message("hello"))];
    bench.clock.advance(SOON);
    waiting.push(bench.push(target(), Some("lee"), message("buy")));
    bench.queue_all(&waiting).await;
    let events: Vec<EventId> = waiting.iter().map(|push| push.event).collect();
    let now = bench.worker.context.clock.now();
    let kind = waiting[0].kind_thread();
    bench.worker.store.defer(&events, &kind, now).await.unwrap();
    let by = Decision {
        account: &kim,
        authorized_at: now,
        at: now,
    };
    let mute = Mute::Conversation(lee.clone());
    assert!(bench.worker.store.mute(&by, &mute, true).await.unwrap());
    let directory = &bench.worker.directory;
    directory.set_relation(Relation::Block, &kim, &lee, now).await.unwrap();
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.bodies(), ["hello"]);
}

on_both_engines!(
    the_mute_of_a_blocked_sender_stops_no_other,
    a_block_stops_the_pushes_that_wait,
    pushes_whose_replica_died_go_from_another,
    two_replicas_send_each_push_once,
    a_flood_of_likes_of_one_post_delays_no_push_of_others,
    a_burst_of_many_senders_is_few_pushes,
    a_burst_of_one_sender_is_few_pushes,
    a_burst_while_the_provider_is_unavailable_is_one_push,
    a_banner_is_removed_from_other_devices_when_it_is_read,
    a_like_that_is_given_again_after_its_banner_was_removed_is_pushed_again,
    a_notice_that_is_read_while_its_push_is_sent_keeps_no_banner,
    likes_of_a_post_are_one_push,
    the_push_of_a_like_counts_the_unread_likes_of_the_post,
    likes_that_wait_leave_with_the_first_of_their_post,
);

/// | | reads | writes |
/// | --- | --- | --- |
/// | take | due threads, their pushes, contents | taken |
/// | gate and limits | preferences with the mute, blocks | of the thread, of the account |
/// | devices, number on the icon | devices, what was read, notices, those that are likes of the post, messages | |
/// | record | whether the account was erased | banner, sent, settled |
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_one_device_takes_few_commands() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bench = bench_on(Bed::new(EngineSet::Real).await).await;
    bench.device("kim", 1, "phone").await;
    // The first push begins the minute of the thread, and that of the account.
    for (liker, writes) in [("lee", 8), ("park", 6)] {
        bench.like(liker, "kim").await;
        let (cost, taken) = bench.commands.cost_of("push", bench.after(SOON)).await;
        assert_eq!((taken, bench.sent().len()), (1, 1));
        assert_eq!(cost, Cost { reads: 11, writes });
    }
}

#[tokio::test]
async fn nothing_is_pushed_to_a_suspended_account() {
    let bench = bench().await;
    bench.device("kim", 1, "phone").await;
    let at = bench.worker.context.clock.now();
    bench
        .worker
        .revocations
        .set_state(&account("kim"), State::Suspended, at);
    bench.like("lee", "kim").await;
    assert_eq!(bench.after(SOON).await, 1);
    assert_eq!(bench.sent(), []);
    assert!(bench.counted("unwanted"));

    let at = bench.worker.context.clock.now();
    bench.worker.revocations.set_state(&account("kim"), State::Restored, at);
    bench.like("park", "kim").await;
    assert_eq!(bench.after(SOON).await, 1, "the push of then is not sent later");
    assert_eq!(bench.sent().len(), 1);
}
