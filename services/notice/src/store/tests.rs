//! The contract of a store, on every adapter.

use std::time::Duration;

use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use parking_lot::Mutex;
use sosohappy_events::types::{AccountErased, Device};
use sosohappy_events::{Envelope, Event as _, Topic};
use sosohappy_testkit::statements::{Cost, cost_of};
use sosohappy_testkit::{Bed, Commands, EngineSet, on_both_engines};

use super::*;
use crate::domain::{Content, PushContent, post_id};
use crate::metrics::NoticeMetrics;
use crate::{DEFAULTS, Settings};

struct Bench {
    opened: Opened,
    context: Context,
    bed: Bed,
    /// On `MongoDB`.
    commands: Commands,
}

impl std::ops::Deref for Bench {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.opened.store
    }
}

async fn bench(bed: Bed) -> Bench {
    let inbox = bed
        .settings::<Settings>("notice", DEFAULTS, &[])
        .await
        .get()
        .inbox
        .clone();
    let context = bed.context("notice-service");
    let commands = Commands::default();
    let opened = open_observed(&inbox, &context, &commands).await;
    let opened = opened.expect("the inbox opens");
    Bench {
        opened,
        context,
        bed,
        commands,
    }
}

impl Bench {
    fn event(&self) -> EventId {
        EventId::new(&self.context)
    }

    fn like(&self, liker: &str, receiver: &str, second: i64) -> Notice {
        Notice {
            event: self.event(),
            receiver: account(receiver),
            occurred_at: at(second),
            authorized_at: None,
            content: Content::Like {
                liker: account(liker),
                known_as: liker.to_owned(),
                date: 2_023_090_513_248_392,
            },
        }
    }

    fn push(&self, actor: &str, receiver: &str, second: i64) -> WaitingPush {
        WaitingPush {
            event: self.event(),
            target: Target::Account(account(receiver)),
            actor: Some(account(actor)),
            // Each of a thread of its own.
            content: PushContent::Like {
                date: 2_023_090_513_248_392 + second,
            },
            occurred_at: at(second),
            authorized_at: None,
            queued_at: at(second),
            attempts: 0,
            sent: Vec::new(),
            cause: None,
        }
    }

    async fn seq(&self, notice: &Notice, second: i64) -> i64 {
        match self.add(notice, at(second)).await.unwrap() {
            Added::Kept { seq, .. } => seq,
            Added::Erased | Added::Withdrawn => panic!("the notice is not kept"),
        }
    }

    async fn device(&self, who: &str, session: Option<u64>, token: Option<&str>, second: i64) {
        let session = session.map(SessionId);
        let change = DeviceChange {
            account: account(who),
            session,
            token: token.map(str::to_owned),
            at: at(second),
        };
        self.change(&change).await.unwrap();
    }

    async fn devices(&self, who: &str) -> Vec<String> {
        let devices = self.of(&account(who)).await.unwrap();
        devices.into_iter().map(|device| device.token).collect()
    }

    fn erasure(&self, who: &str, second: i64) -> Erasure {
        let (account, event) = (account(who), self.event());
        let receipt = AccountErased {
            account: account.clone(),
            service: "notice-service".to_owned(),
            resignation: event,
        };
        let receipt = Envelope::new(receipt, &self.context).to_outgoing();
        Erasure {
            account,
            event,
            at: at(second),
            receipt,
        }
    }

    async fn due(&self, second: i64) -> Vec<WaitingPush> {
        let groups = self.push_groups(second).await;
        assert!(
            groups.iter().all(|group| group.events == [group.newest.event]),
            "{groups:?}"
        );
        groups.into_iter().map(|group| group.newest).collect()
    }

    /// Does work and counts its statements or commands.
    async fn cost_of<T>(&self, name: &str, work: impl Future<Output = T>) -> (Cost, T) {
        match self.bed.set {
            EngineSet::Embedded => cost_of(name, &self.bed, work).await,
            EngineSet::Real => self.commands.cost_of(name, work).await,
        }
    }

    async fn viewed_until(&self, account: &Account) -> Option<Timestamp> {
        self.read_state(account).await.unwrap().viewed_at
    }

    /// Sweeps what others did to accounts that resigned before that second.
    async fn sweep_gone(&self, second: i64) {
        let horizons = Horizons {
            notices: at(-1_000),
            memory: at(-1_000),
            windows: at(-1_000),
            devices: at(-1_000),
            gone: at(second),
        };
        self.sweep(horizons).await.unwrap();
    }

    async fn push_groups(&self, second: i64) -> Vec<PushGroup> {
        self.take_due(take(second, second + 60, 100)).await.unwrap()
    }
}

fn account(name: &str) -> Account {
    format!("{name}@example.com+kakao").parse().unwrap()
}

/// Read with an access token of that second.
fn reading(second: i64) -> Reading {
    Reading {
        at: at(second),
        authorized_at: at(second),
    }
}

/// With an access token of that second.
fn by(account: &Account, second: i64) -> Decision<'_> {
    Decision {
        account,
        authorized_at: at(second),
        at: at(second),
    }
}

/// Without likes that are not due.
fn take(now: i64, again: i64, limit: u32) -> Take {
    Take {
        now: at(now),
        again: at(again),
        likes_until: at(now),
        limit,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

async fn notices_after_a_number_are_read_in_order(bed: Bed) {
    let bench = bench(bed).await;
    let kim = account("kim");
    assert_eq!(bench.kept(&kim).await.unwrap(), None);
    let people = ["lee", "park", "choi", "jung", "kang"];
    let likes = people.map(|liker| bench.like(liker, "kim", 10));
    let mut numbers = Vec::new();
    for like in &likes {
        numbers.push(bench.seq(like, 20).await);
    }
    let other = bench.seq(&bench.like("kim", "lee", 10), 20).await;
    assert_eq!(bench.kept(&kim).await.unwrap(), Some((numbers[0], numbers[4])));
    let newest = bench.newest(&["kim", "lee", "park"].map(account)).await.unwrap();
    let expected = [(kim.clone(), numbers[4]), (account("lee"), other)];
    assert_eq!(newest, expected.into_iter().collect());
    bench.withdraw(likes[2].event, at(30), at(30)).await.unwrap();

    let read = async |hidden: &[Account], after, limit| {
        let following = bench.after(&kim, hidden, after, limit).await.unwrap();
        let found: Vec<i64> = following.notices.iter().map(|notice| notice.seq).collect();
        (found, following.until, following.more)
    };
    let [first, second, _, fourth, last] = numbers[..] else {
        unreachable!()
    };
    assert_eq!(read(&[], 0, 2).await, (vec![first, second], Some(second), true));
    assert_eq!(read(&[], second, 3).await, (vec![fourth, last], Some(last), false));
    assert_eq!(
        read(&[account("jung")], second, 3).await,
        (vec![last], Some(last), false)
    );
    assert_eq!(read(&[], last, 3).await, (vec![], None, false));
    let withdrawn = bench.kept(&kim).await.unwrap();
    assert_eq!(withdrawn, Some((first, last)), "a withdrawn notice keeps its number");

    // Of the five banners those of the withdrawn notice and of what was read are handled; another account's are not.
    let banners: Vec<EventId> = likes.iter().map(|like| like.event).chain([bench.event()]).collect();
    assert_eq!(bench.handled(&kim, &banners).await.unwrap(), [likes[2].event]);
    bench.read(&by(&kim, 40), first).await.unwrap();
    let mut handled = bench.handled(&kim, &banners).await.unwrap();
    handled.sort();
    let mut expected = [likes[0].event, likes[2].event];
    expected.sort();
    assert_eq!(handled, expected);
    assert!(bench.handled(&account("lee"), &banners).await.unwrap().is_empty());
    assert!(bench.handled(&kim, &[]).await.unwrap().is_empty());
}

async fn a_notice_is_kept_once_and_numbered_in_order(bed: Bed) {
    let bench = bench(bed).await;
    let (first, second) = (bench.like("lee", "kim", 0), bench.like("park", "kim", 1));
    let seq = bench.seq(&first, 1).await;
    assert_eq!(bench.seq(&second, 2).await, seq + 1);
    assert_eq!(
        bench.add(&first, at(500)).await.unwrap(),
        Added::Kept { seq, stored_at: at(1) }
    );
    assert_eq!(
        bench.add(&second, at(500)).await.unwrap(),
        Added::Kept {
            seq: seq + 1,
            stored_at: at(2)
        }
    );
    let other = Notice {
        event: bench.event(),
        receiver: account("kim"),
        occurred_at: at(3),
        authorized_at: None,
        content: Content::Other {
            topic: "comment".into(),
            data: serde_json::json!({ "postId": 1 }),
            about: None,
        },
    };
    assert_eq!(bench.seq(&other, 3).await, seq + 2);
}

async fn many_at_once_leave_no_gap_and_no_double(bed: Bed) {
    let bench = bench(bed).await;
    let likes: Vec<Notice> = (0..12).map(|number| bench.like("lee", "kim", number)).collect();
    // Each by two replicas.
    let added = futures::future::join_all(likes.iter().chain(&likes).map(|like| async {
        loop {
            match bench.add(like, at(100)).await {
                Ok(Added::Kept { seq, .. }) => break seq,
                Ok(Added::Erased | Added::Withdrawn) => panic!("nobody resigned or took a like back"),
                Err(StoreError::Retry(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }))
    .await;
    let (first, again) = added.split_at(likes.len());
    assert_eq!(first, again, "both replicas are told the same number");
    let mut numbers = first.to_vec();
    numbers.sort_unstable();
    let expected: Vec<i64> = (numbers[0]..numbers[0] + 12).collect();
    assert_eq!(numbers, expected);
}

async fn numbers_never_come_twice(bed: Bed) {
    let bench = bench(bed).await;
    let seq = bench.seq(&bench.like("lee", "kim", 0), 0).await;
    bench
        .sweep(Horizons {
            notices: at(10),
            memory: at(-1_000),
            windows: at(-1_000),
            devices: at(-1_000),
            gone: at(-1_000),
        })
        .await
        .unwrap();
    let later = bench.seq(&bench.like("lee", "kim", 20), 20).await;
    assert!(later > seq, "{later} after {seq}");
}

async fn a_push_waits_is_taken_and_settled_once(bed: Bed) {
    let bench = bench(bed).await;
    let push = bench.push("lee", "kim", 0);
    bench.queue(&push, at(5)).await.unwrap();
    bench.queue(&push, at(0)).await.unwrap();
    assert_eq!(bench.due(4).await, []);

    let taken = bench.due(5).await;
    assert_eq!(
        taken,
        [WaitingPush {
            attempts: 1,
            ..push.clone()
        }]
    );
    assert_eq!(bench.due(6).await, [], "another replica has it");
    assert_eq!(bench.due(65).await.len(), 1, "that replica died");

    bench.postpone(&[push.event], at(300)).await.unwrap();
    assert_eq!(bench.due(299).await, []);
    assert!(!bench.is_settled(push.event).await.unwrap());
    bench.settle(&[push.event], at(299)).await.unwrap();
    assert!(bench.is_settled(push.event).await.unwrap());
    bench.postpone(&[push.event], at(0)).await.unwrap();
    bench.queue(&push, at(0)).await.unwrap();
    assert_eq!(bench.due(10_000).await, []);
}

async fn what_was_shown_before_it_was_queued_is_not_pushed(bed: Bed) {
    let bench = bench(bed).await;
    let push = bench.push("lee", "kim", 0);
    bench.settle(&[push.event], at(0)).await.unwrap();
    bench.settle(&[push.event], at(1)).await.unwrap();
    bench.queue(&push, at(0)).await.unwrap();
    assert_eq!(bench.due(100).await, []);
}

async fn the_push_queue_has_a_size_and_an_earliest_time(bed: Bed) {
    let bench = bench(bed).await;
    let queue = |waiting, first_due| PushQueue { waiting, first_due };
    assert_eq!(bench.push_queue().await.unwrap(), queue(0, None));
    let [late, early, settled] = [1, 2, 3].map(|second| bench.push("lee", "kim", second));
    for (push, due) in [(&late, 50), (&early, 30), (&settled, 20)] {
        bench.queue(push, at(due)).await.unwrap();
    }
    bench.settle(&[settled.event], at(4)).await.unwrap();
    assert_eq!(bench.push_queue().await.unwrap(), queue(2, Some(at(30))));
    // A push that a worker has taken waits until it is settled, and is due again.
    assert_eq!(bench.take_due(take(40, 90, 100)).await.unwrap().len(), 1);
    assert_eq!(bench.push_queue().await.unwrap(), queue(2, Some(at(50))));
    let metrics = NoticeMetrics::new(&bench.context.metrics);
    for (now, overdue) in [(60, "10"), (50, "0"), (40, "0")] {
        metrics.queued(bench.push_queue().await.unwrap(), at(now));
        let text = bench.context.metrics.render();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
            line.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
        };
        assert_eq!(value("notice_push_overdue_seconds").as_deref(), Some(overdue));
        assert_eq!(value("notice_pushes_waiting").as_deref(), Some("2"));
    }
}

async fn two_workers_never_take_the_same_push(bed: Bed) {
    let bench = bench(bed).await;
    for number in 0..20 {
        bench.queue(&bench.push("lee", "kim", number), at(30)).await.unwrap();
    }
    let (one, other) = tokio::join!(bench.take_due(take(30, 90, 15)), bench.take_due(take(30, 90, 15)));
    let groups = one.unwrap().into_iter().chain(other.unwrap());
    let mut taken: Vec<EventId> = groups.flat_map(|group| group.events).collect();
    let count = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!((taken.len(), count), (20, 20));
}

async fn a_message_for_a_push_token_comes_back_whole(bed: Bed) {
    let bench = bench(bed).await;
    let push = WaitingPush {
        target: Target::Token("fcm-token".into()),
        actor: None,
        content: PushContent::Message {
            frame: r#"{"text":"안녕 🩷"}"#.into(),
        },
        ..bench.push("lee", "kim", 0)
    };
    bench.queue(&push, at(0)).await.unwrap();
    assert_eq!(bench.due(0).await, [WaitingPush { attempts: 1, ..push }]);
}

async fn a_device_is_its_last_owners(bed: Bed) {
    let bench = bench(bed).await;
    bench.device("kim", Some(1), Some("phone"), 1).await;
    bench.device("kim", Some(2), Some("pad"), 2).await;
    assert_eq!(bench.devices("kim").await, ["pad", "phone"]);
    bench.device("kim", Some(3), Some("phone"), 3).await;
    assert_eq!(
        bench.devices("kim").await,
        ["phone", "pad"],
        "signed in again on the same phone"
    );

    bench.device("lee", Some(4), Some("phone"), 4).await;
    assert_eq!(bench.devices("kim").await, ["pad"]);
    assert_eq!(bench.devices("lee").await, ["phone"]);

    // Everything again, and something old that comes late.
    bench.device("kim", Some(1), Some("phone"), 1).await;
    bench.device("kim", Some(3), Some("phone"), 3).await;
    bench.device("park", Some(5), Some("phone"), 2).await;
    assert_eq!(bench.devices("kim").await, ["pad"]);
    assert_eq!(bench.devices("park").await, [""; 0]);
    assert_eq!(bench.devices("lee").await, ["phone"]);
}

async fn the_newest_event_of_a_device_wins(bed: Bed) {
    let bench = bench(bed).await;
    bench.device("kim", Some(1), Some("new"), 5).await;
    bench.device("kim", Some(1), Some("old"), 4).await;
    assert_eq!(bench.devices("kim").await, ["new"]);
    bench.device("kim", Some(1), None, 6).await;
    bench.device("kim", Some(1), Some("new"), 5).await;
    assert_eq!(bench.devices("kim").await, [""; 0]);

    bench.device("kim", None, Some("spring"), 7).await;
    bench.device("kim", Some(2), Some("pad"), 8).await;
    bench.device("kim", None, None, 7).await;
    assert_eq!(
        bench.devices("kim").await,
        ["pad"],
        "forgets what was known at that moment"
    );
    bench.device("kim", None, Some("spring"), 7).await;
    assert_eq!(bench.devices("kim").await, ["pad"]);
    bench.forget("pad", None).await.unwrap();
    assert_eq!(bench.devices("kim").await, [""; 0]);
}

async fn an_erasure_takes_everything_up_to_its_moment(bed: Bed) {
    let bench = bench(bed).await;
    let (received, caused) = (bench.like("lee", "kim", 1), bench.like("kim", "park", 2));
    let (between, later) = (bench.like("lee", "park", 3), bench.like("lee", "kim", 20));
    for notice in [&received, &caused, &between, &later] {
        bench.seq(notice, 20).await;
    }
    bench.device("kim", Some(1), Some("phone"), 1).await;
    bench.device("kim", Some(2), Some("new phone"), 20).await;
    for push in [bench.push("lee", "kim", 1), bench.push("kim", "park", 2)] {
        bench.queue(&push, at(30)).await.unwrap();
    }
    let stays = bench.push("lee", "park", 3);
    bench.queue(&stays, at(30)).await.unwrap();
    let directory = &bench.opened.directory;
    for (name, second) in [("kim", 0), ("back", 15)] {
        directory
            .set_nickname(&account("kim"), Some(name), at(second))
            .await
            .unwrap();
    }

    let erasure = bench.erasure("kim", 10);
    let published = async || {
        let outbox = &bench.opened.outbox;
        let pending = outbox.pending(10).await.unwrap().pending;
        let (rows, records): (Vec<_>, Vec<_>) = pending.into_iter().map(|it| (it.row, it.record)).unzip();
        outbox.published(&rows).await.unwrap();
        records
    };
    bench.erase(&erasure, at(30)).await.unwrap();
    let receipts = published().await;
    assert_eq!(receipts.as_slice(), std::slice::from_ref(&erasure.receipt));
    assert_eq!(receipts[0].topic, Topic::Erased.default_name());
    assert_eq!(AccountErased::TOPIC, Topic::Erased);
    bench.erase(&erasure, at(31)).await.unwrap();
    let again = published().await;
    assert_eq!(
        again.as_slice(),
        std::slice::from_ref(&erasure.receipt),
        "for auth, which has not got the first"
    );

    assert_eq!(bench.add(&received, at(40)).await.unwrap(), Added::Erased);
    assert_eq!(bench.add(&caused, at(40)).await.unwrap(), Added::Erased);
    assert!(matches!(bench.add(&between, at(40)).await.unwrap(), Added::Kept { stored_at, .. } if stored_at == at(20)));
    assert!(matches!(bench.add(&later, at(40)).await.unwrap(), Added::Kept { stored_at, .. } if stored_at == at(20)));
    assert_eq!(bench.devices("kim").await, ["new phone"]);
    bench.device("kim", Some(1), Some("phone"), 1).await;
    assert_eq!(bench.devices("kim").await, ["new phone"]);
    bench.queue(&bench.push("lee", "kim", 5), at(30)).await.unwrap();
    bench.queue(&bench.push("kim", "park", 10), at(30)).await.unwrap();
    assert_eq!(bench.due(50).await, [WaitingPush { attempts: 1, ..stays }]);
    let back = Some("back".to_owned());
    assert_eq!(directory.nicknames_of(&[account("kim")]).await.unwrap(), [back]);
}

/// Case E9: happened after the moment, and came before this service had heard of it: it may be for the account that signed up again.
async fn a_late_resignation_spares_what_the_account_got_since(bed: Bed) {
    let bench = bench(bed).await;
    bench.seq(&bench.like("lee", "kim", 20), 20).await;
    bench.queue(&bench.push("lee", "kim", 9), at(30)).await.unwrap();
    let crossed = bench.push("lee", "kim", 20);
    bench.queue(&crossed, at(30)).await.unwrap();
    let erasure = bench.erasure("kim", 10);
    bench.erase(&erasure, at(25)).await.unwrap();
    assert_eq!(bench.due(30).await, [WaitingPush { attempts: 1, ..crossed }]);

    let directory = &bench.opened.directory;
    directory
        .set_nickname(&account("kim"), Some("kim"), at(30))
        .await
        .unwrap();
    let push = bench.push("lee", "kim", 31);
    bench.queue(&push, at(31)).await.unwrap();
    bench.erase(&erasure, at(32)).await.unwrap();
    assert_eq!(
        bench.due(40).await,
        [WaitingPush { attempts: 1, ..push }],
        "the next owner's"
    );
}

async fn only_what_is_old_is_swept(bed: Bed) {
    let bench = bench(bed).await;
    let (old, young) = (bench.like("lee", "kim", 0), bench.like("lee", "kim", 50));
    bench.seq(&old, 0).await;
    bench.seq(&young, 50).await;
    let settled = bench.push("lee", "kim", 50);
    bench.settle(&[settled.event], at(50)).await.unwrap();
    bench.device("kim", Some(1), Some("phone"), 1).await;
    bench.device("kim", Some(2), None, 1).await;
    bench.erase(&bench.erasure("park", 50), at(50)).await.unwrap();

    bench
        .sweep(Horizons {
            notices: at(40),
            memory: at(40),
            windows: at(40),
            devices: at(-1_000),
            gone: at(-1_000),
        })
        .await
        .unwrap();

    assert!(matches!(bench.add(&old, at(60)).await.unwrap(), Added::Kept { stored_at, .. } if stored_at == at(60)));
    assert!(matches!(bench.add(&young, at(60)).await.unwrap(), Added::Kept { stored_at, .. } if stored_at == at(50)));
    bench.queue(&settled, at(50)).await.unwrap();
    assert_eq!(bench.due(100).await, []);
    assert_eq!(bench.devices("kim").await, ["phone"], "however old");
    assert_eq!(
        bench.add(&bench.like("lee", "park", 49), at(60)).await.unwrap(),
        Added::Erased
    );
    assert_eq!(
        bench.opened.outbox.pending(10).await.unwrap().pending.len(),
        1,
        "a receipt that has not gone stays"
    );
}

async fn an_inbox_is_born_once(bed: Bed) {
    let bench = bench(bed).await;
    let (one, other) = tokio::join!(bench.born(at(1)), bench.born(at(2)));
    let born = one.unwrap();
    assert_eq!(other.unwrap(), born);
    assert_eq!(bench.born(at(100)).await.unwrap(), born);
}

async fn what_it_keeps_survives_a_restart(bed: Bed) {
    let settings = bed.settings::<Settings>("notice", DEFAULTS, &[]).await;
    let like = {
        let context = bed.context("notice-service");
        let opened = open(&settings.get().inbox, &context).await.unwrap();
        let like = Notice {
            event: EventId::new(&context),
            receiver: account("kim"),
            occurred_at: at(0),
            authorized_at: None,
            content: Content::Like {
                liker: account("lee"),
                known_as: "lee".into(),
                date: 2_023_090_513_248_392,
            },
        };
        opened.store.add(&like, at(0)).await.unwrap();
        like
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let bench = bench(bed).await;
    assert!(matches!(bench.add(&like, at(60)).await.unwrap(), Added::Kept { stored_at, .. } if stored_at == at(0)));
}

/// Compaction leaves one record of an account's devices, which names all of them.
async fn a_list_is_all_there_are(bed: Bed) {
    let bench = bench(bed).await;
    let list = async |who: &str, devices: &[(u64, &str, i64)], second| {
        let device = |(session, token, since): &(u64, &str, i64)| Device {
            session: SessionId(*session),
            token: (*token).to_owned(),
            since: at(*since),
        };
        let devices = devices.iter().map(device).collect();
        let list = DeviceList {
            account: account(who),
            devices,
            sessions: None,
            at: at(second),
            seen_since: at(-1_000),
        };
        bench.list(&list).await.unwrap();
    };
    list("kim", &[(1, "phone", 1), (2, "pad", 2)], 2).await;
    assert_eq!(bench.devices("kim").await, ["pad", "phone"]);
    list("lee", &[(3, "phone", 3)], 3).await;
    assert_eq!(bench.devices("kim").await, ["pad"], "lee's now");
    list("kim", &[(1, "phone", 1), (4, "watch", 4)], 5).await;
    assert_eq!(bench.devices("kim").await, ["watch"], "told again, the phone is lee's");
    assert_eq!(bench.devices("lee").await, ["phone"]);
    list("kim", &[(1, "phone", 1), (2, "pad", 2)], 2).await;
    assert_eq!(bench.devices("kim").await, ["watch"], "an old list comes late");
    list("kim", &[], 6).await;
    assert_eq!(bench.devices("kim").await, [""; 0]);
}

/// In any order, and delivered again, the list with the greatest `occurred-at` decides.
/// Registered devices: auth's lists name open sessions, and only a closed one loses its device.
async fn a_registered_device_leaves_with_its_session(bed: Bed) {
    let bench = bench(bed).await;
    let kim = account("kim");
    let register = async |who: &str, session, token: &str, issued, second| {
        let registration = Registration {
            account: account(who),
            session: SessionId(session),
            token: token.to_owned(),
            language: Language::En,
            platform: Platform::Ios,
            authorized_at: at(issued),
            at: at(second),
        };
        bench.register(&registration).await.unwrap()
    };
    let list = async |devices: &[(u64, &str, i64)], sessions: &[u64], second| {
        let device = |(session, token, since): &(u64, &str, i64)| Device {
            session: SessionId(*session),
            token: (*token).to_owned(),
            since: at(*since),
        };
        let list = DeviceList {
            account: account("kim"),
            devices: devices.iter().map(device).collect(),
            sessions: Some(sessions.iter().copied().map(SessionId).collect()),
            at: at(second),
            seen_since: at(-1_000),
        };
        bench.list(&list).await.unwrap();
    };
    list(&[(1, "phone", 1)], &[1, 2], 1).await;
    assert!(register("kim", 1, "new phone", 1, 5).await);
    // Its session signed in without a push token.
    assert!(register("kim", 2, "pad", 1, 6).await);
    assert_eq!(bench.devices("kim").await, ["pad", "new phone"]);
    let own = bench.own(&kim).await.unwrap();
    assert_eq!(own[0].session, Some(SessionId(2)));
    assert_eq!((own[0].platform, own[0].language), (Some(Platform::Ios), Language::En));
    assert_eq!(own[0].seen_at, at(6));

    // The list again, and one with another sign-in: auth knows the first push token only.
    list(&[(1, "phone", 1)], &[1, 2], 1).await;
    list(&[(1, "phone", 1), (3, "watch", 10)], &[1, 2, 3], 10).await;
    assert_eq!(bench.devices("kim").await, ["watch", "pad", "new phone"]);

    // A removed device stays away, although auth has its token.
    assert!(bench.remove(&kim, Some(SessionId(1)), at(11)).await.unwrap());
    assert!(!bench.remove(&kim, Some(SessionId(1)), at(11)).await.unwrap());
    assert!(!bench.remove(&account("lee"), Some(SessionId(2)), at(11)).await.unwrap());
    list(&[(1, "phone", 1), (3, "watch", 10)], &[1, 2, 3], 12).await;
    assert_eq!(bench.devices("kim").await, ["watch", "pad"]);
    assert!(register("kim", 1, "phone", 1, 13).await, "it registers again");
    assert_eq!(bench.devices("kim").await, ["phone", "watch", "pad"]);

    // The clock of notice is ahead of auth's: a session that is closed at second 20 registered at 25, and tries again.
    assert!(register("kim", 2, "pad", 15, 25).await);
    list(&[(1, "phone", 1), (3, "watch", 10)], &[1, 3], 20).await;
    assert_eq!(bench.devices("kim").await, ["phone", "watch"]);
    assert!(!register("kim", 2, "pad", 15, 26).await, "its session is closed");
    assert!(register("kim", 4, "tv", 30, 27).await, "opened after the list");
    assert_eq!(bench.devices("kim").await, ["tv", "phone", "watch"]);

    // A push token is of the session that registered it last, and stays so when auth tells of the other.
    assert!(register("lee", 7, "tv", 1, 40).await);
    assert_eq!(bench.devices("lee").await, ["tv"]);
    assert_eq!(bench.devices("kim").await, ["phone", "watch"]);
    bench.device("park", Some(8), Some("tv"), 39).await;
    assert_eq!(bench.devices("lee").await, ["tv"]);

    bench.erase(&bench.erasure("lee", 35), at(41)).await.unwrap();
    assert_eq!(bench.devices("lee").await, [""; 0], "authorized before the resignation");
    assert!(!register("lee", 7, "tv", 34, 42).await);
    assert!(register("lee", 9, "tv", 36, 43).await, "signed up again");
}

async fn preferences_are_replaced_by_version_and_erased(bed: Bed) {
    let bench = bench(bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    let by = |account, second| Decision {
        account,
        authorized_at: at(second),
        at: at(second),
    };
    let first = bench.preferences(&kim).await.unwrap();
    assert_eq!((first.version, &first.preferences), (0, &Preferences::default()));
    let quiet = Preferences {
        quiet_hours: Some("22:30-07:00".parse().unwrap()),
        ..Preferences::default()
    };
    let set = async |who, second, preferences: &Preferences, version| {
        bench
            .set_preferences(&by(who, second), preferences, version)
            .await
            .unwrap()
    };
    assert_eq!(set(&kim, 1, &quiet, 0).await, Saved::Yes);
    assert_eq!(set(&kim, 2, &Preferences::default(), 0).await, Saved::ChangedMeanwhile);
    let stored = bench.preferences(&kim).await.unwrap();
    assert_eq!(stored.preferences, quiet);
    assert_eq!(set(&kim, 2, &quiet, stored.version).await, Saved::Yes);
    assert_eq!(set(&kim, 2, &quiet, stored.version).await, Saved::ChangedMeanwhile);

    let (post, conversation) = (Mute::Post(7), Mute::Conversation(lee.clone()));
    for mute in [&post, &conversation, &post] {
        assert!(bench.mute(&by(&kim, 3), mute, true).await.unwrap());
    }
    assert_eq!(bench.mutes(&kim).await.unwrap(), [conversation.clone(), post.clone()]);
    let choice = async |who: &Account, mute: Option<&Mute>| {
        let (cost, choice) = bench.cost_of("choice", bench.choice(who, mute)).await;
        assert_eq!(cost, Cost { reads: 1, writes: 0 });
        let choice = choice.unwrap();
        (choice.preferences, choice.is_muted)
    };
    let (of_kim, of_lee) = (quiet.clone(), Preferences::default());
    assert_eq!(choice(&kim, Some(&post)).await, (of_kim.clone(), true));
    assert_eq!(choice(&kim, Some(&Mute::Post(8))).await, (of_kim.clone(), false));
    assert_eq!(choice(&kim, None).await, (of_kim, false));
    assert_eq!(choice(&lee, Some(&post)).await, (of_lee, false));
    let of_post = by(&lee, 3);
    assert!(bench.mute(&of_post, &post, true).await.unwrap());
    assert_eq!(choice(&lee, Some(&post)).await, (Preferences::default(), true));
    assert!(bench.mute(&by(&kim, 3), &post, false).await.unwrap());
    assert_eq!(bench.mutes(&kim).await.unwrap(), std::slice::from_ref(&conversation));

    // A resignation of the other account ends the mute of the conversation with it; who has the address next can be muted again.
    bench.erase(&bench.erasure("lee", 10), at(10)).await.unwrap();
    assert_eq!(bench.mutes(&kim).await.unwrap(), []);
    assert!(!bench.mute(&by(&kim, 9), &conversation, true).await.unwrap());
    assert!(bench.mute(&by(&kim, 11), &conversation, true).await.unwrap());

    bench.erase(&bench.erasure("kim", 20), at(20)).await.unwrap();
    assert_eq!(bench.preferences(&kim).await.unwrap().version, 0);
    assert_eq!(bench.mutes(&kim).await.unwrap(), []);
    assert_eq!(set(&kim, 19, &quiet, 0).await, Saved::Erased, "a call from before");
    assert!(!bench.mute(&by(&kim, 19), &post, true).await.unwrap());
    assert_eq!(bench.preferences(&kim).await.unwrap().version, 0);
    assert_eq!(set(&kim, 21, &quiet, 0).await, Saved::Yes, "signed up again");
}

async fn mutes_of_a_later_release_are_left_out_and_stay(bed: Bed) {
    let bench = bench(bed).await;
    let kim = account("kim");
    let by = Decision {
        account: &kim,
        authorized_at: at(1),
        at: at(1),
    };
    let (post, room) = (Mute::Post(7), Mute::Room("r-1".to_owned()));
    for mute in [&post, &room] {
        assert!(bench.mute(&by, mute, true).await.unwrap());
    }
    let rename = async |from: &str, to: &str, statement: &'static str| {
        if bench.bed.set == EngineSet::Embedded {
            return bench.bed.sql("notice", statement).await;
        }
        let client = mongodb::Client::with_uri_str(bench.bed.mongodb_url("notice")).await;
        let database = client.unwrap().default_database().unwrap();
        let mutes = database.collection::<Document>("mute");
        let renamed = mutes.update_many(doc! { "kind": from }, doc! { "$set": { "kind": to } });
        renamed.await.unwrap().modified_count
    };
    let later = "UPDATE mute SET kind = 'album' WHERE kind = 'room'";
    assert_eq!(rename("room", "album", later).await, 1);
    assert_eq!(bench.mutes(&kim).await.unwrap(), std::slice::from_ref(&post));
    let again = "UPDATE mute SET kind = 'room' WHERE kind = 'album'";
    assert_eq!(rename("album", "room", again).await, 1);
    assert_eq!(bench.mutes(&kim).await.unwrap(), [post, room]);
}

async fn unseen_devices_are_removed(bed: Bed) {
    let bench = bench(bed).await;
    bench.device("kim", Some(1), Some("phone"), 1).await;
    bench.device("kim", Some(2), Some("pad"), 1).await;
    bench.device("kim", Some(3), None, 1).await;
    bench.device("kim", Some(4), Some("watch"), 50).await;
    let seen = [
        (account("kim"), SessionId(2)),
        (account("kim"), SessionId(3)),
        (account("lee"), SessionId(9)),
    ];
    bench.seen(&seen, at(60)).await.unwrap();
    bench.seen(&seen[..1], at(55)).await.unwrap();
    assert_eq!(bench.own(&account("kim")).await.unwrap()[0].seen_at, at(60));
    let horizons = Horizons {
        notices: at(40),
        memory: at(40),
        windows: at(40),
        devices: at(40),
        gone: at(40),
    };
    bench.sweep(horizons).await.unwrap();
    assert_eq!(bench.devices("kim").await, ["watch", "pad"]);

    // The next list still has the token of the device that was removed.
    let device = |session, token: &str, since| Device {
        session: SessionId(session),
        token: token.to_owned(),
        since: at(since),
    };
    let list = DeviceList {
        account: account("kim"),
        devices: vec![device(1, "phone", 1), device(2, "pad", 1), device(4, "watch", 50)],
        sessions: None,
        at: at(70),
        seen_since: at(40),
    };
    bench.list(&list).await.unwrap();
    assert_eq!(bench.devices("kim").await, ["watch", "pad"]);
}

async fn late_lists_of_devices_change_nothing(bed: Bed) {
    let bench = bench(bed).await;
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (number, order) in orders.into_iter().enumerate() {
        let who = format!("person{number}");
        let device = |session: u64, name: &str, since| Device {
            session: SessionId(session),
            token: format!("{name} of {who}"),
            since: at(since),
        };
        let (phone, pad) = (device(1, "phone", 1), device(2, "pad", 2));
        let lists = [vec![phone.clone()], vec![phone, pad.clone()], vec![pad.clone()]];
        for delivery in ["first", "second"] {
            for index in order {
                let list = DeviceList {
                    account: account(&who),
                    devices: lists[index].clone(),
                    sessions: None,
                    seen_since: at(-1_000),
                    at: at(i64::try_from(index).unwrap() + 1),
                };
                bench.list(&list).await.unwrap();
            }
            assert_eq!(
                bench.devices(&who).await,
                [pad.token.as_str()],
                "{order:?}, {delivery} delivery"
            );
        }
    }
}

/// Case D2: the withdrawal comes before the like, between two of them, after it; delivered once or again.
async fn a_withdrawn_notice_keeps_its_number_only(bed: Bed) {
    let bench = bench(bed).await;
    let first = bench.like("lee", "kim", 10);
    let again = Notice {
        occurred_at: at(30),
        ..first.clone()
    };
    let push = |second| WaitingPush {
        event: first.event,
        ..bench.push("lee", "kim", second)
    };
    bench.withdraw(first.event, at(10), at(11)).await.unwrap();
    assert_eq!(bench.add(&first, at(12)).await.unwrap(), Added::Withdrawn);
    bench.queue(&push(10), at(12)).await.unwrap();
    assert_eq!(bench.due(13).await, []);

    // On and off and on: the first withdrawal no longer counts, in whichever order they come.
    let seq = bench.seq(&again, 31).await;
    bench.queue(&push(30), at(100)).await.unwrap();
    bench.withdraw(first.event, at(20), at(32)).await.unwrap();
    assert_eq!(bench.seq(&again, 33).await, seq);
    bench.withdraw(first.event, at(40), at(41)).await.unwrap();
    bench.withdraw(first.event, at(40), at(42)).await.unwrap();
    assert_eq!(bench.due(200).await, []);
    assert_eq!(bench.add(&again, at(43)).await.unwrap(), Added::Withdrawn);
    let other = bench.seq(&bench.like("park", "kim", 44), 44).await;
    assert_eq!(other, seq + 1, "the number of the withdrawn one is not given again");

    // Neither shown nor pushed so far, it is a new one.
    let third = Notice {
        occurred_at: at(50),
        ..first.clone()
    };
    assert_eq!(bench.seq(&third, 51).await, other + 1);
    bench.queue(&push(50), at(51)).await.unwrap();
    assert_eq!(bench.due(52).await.len(), 1);
    bench.settle(&[first.event], at(53)).await.unwrap();

    // Pushed, it stays the one that it is.
    bench.withdraw(first.event, at(60), at(61)).await.unwrap();
    let fourth = Notice {
        occurred_at: at(70),
        ..first.clone()
    };
    assert_eq!(bench.seq(&fourth, 71).await, other + 1);
    bench.queue(&push(70), at(71)).await.unwrap();
    assert_eq!(bench.due(1_000).await, []);
}

/// Counts the withdrawn notices that still name an account or have data.
async fn withdrawn_with_content(bench: &Bench) -> u64 {
    if bench.bed.set == EngineSet::Embedded {
        let found = "UPDATE notice SET withdrawn = 1 WHERE withdrawn = 1 AND (actor IS NOT NULL OR data <> '{}')";
        return bench.bed.sql("notice", found).await;
    }
    let client = mongodb::Client::with_uri_str(bench.bed.mongodb_url("notice")).await;
    let database = client.unwrap().default_database().unwrap();
    let content = [doc! { "actor": { "$ne": null } }, doc! { "data": { "$ne": "{}" } }];
    let found = doc! { "withdrawn": true, "$or": content.as_slice() };
    database
        .collection::<Document>("notice")
        .count_documents(found)
        .await
        .unwrap()
}

async fn notices_of_a_deleted_post_are_withdrawn(bed: Bed) {
    const DATE: i64 = 2_023_090_513_248_392;
    let bench = bench(bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    let other = |topic: &str, receiver: &Account, about: Option<&Account>, date: i64| Notice {
        event: bench.event(),
        receiver: receiver.clone(),
        occurred_at: at(10),
        authorized_at: None,
        content: Content::Other {
            topic: topic.to_owned(),
            data: json!({ "date": date }),
            about: about.cloned(),
        },
    };
    let of_day = |like: Notice, date: i64| Notice {
        content: Content::Like {
            liker: lee.clone(),
            known_as: "lee".to_owned(),
            date,
        },
        ..like
    };
    let gone = [
        bench.like("lee", "kim", 10),
        bench.like("park", "kim", 20),
        // The post was saved again since, under a later date of the day.
        of_day(bench.like("lee", "kim", 10), 2_023_090_500_000_000),
        other("comment", &kim, Some(&lee), DATE),
        other("bookmark", &kim, None, DATE),
        other("bookmark", &lee, Some(&kim), DATE),
        other("bookmarkCanceled", &lee, Some(&kim), DATE),
    ];
    let kept = [
        bench.like("lee", "kim", 21),
        of_day(bench.like("lee", "kim", 10), DATE + 100_000_000),
        bench.like("kim", "lee", 10),
        other("comment", &kim, Some(&lee), DATE + 100_000_000),
        other("moderation", &kim, None, DATE),
        // Of another's post of the same day.
        other("bookmark", &kim, Some(&lee), DATE),
    ];
    let push = |notice: &Notice| WaitingPush {
        event: notice.event,
        target: Target::Account(notice.receiver.clone()),
        occurred_at: notice.occurred_at,
        content: notice.content.push().unwrap(),
        ..bench.push("lee", "kim", 10)
    };
    // One notice is late: it and its push come after the deletion.
    let late = bench.like("choi", "kim", 15);
    for notice in gone.iter().chain(&kept) {
        bench.seq(notice, 21).await;
    }
    for notice in [&gone[0], &gone[1], &gone[3], &kept[0]] {
        bench.queue(&push(notice), at(100)).await.unwrap();
    }
    bench.settle(&[gone[0].event], at(25)).await.unwrap();
    for round in 0..3 {
        bench.withdraw_post(&kim, DATE, at(20), at(30)).await.unwrap();
        if round == 0 {
            assert_eq!(bench.add(&late, at(31)).await.unwrap(), Added::Withdrawn);
            bench.queue(&push(&late), at(100)).await.unwrap();
        }
        for notice in &gone {
            assert_eq!(bench.add(notice, at(31)).await.unwrap(), Added::Withdrawn, "{notice:?}");
        }
        bench.queue(&push(&gone[0]), at(100)).await.unwrap();
    }
    assert_eq!(withdrawn_with_content(&bench).await, 0, "their numbers only are kept");
    let listed = async |who: &Account| {
        let following = bench.after(who, &[], 0, 100).await.unwrap();
        let found: Vec<EventId> = following.notices.iter().map(|notice| notice.id).collect();
        assert_eq!(bench.unread(who, &[], 0, None).await.unwrap(), found.len() as u64);
        found
    };
    let expected = |who: &Account| -> Vec<EventId> {
        let of_them = kept.iter().filter(|notice| notice.receiver == *who);
        of_them.map(|notice| notice.event).collect()
    };
    assert_eq!(listed(&kim).await, expected(&kim));
    assert_eq!(listed(&lee).await, expected(&lee));
    let pushed: Vec<EventId> = bench.due(200).await.into_iter().map(|push| push.event).collect();
    assert_eq!(pushed, [kept[0].event]);

    // A post is written anew on that day, and liked by the same people: the first like of one was pushed, that of the other was not.
    let newest = bench.kept(&kim).await.unwrap().unwrap().1;
    for (number, like) in (1..).zip([&gone[0], &gone[1]]) {
        let again = Notice {
            occurred_at: at(40),
            ..like.clone()
        };
        assert_eq!(bench.seq(&again, 41).await, newest + number);
        bench.queue(&push(&again), at(300)).await.unwrap();
        bench.withdraw_post(&kim, DATE, at(20), at(42)).await.unwrap();
        assert!(listed(&kim).await.contains(&again.event));
    }
    let pushed = bench.push_groups(300).await;
    let pushed: usize = pushed.iter().map(|group| group.events.len()).sum();
    assert_eq!(pushed, 3, "with the one that was not settled");
}

/// On `MongoDB` a withdrawal is a mark, the deletion of the pushes and the update of the notices, one after the other; on `SQLite` the last two
/// are one transaction.
async fn a_withdrawal_that_crashed_between_its_steps_is_finished_by_the_next(bed: Bed) {
    const DATE: i64 = 2_023_090_513_248_392;
    if bed.set == EngineSet::Embedded {
        return;
    }
    let bench = bench(bed).await;
    let client = mongodb::Client::with_uri_str(bench.bed.mongodb_url("notice"));
    let database = client.await.unwrap().default_database().unwrap();
    let [marks, pushes] = ["withdrawal", "push"].map(|name| database.collection::<Document>(name));
    let mark = async |id: EventId| {
        let mark = doc! {
            "_id": id.to_string(),
            "withdrawn_until": at(20).as_millisecond(),
            "stored_at": at(20).as_millisecond(),
        };
        marks.insert_one(mark).await.unwrap();
    };
    for (number, (of_post, pushes_deleted)) in (0..).zip([(false, false), (false, true), (true, false), (true, true)]) {
        let author = account(&format!("author{number}"));
        let like = Notice {
            receiver: author.clone(),
            ..bench.like("lee", "kim", 10)
        };
        let seq = bench.seq(&like, 11).await;
        bench.queue(&of_notice(&bench, &like), at(100)).await.unwrap();
        if of_post {
            // What was pushed before is not the notice of the next post of that day.
            bench.settle(&[like.event], at(12)).await.unwrap();
        }

        mark(if of_post { post_id(&author, DATE) } else { like.event }).await;
        if pushes_deleted {
            let of_like = doc! { "_id": like.event.to_string() };
            assert_eq!(pushes.delete_one(of_like).await.unwrap().deleted_count, 1);
        }
        // The crash. Both records may be read again, in any order.
        let case = format!("of a post: {of_post}, pushes deleted: {pushes_deleted}");
        assert_eq!(bench.add(&like, at(30)).await.unwrap(), Added::Withdrawn, "{case}");
        bench.queue(&of_notice(&bench, &like), at(100)).await.unwrap();
        for _ in 0..2 {
            if of_post {
                bench.withdraw_post(&author, DATE, at(20), at(31)).await.unwrap();
            } else {
                bench.withdraw(like.event, at(20), at(31)).await.unwrap();
            }
        }
        assert_eq!(bench.unread(&author, &[], 0, None).await.unwrap(), 0, "{case}");
        assert_eq!(bench.due(200).await, [], "{case}");
        assert_eq!(bench.kept(&author).await.unwrap(), Some((seq, seq)), "{case}");
        let again = Notice {
            occurred_at: at(40),
            ..like
        };
        assert_eq!(bench.seq(&again, 41).await, seq + 1, "{case}");
        bench.queue(&of_notice(&bench, &again), at(100)).await.unwrap();
        let due = bench.due(200).await;
        assert_eq!(due.len(), 1, "{case}");
        bench.settle(&[again.event], at(201)).await.unwrap();
    }
}

async fn a_long_inbox_is_withdrawn_in_parts(bed: Bed) {
    let bench = bench(bed).await;
    let likes: Vec<Notice> = (0..WITHDRAWN_AT_ONCE + 2)
        .map(|number| bench.like(&format!("liker{number}"), "kim", 10))
        .collect();
    for likes in likes.iter().collect::<Vec<_>>().chunks(STORED_AT_ONCE) {
        bench.add_all(likes, at(10)).await.unwrap();
    }
    let kim = account("kim");
    bench
        .withdraw_post(&kim, 2_023_090_513_248_392, at(20), at(20))
        .await
        .unwrap();
    assert_eq!(bench.unread(&kim, &[], 0, None).await.unwrap(), 0);
}

/// The records of a post that so many like within a minute, as a consumer gets them, and one of another account behind most of them.
async fn likes_of_thousands_and_a_notice_of_another_take_few_statements(bed: Bed) {
    let bench = bench(bed).await;
    let count = match bench.bed.set {
        EngineSet::Embedded => 10_000,
        // The server of the tests is slow.
        EngineSet::Real => 90,
    };
    let mut notices: Vec<Notice> = (0..count)
        .map(|number| bench.like(&format!("liker{number}"), "kim", 10))
        .collect();
    notices.insert(count - 10, bench.like("lee", "park", 10));
    let pushes: Vec<WaitingPush> = notices.iter().map(|notice| of_notice(&bench, notice)).collect();
    let (notices, pushes): (Vec<_>, Vec<_>) = (
        notices.iter().collect(),
        pushes.iter().map(|push| (push, at(100))).collect(),
    );
    let store = async || {
        for (notices, pushes) in notices.chunks(STORED_AT_ONCE).zip(pushes.chunks(STORED_AT_ONCE)) {
            let added = bench.add_all(notices, at(10)).await.unwrap();
            assert!(added.into_iter().all(Added::is_kept));
            bench.queue_all(pushes).await.unwrap();
        }
    };
    let batches = notices.len().div_ceil(STORED_AT_ONCE);
    let expected = |reads, writes| Cost {
        reads: reads * batches,
        writes: writes * batches,
    };
    // Without transactions `MongoDB` looks for erasures and withdrawals before and after each insert, and for the last number of each receiver.
    let (expected_first, expected_again) = match bench.bed.set {
        EngineSet::Embedded => (expected(7, 2), expected(3, 1)),
        EngineSet::Real => (expected(12, 2), expected(8, 0)),
    };
    let (first, ()) = bench.cost_of("likes", store()).await;
    assert_eq!(first, expected_first);
    let (again, ()) = bench.cost_of("redelivery", store()).await;
    assert_eq!(again, expected_again);

    for (who, expected) in [("kim", count), ("park", 1)] {
        let unread = bench.unread(&account(who), &[], 0, None).await.unwrap();
        assert_eq!(usize::try_from(unread).unwrap(), expected, "{who}");
        let (lowest, highest) = bench.kept(&account(who)).await.unwrap().unwrap();
        assert_eq!(usize::try_from(highest - lowest).unwrap(), expected - 1, "no gap");
    }
    let following = bench.after(&account("kim"), &[], 0, 100).await.unwrap();
    let of_kim = notices.iter().filter(|notice| notice.receiver == account("kim"));
    let first_of_kim = of_kim.take(100).map(|notice| notice.event);
    assert!(
        following.notices.iter().map(|notice| notice.id).eq(first_of_kim),
        "in the order of the records"
    );
    let mut groups: Vec<usize> = bench
        .push_groups(100)
        .await
        .iter()
        .map(|group| group.events.len())
        .collect();
    groups.sort_unstable();
    assert_eq!(groups, [1, count]);

    // All of them are taken back.
    let withdrawn: Vec<_> = notices.iter().map(|notice| (notice.event, at(10))).collect();
    let withdrawals = async {
        for withdrawn in withdrawn.chunks(STORED_AT_ONCE) {
            bench.withdraw_all(withdrawn, at(110)).await.unwrap();
        }
    };
    let (cost, ()) = bench.cost_of("withdrawals", withdrawals).await;
    assert_eq!(cost, expected(0, 3));
    assert_eq!(bench.unread(&account("kim"), &[], 0, None).await.unwrap(), 0);
    assert_eq!(bench.push_groups(1_000).await, []);
}

/// On `MongoDB` another replica may add a notice between the look-up and the insert of several: the same one, or another one of the account. The
/// insert ends there, and what follows gets the next numbers, in the order of the records. On `SQLite` all is one transaction.
async fn notices_keep_their_order_when_another_replica_adds_one_meanwhile(bed: Bed) {
    if bed.set == EngineSet::Embedded {
        return;
    }
    let other = bench(bed).await;
    let meanwhile: Arc<Mutex<Option<Notice>>> = Arc::default();
    let (store, notice) = (other.opened.store.clone(), meanwhile.clone());
    let handler = EventHandler::callback(move |event| {
        let CommandEvent::Started(event) = event else {
            return;
        };
        let is_insert = event
            .command
            .get_str("insert")
            .is_ok_and(|collection| collection == "notice");
        let notice = is_insert.then(|| notice.lock().take()).flatten();
        if let Some(notice) = notice {
            let added = async { store.add(&notice, at(30)).await.expect("the notice is added") };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(added));
        }
    });
    let inbox = other
        .bed
        .settings::<Settings>("notice", DEFAULTS, &[])
        .await
        .get()
        .inbox
        .clone();
    let opened = mongo::open_with(&inbox, &other.context, |options| {
        options.command_event_handler = Some(handler);
    });
    let replica = opened.await.unwrap().store;

    for (receiver, elsewhere, is_same) in [("kim", "jung", true), ("kang", "han", false)] {
        let first = other.like("lee", elsewhere, 10);
        let [second, third] = ["lee", "park"].map(|liker| other.like(liker, receiver, 10));
        let added_meanwhile = if is_same {
            second.clone()
        } else {
            other.like("choi", receiver, 10)
        };
        *meanwhile.lock() = Some(added_meanwhile.clone());
        let notices = [&first, &second, &third];
        let added = replica.add_all(&notices, at(30)).await.unwrap();
        assert!(meanwhile.lock().is_none(), "it was added before the insert");
        assert!(added.iter().all(|added| added.is_kept()), "{added:?}");
        assert_eq!(other.add_all(&notices, at(31)).await.unwrap(), added, "delivered again");

        let stored = async |who: &str| other.after(&account(who), &[], 0, 10).await.unwrap().notices;
        let of_receiver = stored(receiver).await;
        let order: Vec<EventId> = of_receiver.iter().map(|notice| notice.id).collect();
        let mut expected = vec![added_meanwhile.event, second.event, third.event];
        expected.dedup();
        assert_eq!(order, expected);
        let numbers: Vec<i64> = of_receiver.iter().map(|notice| notice.seq).collect();
        assert!(
            numbers.is_sorted_by(|one, next| one + 1 == *next),
            "no gap: {numbers:?}"
        );
        assert_eq!(stored(elsewhere).await.len(), 1);
    }
}

async fn each_notice_is_withdrawn_up_to_its_own_time(bed: Bed) {
    let bench = bench(bed).await;
    let likes = [("lee", 10), ("park", 20), ("choi", 30)].map(|(liker, second)| bench.like(liker, "kim", second));
    for like in &likes {
        bench.seq(like, 31).await;
        bench.queue(&of_notice(&bench, like), at(100)).await.unwrap();
    }
    let [lee, park, choi] = likes.each_ref().map(|like| like.event);
    // One of them twice.
    let withdrawn = [(lee, at(10)), (park, at(15)), (choi, at(30)), (choi, at(5))];
    for _ in 0..2 {
        bench.withdraw_all(&withdrawn, at(40)).await.unwrap();
    }
    bench.withdraw_all(&[], at(40)).await.unwrap();
    let following = bench.after(&account("kim"), &[], 0, 10).await.unwrap();
    let listed: Vec<EventId> = following.notices.iter().map(|notice| notice.id).collect();
    assert_eq!(listed, [park]);
    let due: Vec<EventId> = bench.due(100).await.into_iter().map(|push| push.event).collect();
    assert_eq!(due, [park]);
    for like in [&likes[0], &likes[2]] {
        assert_eq!(bench.add(like, at(41)).await.unwrap(), Added::Withdrawn);
    }
}

/// Returns the push of a like.
fn of_notice(bench: &Bench, notice: &Notice) -> WaitingPush {
    WaitingPush {
        event: notice.event,
        target: Target::Account(notice.receiver.clone()),
        actor: notice.content.actor().cloned(),
        content: notice.content.push().unwrap(),
        occurred_at: notice.occurred_at,
        authorized_at: notice.authorized_at,
        ..bench.push("lee", "kim", 10)
    }
}

async fn each_notice_of_several_is_answered_by_itself(bed: Bed) {
    let bench = bench(bed).await;
    let known = bench.like("lee", "kim", 10);
    let seq = bench.seq(&known, 11).await;
    let withdrawn = bench.like("park", "kim", 10);
    bench.withdraw(withdrawn.event, at(10), at(11)).await.unwrap();
    let erased = bench.like("choi", "kim", 10);
    bench.erase(&bench.erasure("choi", 10), at(11)).await.unwrap();
    // It was pushed, taken back, and happens again.
    let earlier = bench.like("jung", "kim", 10);
    assert_eq!(bench.seq(&earlier, 11).await, seq + 1);
    bench.settle(&[earlier.event], at(12)).await.unwrap();
    bench.withdraw(earlier.event, at(13), at(13)).await.unwrap();
    let back = Notice {
        occurred_at: at(14),
        ..earlier
    };
    // A withdrawal from before no longer counts after it happened again.
    let later = Notice {
        occurred_at: at(20),
        ..known.clone()
    };
    let (first, second) = (bench.like("kang", "kim", 15), bench.like("kang", "lee", 15));
    let notices = [&first, &later, &withdrawn, &erased, &back, &second];
    let added = bench.add_all(&notices, at(30)).await.unwrap();
    let kept = |seq, stored_at| Added::Kept {
        seq,
        stored_at: at(stored_at),
    };
    let Added::Kept { seq: of_lee, .. } = added[5] else {
        panic!("{added:?}")
    };
    let expected = [
        kept(seq + 2, 30),
        kept(seq, 11),
        Added::Withdrawn,
        Added::Erased,
        kept(seq + 1, 11),
        kept(of_lee, 30),
    ];
    assert_eq!(added, expected);
    assert_eq!(
        bench.add_all(&notices, at(40)).await.unwrap(),
        expected,
        "delivered again"
    );
    bench.withdraw(known.event, at(15), at(41)).await.unwrap();
    let following = bench.after(&account("kim"), &[], 0, 10).await.unwrap();
    let numbers: Vec<i64> = following.notices.iter().map(|notice| notice.seq).collect();
    assert_eq!(numbers, [seq, seq + 1, seq + 2]);

    let pushes = notices.map(|notice| (of_notice(&bench, notice), at(100)));
    let pushes = pushes.each_ref().map(|(push, due)| (push, *due));
    for _ in 0..2 {
        bench.queue_all(&pushes).await.unwrap();
    }
    let groups = bench.push_groups(100).await;
    let mut waiting: Vec<EventId> = groups.into_iter().flat_map(|group| group.events).collect();
    waiting.sort_unstable();
    let mut expected = [first.event, known.event, second.event];
    expected.sort_unstable();
    assert_eq!(waiting, expected);
}

async fn the_number_of_an_erased_notice_is_not_given_again(bed: Bed) {
    let bench = bench(bed).await;
    let like = bench.like("lee", "kim", 1);
    let seq = bench.seq(&like, 1).await;
    bench.settle(&[like.event], at(2)).await.unwrap();
    bench.erase(&bench.erasure("lee", 10), at(11)).await.unwrap();
    assert_eq!(bench.add(&like, at(12)).await.unwrap(), Added::Erased);
    let next = bench.seq(&bench.like("park", "kim", 13), 13).await;
    assert_eq!(next, seq + 1);

    // The one who signs up again with the address likes the same post: that is another notice.
    let again = Notice {
        occurred_at: at(20),
        ..like
    };
    assert_eq!(bench.seq(&again, 21).await, next + 1);
    assert!(!bench.is_settled(again.event).await.unwrap());
}

/// Kim resigned at second 10. Other services took a token of second 5 for some seconds more, and the clocks of some are behind auth's.
async fn what_an_older_token_did_after_a_resignation_is_erased_in_any_order(bed: Bed) {
    let bench = bench(bed).await;
    let (kim, park) = (account("kim"), account("park"));
    let caused = |to: &str, occurred: i64, authorized: i64| Notice {
        authorized_at: Some(at(authorized)),
        ..bench.like("kim", to, occurred)
    };
    let own = |occurred: i64, authorized: i64| Notice {
        content: Content::Other {
            topic: "bookmark".to_owned(),
            data: json!({ "nickname": "park", "date": occurred }),
            about: Some(park.clone()),
        },
        authorized_at: Some(at(authorized)),
        ..bench.like("park", "kim", occurred)
    };
    let comment = |to: &str, occurred: i64, authorized: i64| Notice {
        content: Content::Other {
            topic: "comment".to_owned(),
            data: json!({ "commenter": "kim", "date": occurred }),
            about: Some(kim.clone()),
        },
        ..caused(to, occurred, authorized)
    };
    let early = [caused("park", 11, 5), comment("park", 12, 5), own(12, 5)];
    let late = [caused("park", 13, 5), comment("park", 13, 5), own(13, 5)];
    // Of the one who signed up again with the address at second 12.
    let again = [caused("park", 20, 12), comment("park", 9, 12), own(9, 12)];
    // One like is repeated by the next owner of the address before the resignation comes.
    let repeated = caused("park", 11, 5);
    let by_next = Notice {
        occurred_at: at(15),
        authorized_at: Some(at(12)),
        ..repeated.clone()
    };
    // Another one is, by a replica of the release before.
    let once = caused("park", 11, 5);
    let unknown = Notice {
        occurred_at: at(15),
        authorized_at: None,
        ..once.clone()
    };
    let pushed = |notices: &[Notice]| -> Vec<WaitingPush> {
        let pushed = notices.iter().filter(|notice| notice.content.push().is_some());
        pushed.map(|notice| of_notice(&bench, notice)).collect()
    };
    let queue = async |notices: &[Notice]| {
        for push in pushed(notices) {
            bench.queue(&push, at(30)).await.unwrap();
        }
    };
    let twice = [&repeated, &by_next, &once, &unknown];
    for notice in early.iter().chain(twice).chain(&again) {
        bench.seq(notice, 20).await;
    }
    queue(&early).await;
    queue(&twice.map(Clone::clone)).await;
    queue(&again).await;
    bench.erase(&bench.erasure("kim", 10), at(20)).await.unwrap();

    for notice in early.iter().chain(&late) {
        assert_eq!(bench.add(notice, at(21)).await.unwrap(), Added::Erased, "{notice:?}");
    }
    queue(&early).await;
    queue(&late).await;
    let shown = async |account: &Account| {
        let shown = bench.after(account, &[], 0, 100).await.unwrap().notices;
        shown.into_iter().map(|notice| notice.id).collect::<HashSet<_>>()
    };
    let ids = |notices: &[&Notice]| notices.iter().map(|notice| notice.event).collect::<HashSet<_>>();
    assert_eq!(shown(&park).await, ids(&[&again[0], &again[1], &by_next, &unknown]));
    assert_eq!(shown(&kim).await, ids(&[&again[2]]));
    let due: HashSet<EventId> = bench
        .push_groups(30)
        .await
        .into_iter()
        .flat_map(|group| group.events)
        .collect();
    assert_eq!(due, ids(&[&again[0], &again[1], &by_next, &unknown]));
}

/// Others write to two accounts in the seconds after their resignations. One address has a next account later.
async fn what_others_did_after_a_resignation_is_erased_unless_the_address_is_taken_again(bed: Bed) {
    let bench = bench(bed).await;
    let conversation = |account_of: &str| Conversation {
        account: account("park"),
        sender: account(account_of),
    };
    let read_of = EventId(uuid::Uuid::from_u128(90));
    for name in ["kim", "lee"] {
        // Before the resignation is known here, and after.
        bench.seq(&bench.like("park", name, 11), 11).await;
        bench.erase(&bench.erasure(name, 10), at(12)).await.unwrap();
        bench.seq(&bench.like("park", name, 12), 12).await;
        let number = if name == "kim" { 1 } else { 2 };
        assert!(bench.add_message(&message(number, name, "park", 12)).await.unwrap());
        bench
            .raise_read(&conversation(name), read_of, reading(12))
            .await
            .unwrap();
    }
    let directory = &bench.opened.directory;
    directory
        .set_nickname(&account("lee"), Some("lee"), at(20))
        .await
        .unwrap();
    bench.sweep_gone(9).await;
    assert!(
        bench.kept(&account("kim")).await.unwrap().is_some(),
        "it may be taken again"
    );
    for _ in 0..2 {
        bench.sweep_gone(30).await;
        assert_eq!(bench.kept(&account("kim")).await.unwrap(), None);
        assert_eq!(bench.unread_messages(&account("kim"), &[], None).await.unwrap(), 0);
        assert_eq!(bench.after(&account("lee"), &[], 0, 10).await.unwrap().notices.len(), 2);
        assert_eq!(bench.unread_messages(&account("lee"), &[], None).await.unwrap(), 1);
    }
    // Of kim nothing is read any more, of lee everything so far.
    for (name, number, is_unread) in [("kim", 3, true), ("lee", 4, false)] {
        let late = message(number, "park", name, 40);
        assert_eq!(bench.add_message(&late).await.unwrap(), is_unread, "{name}");
    }
}

/// Kim resigned at second 10, and another person has the address since second 20: for long its name does not come.
async fn a_next_account_without_a_name_keeps_what_is_its_own(bed: Bed) {
    let bench = bench(bed).await;
    let (kim, lee, park) = (account("kim"), account("lee"), account("park"));
    bench.erase(&bench.erasure("kim", 10), at(12)).await.unwrap();
    bench.seq(&bench.like("park", "kim", 12), 12).await;
    // Lee's own doing, about a post of the one who has resigned.
    let bookmark = Notice {
        content: Content::Other {
            topic: "bookmark".to_owned(),
            data: json!({ "nickname": "kim", "date": 12 }),
            about: Some(kim.clone()),
        },
        ..bench.like("kim", "lee", 12)
    };
    bench.seq(&bookmark, 12).await;
    bench.device("kim", Some(1), Some("phone"), 20).await;
    let (of_kim, for_kim) = (bench.like("kim", "park", 20), bench.like("park", "kim", 10_000));
    bench.seq(&of_kim, 20).await;
    bench.seq(&for_kim, 10_000).await;
    bench.sweep_gone(20_000).await;

    let shown = async |account: &Account| {
        let shown = bench.after(account, &[], 0, 100).await.unwrap().notices;
        shown.into_iter().map(|notice| notice.id).collect::<Vec<_>>()
    };
    assert_eq!(shown(&kim).await, [for_kim.event]);
    assert_eq!(shown(&park).await, [of_kim.event]);
    assert_eq!(shown(&lee).await, []);
    assert_eq!(bench.devices("kim").await, ["phone"]);
    // What is read later of the next account is not older than a resignation.
    bench.seq(&bench.like("kim", "park", 30), 20_000).await;
    let directory = &bench.opened.directory;
    directory.set_nickname(&kim, Some("kimchi"), at(20)).await.unwrap();
    assert_eq!(
        directory.nicknames_of(&[kim]).await.unwrap(),
        [Some("kimchi".to_owned())]
    );
}

/// As above, of messages and of what was read.
async fn messages_of_an_older_token_are_erased_in_any_order(bed: Bed) {
    let bench = bench(bed).await;
    let (kim, park) = (account("kim"), account("park"));
    let sent = |number: u128, occurred: i64, authorized: i64| ReceivedMessage {
        authorized_at: Some(at(authorized)),
        ..message(number, "park", "kim", occurred)
    };
    let in_room = |number: i64, occurred: i64, authorized: i64| RoomMessage {
        authorized_at: Some(at(authorized)),
        ..room_message(number, "kim", &["park"], occurred)
    };
    let late = |second: i64| Reading {
        at: at(second),
        authorized_at: at(5),
    };
    let received = message(9, "kim", "park", 20);
    let read = async |second: i64| {
        let conversation = &received.conversation;
        bench.raise_read(conversation, received.id, late(second)).await.unwrap();
        bench.raise_room_read(&own_room("kim"), 9, late(second)).await.unwrap();
    };
    assert!(bench.add_message(&sent(1, 11, 5)).await.unwrap());
    assert!(bench.add_message(&sent(2, 9, 12)).await.unwrap());
    assert_eq!(bench.add_room_message(&in_room(11, 11, 5)).await.unwrap().len(), 1);
    assert_eq!(bench.add_room_message(&in_room(12, 9, 12)).await.unwrap().len(), 1);
    read(11).await;
    let seq = bench.seq(&bench.like("park", "kim", 20), 20).await;
    let older = Decision {
        at: at(12),
        ..by(&kim, 5)
    };
    assert_eq!(bench.read(&older, seq).await.unwrap().len(), 1);

    bench.erase(&bench.erasure("kim", 10), at(20)).await.unwrap();
    assert!(!bench.add_message(&sent(1, 11, 5)).await.unwrap());
    assert!(!bench.add_message(&sent(3, 13, 5)).await.unwrap());
    assert!(bench.add_room_message(&in_room(13, 13, 5)).await.unwrap().is_empty());
    read(13).await;
    assert_eq!(bench.read(&older, seq).await.unwrap(), []);
    assert_eq!(bench.read_state(&kim).await.unwrap(), ReadState::default());
    assert_eq!(
        bench.unread_messages(&park, &[], None).await.unwrap(),
        2,
        "of the next owner"
    );
    // What was read then is not read by the next owner of the address.
    assert!(bench.add_message(&received).await.unwrap());
    let unread = bench.add_room_message(&room_message(9, "park", &["kim"], 20)).await;
    assert_eq!(unread.unwrap().len(), 1);
    // A late receipt takes nothing of what the next owner has read.
    let of_choi = message(10, "kim", "choi", 20);
    for (up_to, number, by) in [(10, 20, reading(12)), (8, 8, late(16))] {
        let up_to = EventId(uuid::Uuid::from_u128(up_to));
        bench.raise_read(&of_choi.conversation, up_to, by).await.unwrap();
        bench.raise_room_read(&own_room("kim"), number, by).await.unwrap();
    }
    assert!(!bench.add_message(&of_choi).await.unwrap());
    let unread = bench.add_room_message(&room_message(19, "park", &["kim"], 20)).await;
    assert!(unread.unwrap().is_empty());
}

async fn pushes_of_one_thread_are_taken_together(bed: Bed) {
    let bench = bench(bed).await;
    let of_post = |actor, second| WaitingPush {
        content: PushContent::Like { date: 1 },
        ..bench.push(actor, "kim", second)
    };
    let likes = [of_post("lee", 1), of_post("park", 2), of_post("lee", 3)];
    let other = bench.push("lee", "kim", 4);
    let later = of_post("choi", 5);
    for push in likes.iter().chain([&other]) {
        bench.queue(push, at(10)).await.unwrap();
    }
    bench.queue(&later, at(15)).await.unwrap();

    let groups = bench.push_groups(10).await;
    assert_eq!(groups.len(), 2, "{groups:?}");
    let [group, single] = &groups[..] else { unreachable!() };
    assert_eq!(
        (group.events.len(), group.people(), group.newest.event),
        (3, 2, likes[2].event)
    );
    assert_eq!(group.thread, likes[0].thread());
    assert_eq!(
        (single.events.as_slice(), single.people()),
        ([other.event].as_slice(), 1)
    );
    assert_eq!(bench.push_groups(11).await, [], "another replica has them");

    // A later one takes those along that were postponed, except those that a device has.
    bench.sent(&[likes[0].event], "phone").await.unwrap();
    let events: Vec<_> = likes.iter().map(|push| push.event).collect();
    bench.postpone(&events, at(60)).await.unwrap();
    let groups = bench.push_groups(15).await;
    assert_eq!(groups.len(), 1);
    assert_eq!((groups[0].events.len(), groups[0].newest.event), (3, later.event));
    assert_eq!(groups[0].newest.attempts, 2);

    // A deferred push waits in the other thread, as if it had not been tried.
    let kind = likes[0].kind_thread();
    bench.defer(&groups[0].events, &kind, at(59)).await.unwrap();
    bench.defer(&[other.event], &kind, at(59)).await.unwrap();
    let groups = bench.push_groups(59).await;
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!((groups[0].events.len(), &groups[0].thread), (4, &kind));
    assert_eq!(groups[0].newest.attempts, 1);
    bench.settle(&groups[0].events, at(59)).await.unwrap();
    let groups = bench.push_groups(60).await;
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].newest.sent, ["phone"]);
    bench.settle(&groups[0].events, at(60)).await.unwrap();
    assert_eq!(bench.push_groups(10_000).await, []);
}

/// A like that is due beyond them was deferred.
async fn likes_that_wait_are_taken_with_a_due_one_of_their_post(bed: Bed) {
    let bench = bench(bed).await;
    let of_post = |actor, date, second| WaitingPush {
        content: PushContent::Like { date },
        ..bench.push(actor, "kim", second)
    };
    let likes = [
        of_post("lee", 1, 1),
        of_post("park", 1, 2),
        of_post("choi", 1, 3),
        of_post("lee", 2, 4),
    ];
    for (like, due) in likes.iter().zip([10, 15, 16, 15]) {
        bench.queue(like, at(due)).await.unwrap();
    }
    let taken = async |now| {
        let take = Take {
            likes_until: at(15),
            ..take(now, now + 60, 10)
        };
        let groups = bench.take_due(take).await.unwrap();
        groups.into_iter().map(|group| group.events).collect::<Vec<_>>()
    };
    let events = likes.each_ref().map(|like| like.event);
    assert!(taken(9).await.is_empty());
    assert_eq!(taken(10).await, [[events[1], events[0]]]);
    assert!(taken(11).await.is_empty(), "they are taken");
    assert_eq!(taken(16).await, [[events[3]], [events[2]]]);
}

/// Forty threads with a push each are taken by as many statements as one. A replica that is killed after the take loses none: they are due again
/// after the lease.
async fn due_pushes_of_many_threads_are_taken_at_once_in_order(bed: Bed) {
    let bench = bench(bed).await;
    let pushes: Vec<WaitingPush> = (0..40).map(|number| bench.push("lee", "kim", number)).collect();
    // The later ten are due first; of those that are due at the same time the earlier ones come first.
    let due = |number: usize| if number < 30 { at(100) } else { at(90) };
    let waits: Vec<_> = pushes
        .iter()
        .enumerate()
        .map(|(number, push)| (push, due(number)))
        .collect();
    bench.queue_all(&waits).await.unwrap();
    let events = |numbers: std::ops::Range<usize>| pushes[numbers].iter().map(|push| push.event);
    let expected: Vec<EventId> = events(30..40).chain(events(0..30)).collect();

    let taken = async |second, limit| {
        let taken = bench.take_due(take(second, second + 60, limit));
        let (cost, groups) = bench.cost_of("take", taken).await;
        let groups = groups.unwrap();
        let attempts: Vec<u32> = groups.iter().map(|group| group.newest.attempts).collect();
        let events: Vec<EventId> = groups.into_iter().flat_map(|group| group.events).collect();
        (cost, events, attempts)
    };
    let cost = |reads, writes| Cost { reads, writes };
    assert_eq!(taken(100, 1).await, (cost(3, 1), expected[..1].to_vec(), vec![1]));
    assert_eq!(
        taken(100, 30).await,
        (cost(3, 1), expected[1..31].to_vec(), vec![1; 30])
    );
    assert_eq!(taken(100, 30).await, (cost(3, 1), expected[31..].to_vec(), vec![1; 9]));
    assert_eq!(
        taken(159, 30).await,
        (cost(1, 0), Vec::new(), Vec::new()),
        "the leases last"
    );

    // One was sent; the replica is killed before it has sent the others.
    bench.settle(&expected[..1], at(101)).await.unwrap();
    let (_, mut again, attempts) = taken(160, 50).await;
    assert_eq!(attempts, [2; 39]);
    again.sort_unstable();
    let mut left = expected[1..].to_vec();
    left.sort_unstable();
    assert_eq!(again, left);
}

/// The read of due pushes sees those of the long thread only.
async fn a_long_thread_hides_no_other(bed: Bed) {
    let bench = bench(bed).await;
    let count = DUE_AT_ONCE as usize + 1;
    let long: Vec<WaitingPush> = (0..count)
        .map(|_| WaitingPush {
            content: PushContent::Like { date: 1 },
            ..bench.push("lee", "kim", 1)
        })
        .collect();
    let other = bench.push("lee", "park", 2);
    for pushes in long.chunks(STORED_AT_ONCE).chain([std::slice::from_ref(&other)]) {
        let waits: Vec<_> = pushes.iter().map(|push| (push, at(10))).collect();
        bench.queue_all(&waits).await.unwrap();
    }
    let groups = bench.take_due(take(10, 70, 2)).await.unwrap();
    let counts: Vec<usize> = groups.iter().map(|group| group.events.len()).collect();
    assert_eq!(counts, [count, 1]);
    // What was sent, postponed or settled together is written together.
    let long = &groups[0].events;
    let writes = async {
        assert!(bench.sent(long, "phone").await.unwrap());
        bench.postpone(long, at(20)).await.unwrap();
        bench.defer(long, &groups[0].thread, at(20)).await.unwrap();
        bench.settle(long, at(20)).await.unwrap();
    };
    let (cost, ()) = bench.cost_of("group", writes).await;
    let statements = match bench.bed.set {
        EngineSet::Embedded => count.div_ceil(STORED_AT_ONCE),
        EngineSet::Real => 1,
    };
    assert_eq!((cost.reads, cost.writes), (0, 4 * statements));
    assert!(bench.is_settled(long[count - 1]).await.unwrap());
    let (settled, waiting) = (long[0], groups[1].events[0]);
    assert!(
        !bench.sent(&[settled, waiting], "phone").await.unwrap(),
        "one does not wait"
    );
    assert!(bench.sent(&[waiting], "phone").await.unwrap());
}

/// The rest of a thread that has more pushes than a group stays due: it is not read, and another take has it at once.
async fn a_thread_of_more_than_a_group_is_taken_in_parts(bed: Bed) {
    let bench = bench(bed).await;
    let count = MOST_GROUPED as usize + 1;
    let long: Vec<WaitingPush> = (0..count)
        .map(|_| WaitingPush {
            content: PushContent::Like { date: 1 },
            ..bench.push("lee", "kim", 1)
        })
        .collect();
    for pushes in long.chunks(STORED_AT_ONCE) {
        let waits: Vec<_> = pushes.iter().map(|push| (push, at(10))).collect();
        bench.queue_all(&waits).await.unwrap();
    }
    let mut taken = HashSet::new();
    for expected in [count - 1, 1, 0] {
        let groups = bench.take_due(take(10, 70, 1)).await.unwrap();
        let events: Vec<EventId> = groups.into_iter().flat_map(|group| group.events).collect();
        assert_eq!(events.len(), expected);
        taken.extend(events);
    }
    assert_eq!(taken.len(), count);
}

/// Notices without a push are settled, too: one that is queued late is not sent.
async fn an_inbox_is_settled_by_few_statements(bed: Bed) {
    let bench = bench(bed).await;
    let waiting = bench.push("lee", "kim", 1);
    bench.queue(&waiting, at(10)).await.unwrap();
    let late = bench.push("lee", "kim", 2);
    let others = (0..20).map(|_| bench.event());
    let events: Vec<EventId> = [waiting.event, late.event].into_iter().chain(others).collect();
    let (cost, settled) = bench.cost_of("settle", bench.settle(&events, at(5))).await;
    settled.unwrap();
    let writes = match bench.bed.set {
        EngineSet::Embedded => 1,
        // Updates what waits, inserts the others, and updates what another replica has queued meanwhile.
        EngineSet::Real => 3,
    };
    assert_eq!(cost, Cost { reads: 0, writes });
    bench.queue(&late, at(10)).await.unwrap();
    assert_eq!(bench.due(100).await, []);
    for event in events {
        assert!(bench.is_settled(event).await.unwrap());
    }
}

async fn pushes_of_a_thread_are_counted_by_the_minute(bed: Bed) {
    let bench = bench(bed).await;
    let (one, other) = (
        bench.push("lee", "kim", 1).thread(),
        bench.push("lee", "park", 1).thread(),
    );
    assert_eq!(bench.admit(&one, 2, at(0)).await.unwrap(), None);
    assert_eq!(bench.admit(&one, 2, at(30)).await.unwrap(), None);
    assert_eq!(bench.admit(&one, 2, at(31)).await.unwrap(), Some(at(60)));
    assert_eq!(bench.admit(&other, 2, at(31)).await.unwrap(), None);
    assert_eq!(bench.admit(&one, 2, at(59)).await.unwrap(), Some(at(60)));
    assert_eq!(bench.admit(&one, 2, at(60)).await.unwrap(), None);
    let many = futures::future::join_all((0..10).map(|_| bench.admit(&one, 4, at(61)))).await;
    let admitted = many.into_iter().filter(|admitted| matches!(admitted, Ok(None))).count();
    assert_eq!(admitted, 3, "no replica counts past another");
    // Of a window that does not exist yet, every racer gets an answer, too.
    for number in 0..20 {
        let new = bench.push("lee", &format!("new{number}"), 1).thread();
        let many = futures::future::join_all((0..10).map(|_| bench.admit(&new, 4, at(61)))).await;
        let answers: Vec<_> = many.into_iter().map(Result::unwrap).collect();
        let admitted = answers.iter().filter(|over| over.is_none()).count();
        assert_eq!(admitted, 4, "{answers:?}");
    }
}

async fn an_inbox_is_paged_in_groups_and_read_up_to_a_number(bed: Bed) {
    let bench = bench(bed).await;
    let kim = account("kim");
    let like = |liker: &str, date, second| Notice {
        content: Content::Like {
            liker: account(liker),
            known_as: liker.to_owned(),
            date,
        },
        ..bench.like(liker, "kim", second)
    };
    let comment = Notice {
        content: Content::Other {
            topic: "comment".into(),
            data: serde_json::json!({ "text": "hi" }),
            about: None,
        },
        ..bench.like("lee", "kim", 4)
    };
    let notices = [
        like("lee", 1, 1),
        like("park", 1, 2),
        like("lee", 2, 3),
        comment,
        like("choi", 1, 5),
    ];
    let mut numbers = Vec::new();
    for (notice, second) in notices.iter().zip(1..) {
        numbers.push(bench.seq(notice, second).await);
    }
    bench.seq(&bench.like("lee", "other", 6), 6).await;
    let listing = |before, limit| Listing {
        account: &kim,
        hidden: &[],
        before,
        limit,
    };
    let shape = |groups: &[NoticeGroup]| -> Vec<(i64, u64)> {
        groups.iter().map(|group| (group.newest.seq, group.count)).collect()
    };
    let all = bench.groups(&listing(i64::MAX, 10)).await.unwrap();
    assert_eq!(shape(&all), [(numbers[4], 3), (numbers[3], 1), (numbers[2], 1)]);
    assert_eq!(all[0].newest.like_date(), Some(1));
    assert_eq!(all[0].newest.actor, Some(account("choi")));
    assert_eq!(all[1].newest.data["text"], "hi");
    let page = bench.groups(&listing(numbers[4], 1)).await.unwrap();
    assert_eq!(shape(&page), [(numbers[3], 1)]);
    let likes = bench.likes(&listing(i64::MAX, 10), 1).await.unwrap();
    let actors: Vec<_> = likes.iter().map(|like| like.actor.clone().unwrap()).collect();
    assert_eq!(actors, [account("choi"), account("park"), account("lee")]);
    let hidden = [account("choi")];
    let without = Listing {
        hidden: &hidden,
        ..listing(i64::MAX, 10)
    };
    let groups = bench.groups(&without).await.unwrap();
    assert_eq!(shape(&groups), [(numbers[3], 1), (numbers[2], 1), (numbers[1], 2)]);

    assert_eq!(bench.read_until(&kim).await.unwrap(), 0);
    assert_eq!(bench.unread(&kim, &[], 0, None).await.unwrap(), 5);
    assert_eq!(bench.unread(&kim, &hidden, 0, None).await.unwrap(), 4);
    let read = bench.read(&by(&kim, 10), numbers[1]).await.unwrap();
    assert_eq!(read.len(), 2);
    assert!(read.contains(&notices[0].event) && read.contains(&notices[1].event));
    for (notice, is_read) in notices.iter().zip([true, true, false, false, false]) {
        assert_eq!(bench.is_settled(notice.event).await.unwrap(), is_read);
    }
    assert_eq!(bench.read(&by(&kim, 11), numbers[0]).await.unwrap(), []);
    assert_eq!(bench.read_until(&kim).await.unwrap(), numbers[1]);
    let (commands, read) = bench.commands.documents_of(bench.read(&by(&kim, 12), i64::MAX)).await;
    assert_eq!(read.unwrap().len(), 3);
    let is_update = |(name, command): &(String, Document)| {
        (name == "update").then(|| command.get_str("update").expect("a collection").to_owned())
    };
    let mut updated: Vec<String> = commands.iter().filter_map(is_update).collect();
    updated.dedup();
    let expected: &[&str] = match bench.bed.set {
        EngineSet::Embedded => &[],
        EngineSet::Real => &["push", "inbox_read"],
    };
    assert_eq!(updated, expected, "the pushes first");
    assert_eq!(
        bench.read_until(&kim).await.unwrap(),
        numbers[4],
        "not beyond the newest"
    );

    bench.withdraw(notices[4].event, at(20), at(20)).await.unwrap();
    bench.erase(&bench.erasure("park", 30), at(30)).await.unwrap();
    let groups = bench.groups(&listing(i64::MAX, 10)).await.unwrap();
    assert_eq!(shape(&groups), [(numbers[3], 1), (numbers[2], 1), (numbers[0], 1)]);
    bench.erase(&bench.erasure("kim", 40), at(40)).await.unwrap();
    assert_eq!(bench.groups(&listing(i64::MAX, 10)).await.unwrap(), []);
    assert_eq!(bench.read_until(&kim).await.unwrap(), 0);
}

async fn unread_likes_of_a_post_are_counted(bed: Bed) {
    let bench = bench(bed).await;
    let kim = account("kim");
    let mut numbers = Vec::new();
    for (liker, date, second) in [
        ("lee", 1, 1),
        ("park", 1, 2),
        ("lee", 2, 3),
        ("choi", 1, 5),
        ("jung", 1, 6),
    ] {
        let like = Notice {
            content: Content::Like {
                liker: account(liker),
                known_as: liker.to_owned(),
                date,
            },
            ..bench.like(liker, "kim", second)
        };
        numbers.push(bench.seq(&like, second).await);
        if liker == "jung" {
            bench.withdraw(like.event, at(7), at(7)).await.unwrap();
        }
    }
    let choi = [account("choi")];
    let (none, choi): (&[Account], &[Account]) = (&[], &choi);
    for (hidden, date, after, since, count) in [
        (none, 1, 0, None, 3),
        (choi, 1, 0, None, 2),
        (none, 1, numbers[0], None, 2),
        (none, 1, 0, Some(at(2)), 1),
        (none, 2, 0, None, 1),
        (none, 3, 0, None, 0),
    ] {
        let likes = bench.unread_likes(&kim, hidden, date, after, since).await;
        assert_eq!(likes.unwrap(), count);
    }
}

fn message(number: u128, account_of: &str, sender: &str, second: i64) -> ReceivedMessage {
    ReceivedMessage {
        id: EventId(uuid::Uuid::from_u128(number)),
        conversation: Conversation {
            account: account(account_of),
            sender: account(sender),
        },
        occurred_at: at(second),
        authorized_at: None,
    }
}

async fn unread_messages_are_counted_until_they_are_read_or_retracted(bed: Bed) {
    let bench = bench(bed).await;
    let kim = account("kim");
    let first = message(1, "kim", "lee", 10);
    let messages = [
        first.clone(),
        message(2, "kim", "lee", 11),
        message(3, "kim", "park", 12),
        message(4, "kim", "lee", 13),
    ];
    let others = message(5, "lee", "kim", 13);
    for message in messages.iter().chain([&others, &first]) {
        assert!(bench.add_message(message).await.unwrap());
    }
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 4);

    // Read up to the second: in the steps of the consumer, twice.
    let ids = messages.clone().map(|message| message.id);
    assert_eq!(bench.handled(&kim, &ids).await.unwrap(), []);
    for expected in [&ids[..2], &ids[..0]] {
        bench
            .raise_read(&first.conversation, ids[1], reading(20))
            .await
            .unwrap();
        let mut unread = bench.unread_until(&first.conversation, ids[1]).await.unwrap();
        unread.sort();
        assert_eq!(unread, expected);
        bench.handle_messages(&unread).await.unwrap();
    }
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 2);
    let mut handled = bench.handled(&kim, &ids).await.unwrap();
    handled.sort();
    assert_eq!(handled, ids[..2]);
    assert_eq!(bench.handled(&account("lee"), &ids).await.unwrap(), []);

    // Delivered again, or later than the receipt; a lower mark changes nothing.
    assert!(!bench.add_message(&first).await.unwrap());
    bench
        .raise_read(&first.conversation, ids[0], reading(21))
        .await
        .unwrap();
    assert!(!bench.add_message(&messages[1]).await.unwrap());
    assert!(bench.add_message(&messages[3]).await.unwrap());
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 2);

    // Retracted, before or after its record was read.
    let retracted = message(6, "kim", "park", 14);
    bench.withdraw(retracted.id, at(15), at(15)).await.unwrap();
    assert!(!bench.add_message(&retracted).await.unwrap());
    bench.withdraw(ids[2], at(15), at(15)).await.unwrap();
    bench.handle_messages(&[ids[2]]).await.unwrap();
    assert!(!bench.add_message(&messages[2]).await.unwrap());
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 1);

    // Unread messages outlive the memory of handled ones.
    let later = at(1_000_000);
    bench
        .sweep(Horizons {
            notices: later,
            memory: later,
            windows: later,
            devices: later,
            gone: later,
        })
        .await
        .unwrap();
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 1);
    assert_eq!(bench.handled(&kim, &ids).await.unwrap(), []);
}

/// A push is settled or withdrawn first, and its message is handled then. After a crash in between the record of the receipt or of the retraction
/// is read again, and that of the message may be.
async fn a_message_is_handled_after_a_crash_between_its_push_and_its_mark(bed: Bed) {
    let bench = bench(bed).await;
    let kim = account("kim");
    let (read, retracted) = (message(1, "kim", "lee", 10), message(2, "kim", "park", 10));
    let push = |message: &ReceivedMessage| WaitingPush {
        event: message.id,
        ..bench.push("lee", "kim", 10)
    };
    for message in [&read, &retracted] {
        assert!(bench.add_message(message).await.unwrap());
        bench.queue(&push(message), at(100)).await.unwrap();
    }
    bench
        .raise_read(&read.conversation, read.id, reading(20))
        .await
        .unwrap();
    bench.settle(&[read.id], at(20)).await.unwrap();
    bench.withdraw(retracted.id, at(20), at(20)).await.unwrap();
    // The crash.
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 2);
    for message in [&read, &retracted] {
        bench.add_message(message).await.unwrap();
        bench.queue(&push(message), at(100)).await.unwrap();
    }
    for _ in 0..2 {
        bench
            .raise_read(&read.conversation, read.id, reading(20))
            .await
            .unwrap();
        let unread = bench.unread_until(&read.conversation, read.id).await.unwrap();
        bench.settle(&unread, at(21)).await.unwrap();
        bench.handle_messages(&unread).await.unwrap();
        bench.withdraw(retracted.id, at(20), at(21)).await.unwrap();
        bench.handle_messages(&[retracted.id]).await.unwrap();
        assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 0);
    }
    let mut handled = bench.handled(&kim, &[read.id, retracted.id]).await.unwrap();
    handled.sort();
    assert_eq!(handled, [read.id, retracted.id], "their banners are removed");
    assert_eq!(bench.due(200).await, []);
}

async fn the_icon_counts_from_the_last_view_of_version_1(bed: Bed) {
    let bench = bench(bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    let mut numbers = Vec::new();
    for second in [10, 20] {
        numbers.push(bench.seq(&bench.like("lee", "kim", second), 30).await);
        let number = u128::try_from(second).unwrap();
        assert!(bench.add_message(&message(number, "kim", "lee", second)).await.unwrap());
    }
    let counted = async || {
        let since = bench.viewed_until(&kim).await;
        let notices = bench.unread(&kim, &[], 0, since).await.unwrap();
        (notices, bench.unread_messages(&kim, &[], since).await.unwrap())
    };
    let opened = |account: &Account, second, authorized| View {
        account: account.clone(),
        at: at(second),
        authorized_at: Some(at(authorized)),
    };
    let showed = |second| View {
        account: kim.clone(),
        at: at(second),
        authorized_at: None,
    };
    bench.viewed(&[showed(15)]).await.unwrap();
    assert_eq!(bench.viewed_until(&kim).await, None, "no socket was opened");
    assert_eq!(counted().await, (2, 2));
    let views = [opened(&kim, 5, 1), opened(&lee, 5, 1)];
    let (cost, written) = bench.cost_of("views", bench.viewed(&views)).await;
    written.unwrap();
    if bench.bed.set == EngineSet::Real {
        assert_eq!(cost, Cost { reads: 2, writes: 1 }, "however many there are");
    }
    assert_eq!(counted().await, (2, 2));
    bench.viewed(&[showed(15)]).await.unwrap();
    assert_eq!(counted().await, (1, 1));
    bench.viewed(&[opened(&kim, 12, 1), showed(13)]).await.unwrap();
    assert_eq!(bench.viewed_until(&kim).await, Some(at(15)), "a late write");
    assert_eq!(bench.read_until(&kim).await.unwrap(), 0, "viewed is not read");
    // Of an account that has read by number, too.
    for (since, expected) in [(5, 1), (20, 0)] {
        let unread = bench.unread(&kim, &[], numbers[0], Some(at(since))).await.unwrap();
        assert_eq!(unread, expected);
    }

    bench.read(&by(&kim, 31), i64::MAX).await.unwrap();
    bench.viewed(&[opened(&kim, 40, 1)]).await.unwrap();
    assert_eq!(bench.viewed_until(&kim).await, Some(at(40)));
    assert!(bench.read_until(&kim).await.unwrap() > 0, "what was read stays");

    // Its sockets are closed a moment after the resignation.
    bench.erase(&bench.erasure("kim", 50), at(50)).await.unwrap();
    bench.viewed(&[opened(&kim, 51, 45), showed(52)]).await.unwrap();
    assert_eq!(bench.viewed_until(&kim).await, None);
    bench.viewed(&[opened(&kim, 60, 55)]).await.unwrap();
    assert_eq!(bench.viewed_until(&kim).await, Some(at(60)), "signed up again");
    assert_eq!(bench.viewed_until(&lee).await, Some(at(5)));
}

async fn messages_of_resigned_people_do_not_count(bed: Bed) {
    let bench = bench(bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    let (from_lee, from_park) = (message(1, "kim", "lee", 10), message(2, "kim", "park", 10));
    let from_kim = message(3, "lee", "kim", 10);
    for message in [&from_lee, &from_park, &from_kim] {
        assert!(bench.add_message(message).await.unwrap());
    }
    bench.erase(&bench.erasure("lee", 20), at(20)).await.unwrap();
    // A receipt that is delivered late leaves no trace.
    bench
        .raise_read(&from_lee.conversation, EventId(uuid::Uuid::from_u128(9)), reading(15))
        .await
        .unwrap();
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 1, "of park");
    assert_eq!(bench.unread_messages(&lee, &[], None).await.unwrap(), 0);
    for message in [&from_lee, &from_kim] {
        assert!(!bench.add_message(message).await.unwrap(), "delivered again");
    }
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 1);
    let anew = message(4, "kim", "lee", 30);
    assert!(bench.add_message(&anew).await.unwrap(), "signed up again");
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 2);
}

/// The ids of the receivers' messages follow from the number.
fn room_message(number: i64, sender: &str, receivers: &[&str], second: i64) -> RoomMessage {
    let message = EventId(uuid::Uuid::from_u128(u128::try_from(number).unwrap()));
    let receivers = receivers.iter().map(|name| account(name));
    RoomMessage {
        room: "r-1".to_owned(),
        number,
        sender: account(sender),
        occurred_at: at(second),
        authorized_at: None,
        receivers: receivers
            .map(|account| (message.of_part(account.as_str()), account))
            .collect(),
    }
}

fn own_room(name: &str) -> OwnRoom {
    OwnRoom {
        account: account(name),
        room: "r-1".to_owned(),
    }
}

/// Returns which of the receivers have the message unread.
async fn added(bench: &Bench, message: &RoomMessage) -> Vec<Account> {
    let unread = bench.add_room_message(message).await.unwrap();
    let receivers = message.receivers.iter();
    let unread = receivers.filter(|(id, _)| unread.contains(id));
    unread.map(|(_, account)| account.clone()).collect()
}

async fn a_message_of_a_room_is_unread_for_each_receiver_until_it_is_read_or_retracted(bed: Bed) {
    let bench = bench(bed).await;
    let (kim, lee, park) = (account("kim"), account("lee"), account("park"));
    let [first, second, third] = [1, 2, 3].map(|number| room_message(number, "choi", &["kim", "lee"], 10 + number));
    for message in [&first, &second, &first] {
        assert_eq!(added(&bench, message).await, [kim.clone(), lee.clone()]);
    }
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 2);
    assert_eq!(bench.unread_messages(&kim, &[], Some(at(11))).await.unwrap(), 1);
    // Messages of people in a block do not count, neither direct ones nor those of rooms.
    let direct = message(9, "kim", "choi", 9);
    assert!(bench.add_message(&direct).await.unwrap());
    for (hidden, since, unread) in [("choi", None, 0), ("park", None, 3), ("park", Some(at(9)), 2)] {
        let hidden = [account(hidden)];
        assert_eq!(bench.unread_messages(&kim, &hidden, since).await.unwrap(), unread);
    }
    bench.handle_messages(&[direct.id]).await.unwrap();
    // Reading the sender's direct messages is another matter.
    let direct = Conversation {
        account: kim.clone(),
        sender: account("choi"),
    };
    let last = EventId(uuid::Uuid::max());
    assert_eq!(bench.unread_until(&direct, last).await.unwrap(), []);

    // In the steps of the consumer, twice.
    let ids: Vec<EventId> = first.receivers.iter().map(|(id, _)| *id).collect();
    for expected in [&ids[..1], &ids[..0]] {
        bench.raise_room_read(&own_room("kim"), 1, reading(20)).await.unwrap();
        let unread = bench.unread_in_room(&own_room("kim"), 1).await.unwrap();
        assert_eq!(unread, expected);
        bench.handle_messages(&unread).await.unwrap();
    }
    assert_eq!(bench.handled(&kim, &ids).await.unwrap(), ids[..1]);
    assert_eq!(
        added(&bench, &first).await,
        std::slice::from_ref(&lee),
        "delivered again"
    );
    // The receipt comes before the message; a lower one changes nothing.
    for number in [3, 1] {
        bench
            .raise_room_read(&own_room("lee"), number, reading(20))
            .await
            .unwrap();
    }
    assert_eq!(added(&bench, &third).await, std::slice::from_ref(&kim));
    assert_eq!(bench.unread_in_room(&own_room("lee"), 3).await.unwrap().len(), 2);
    // So does a retraction.
    let mut fourth = room_message(4, "choi", &["kim", "park"], 14);
    bench.withdraw(fourth.receivers[0].0, at(15), at(15)).await.unwrap();
    assert_eq!(added(&bench, &fourth).await, std::slice::from_ref(&park));
    fourth.receivers.clear();
    assert!(bench.add_room_message(&fourth).await.unwrap().is_empty());

    // A banner of one of the events, of one of the accounts.
    let banner = Banner {
        event: ids[0],
        token: "phone".to_owned(),
        name: "banner".to_owned(),
        occurred_at: at(11),
    };
    bench.add_banner(&kim, &banner).await.unwrap();
    assert_eq!(bench.banners(&kim).await.unwrap(), std::slice::from_ref(&banner));
    assert_eq!(
        bench.showing(&[&kim, &lee], &ids).await.unwrap(),
        std::slice::from_ref(&kim)
    );
    assert!(bench.showing(&[&lee], &ids).await.unwrap().is_empty());
    assert!(bench.showing(&[&kim], &ids[1..]).await.unwrap().is_empty());
}

async fn messages_of_rooms_go_with_their_people_and_with_time(bed: Bed) {
    let bench = bench(bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    let of_choi = room_message(1, "choi", &["kim", "lee"], 10);
    let of_park = room_message(2, "park", &["kim", "lee"], 11);
    for message in [&of_choi, &of_park] {
        assert_eq!(added(&bench, message).await, [kim.clone(), lee.clone()]);
    }
    bench.raise_room_read(&own_room("lee"), 1, reading(12)).await.unwrap();
    for name in ["lee", "park"] {
        bench.erase(&bench.erasure(name, 20), at(20)).await.unwrap();
    }
    // A receipt that is delivered late leaves no trace.
    bench.raise_room_read(&own_room("lee"), 9, reading(15)).await.unwrap();
    assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), 1, "of choi");
    assert_eq!(bench.unread_messages(&lee, &[], None).await.unwrap(), 0);
    assert_eq!(
        added(&bench, &of_choi).await,
        std::slice::from_ref(&kim),
        "delivered again"
    );
    assert!(added(&bench, &of_park).await.is_empty());
    let anew = room_message(3, "choi", &["lee"], 30);
    assert_eq!(
        added(&bench, &anew).await,
        std::slice::from_ref(&lee),
        "signed up again"
    );

    // What is never opened does not stay forever.
    let earlier = at(0);
    let horizons = |notices| Horizons {
        notices,
        memory: earlier,
        windows: earlier,
        devices: earlier,
        gone: earlier,
    };
    for (notices, left) in [(at(10), 1), (at(11), 0)] {
        bench.sweep(horizons(notices)).await.unwrap();
        assert_eq!(bench.unread_messages(&kim, &[], None).await.unwrap(), left);
    }
    assert_eq!(bench.unread_messages(&lee, &[], None).await.unwrap(), 1);
}

async fn a_message_of_a_room_takes_as_many_statements_for_a_hundred_as_for_one(bed: Bed) {
    let bench = bench(bed).await;
    let names: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut costs = Vec::new();
    for (number, receivers) in [(1, &names[..1]), (2, &names[..])] {
        let message = room_message(number, "choi", receivers, 10);
        let push = |(event, receiver): &(EventId, Account)| WaitingPush {
            event: *event,
            target: Target::Account(receiver.clone()),
            ..bench.push("choi", "kim", 10)
        };
        let pushes: Vec<WaitingPush> = message.receivers.iter().map(push).collect();
        let waits: Vec<_> = pushes.iter().map(|push| (push, at(100))).collect();
        let stored = async {
            let unread = bench.add_room_message(&message).await.unwrap();
            assert_eq!(unread.len(), receivers.len());
            bench.queue_all(&waits).await.unwrap();
        };
        let (cost, ()) = bench.cost_of("message of a room", stored).await;
        costs.push(cost);
    }
    assert_eq!(costs[0], costs[1]);
}

on_both_engines!(
    a_message_of_a_room_takes_as_many_statements_for_a_hundred_as_for_one,
    a_message_of_a_room_is_unread_for_each_receiver_until_it_is_read_or_retracted,
    messages_of_rooms_go_with_their_people_and_with_time,
    unread_messages_are_counted_until_they_are_read_or_retracted,
    messages_of_resigned_people_do_not_count,
    the_icon_counts_from_the_last_view_of_version_1,
    an_inbox_is_paged_in_groups_and_read_up_to_a_number,
    unread_likes_of_a_post_are_counted,
    a_withdrawn_notice_keeps_its_number_only,
    notices_of_a_deleted_post_are_withdrawn,
    a_long_inbox_is_withdrawn_in_parts,
    a_withdrawal_that_crashed_between_its_steps_is_finished_by_the_next,
    likes_of_thousands_and_a_notice_of_another_take_few_statements,
    each_notice_of_several_is_answered_by_itself,
    each_notice_is_withdrawn_up_to_its_own_time,
    notices_keep_their_order_when_another_replica_adds_one_meanwhile,
    a_message_is_handled_after_a_crash_between_its_push_and_its_mark,
    pushes_of_a_thread_are_counted_by_the_minute,
    due_pushes_of_many_threads_are_taken_at_once_in_order,
    a_long_thread_hides_no_other,
    a_thread_of_more_than_a_group_is_taken_in_parts,
    an_inbox_is_settled_by_few_statements,
    the_push_queue_has_a_size_and_an_earliest_time,
    pushes_of_one_thread_are_taken_together,
    likes_that_wait_are_taken_with_a_due_one_of_their_post,
    the_number_of_an_erased_notice_is_not_given_again,
    what_an_older_token_did_after_a_resignation_is_erased_in_any_order,
    messages_of_an_older_token_are_erased_in_any_order,
    what_others_did_after_a_resignation_is_erased_unless_the_address_is_taken_again,
    a_next_account_without_a_name_keeps_what_is_its_own,
    a_registered_device_leaves_with_its_session,
    preferences_are_replaced_by_version_and_erased,
    mutes_of_a_later_release_are_left_out_and_stay,
    late_lists_of_devices_change_nothing,
    unseen_devices_are_removed,
    a_list_is_all_there_are,
    a_device_is_its_last_owners,
    a_message_for_a_push_token_comes_back_whole,
    notices_after_a_number_are_read_in_order,
    a_notice_is_kept_once_and_numbered_in_order,
    a_push_waits_is_taken_and_settled_once,
    an_erasure_takes_everything_up_to_its_moment,
    an_inbox_is_born_once,
    many_at_once_leave_no_gap_and_no_double,
    a_late_resignation_spares_what_the_account_got_since,
    numbers_never_come_twice,
    only_what_is_old_is_swept,
    the_newest_event_of_a_device_wins,
    two_workers_never_take_the_same_push,
    what_it_keeps_survives_a_restart,
    what_was_shown_before_it_was_queued_is_not_pushed,
);

#[tokio::test]
async fn a_corrupt_push_keeps_no_other_from_going() {
    let bench = bench(Bed::new(EngineSet::Embedded).await).await;
    let (broken, whole) = (bench.push("kim", "lee", 1), bench.push("kim", "park", 2));
    for push in [&broken, &whole] {
        bench.queue(push, at(10)).await.unwrap();
    }
    let corrupt = "UPDATE push SET content = NULL WHERE account LIKE 'lee%'";
    assert_eq!(bench.bed.sql("notice", corrupt).await, 1);
    let due = bench.take_due(take(30, 90, 10)).await.unwrap();
    let events: Vec<_> = due.into_iter().flat_map(|group| group.events).collect();
    assert_eq!(events, [whole.event]);
}
