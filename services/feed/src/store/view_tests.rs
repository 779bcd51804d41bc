//! The post view and the totals of categories against the posts themselves, after random histories.

use std::collections::BTreeMap;
use std::slice::from_ref;

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::Topic;
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_testkit::statements::{Cost, cost_of};
use sosohappy_testkit::{Bed, on_both_engines};

use super::tests::{at, erase, event, fill_with_posts, is_read_by, marked, opened, post, writer};
use super::{Content, Decision, NewComment, Opened, ViewsOf, VisibilityChange, WriteError};
use crate::domain::companions::{Change, Companions, fold};
use crate::domain::view::PostView;
use crate::domain::word_list::WordList;
use crate::domain::{Cursor, Day, Days, PageFrom, PostDate, Visibility, Writer};

on_both_engines!(
    views_equal_the_posts_after_random_histories,
    a_late_event_brings_no_post_and_no_mark_back,
    events_of_the_release_before_are_applied_as_they_come,
    views_are_read_off_an_index,
    a_build_that_was_interrupted_goes_on,
    events_of_many_posts_are_applied_at_once,
);

const PEOPLE: [&str; 4] = ["kim", "lee", "park", "choi"];
const DAYS: u64 = 3;
const CATEGORIES: [&str; 4] = ["coffee", "food", "friends", "sea"];

fn today() -> Day {
    Day::try_from(20_230_930).unwrap()
}

fn date(day: u64) -> i64 {
    2_023_090_512_000_000 + i64::try_from(day).unwrap() * 100_000_000
}

fn day(number: u64) -> Day {
    PostDate::try_from(date(number)).unwrap().day()
}

/// One random step of a history. All people write with tokens from before the step; who has resigned comes back with a newer one.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The categories as bits.
    Save(u64, u64, Visibility, u64),
    Delete(u64, u64),
    Like(u64, u64, u64),
    Bookmark(u64, u64, u64),
    Comment(u64, u64, u64),
    DeleteComment(u64),
    Show(u64, u64, Visibility),
    Moderate(u64, u64, bool),
    /// Suspends or restores.
    Suspend(u64, bool),
    Resign(u64),
}

struct History<'a> {
    bed: &'a Bed,
    opened: Opened,
    /// Seconds since the beginning.
    now: i64,
    /// When each person's token was issued.
    tokens: [i64; PEOPLE.len()],
    /// Since when each person is suspended.
    suspended: [Option<i64>; PEOPLE.len()],
    comments: Vec<i64>,
    taken: Vec<Step>,
}

impl History<'_> {
    fn random(&self, below: u64) -> u64 {
        self.bed.context.entropy.u64() % below
    }

    fn person(&self, number: u64) -> Writer {
        let number = usize::try_from(number).unwrap();
        writer(PEOPLE[number], self.tokens[number])
    }

    /// How many of these people are not suspended.
    fn counted(&self, people: &[Account]) -> usize {
        let suspended = |account: &&Account| {
            let number = PEOPLE.iter().position(|name| writer(name, 0).account == **account);
            number.is_some_and(|number| self.suspended[number].is_some())
        };
        people.len() - people.iter().filter(suspended).count()
    }

    fn account(number: u64) -> Account {
        writer(PEOPLE[usize::try_from(number).unwrap()], 0).account
    }

    fn choose(&self) -> Step {
        let (who, author, day) = (self.random(4), self.random(4), self.random(DAYS));
        let visibility =
            [Visibility::Public, Visibility::Friends, Visibility::Private][usize::try_from(self.random(3)).unwrap()];
        let categories = 1 + self.random((1_u64 << CATEGORIES.len()) - 1);
        match self.random(25) {
            0..5 => Step::Save(author, day, visibility, categories),
            5 => Step::Delete(author, day),
            6..12 => Step::Like(who, author, day),
            12..16 => Step::Bookmark(who, author, day),
            16..19 => Step::Comment(who, author, day),
            19 => Step::DeleteComment(self.random(8)),
            20 => Step::Show(author, day, visibility),
            21 => Step::Moderate(author, day, self.random(2) == 0),
            22 => Step::Resign(who),
            23 => Step::Suspend(who, self.random(2) == 0),
            _ => Step::Save(author, day, Visibility::Public, categories),
        }
    }

    async fn take(&mut self) {
        let step = self.choose();
        self.taken.push(step);
        self.now += 1;
        let now = at(self.now);
        let store = self.opened.store.as_ref();
        match step {
            Step::Save(author, day, visibility, chosen) => {
                let mut new = post(&self.person(author), date(day), &categories(chosen), &[]);
                new.content.visibility = visibility;
                new.content.happiness = i32::try_from(self.random(5)).unwrap();
                allow_resigned(&store.save(&new, now).await);
            }
            Step::Delete(author, number) => {
                store.delete(&Self::account(author), day(number), now).await.unwrap();
            }
            Step::Like(who, author, number) => {
                let (liker, author) = (self.person(who), Self::account(author));
                let toggled = store
                    .toggle(&liker, marked(&author, day(number)), &|_, _| None, now)
                    .await;
                allow_resigned(&toggled);
            }
            Step::Bookmark(who, author, number) => {
                let (saver, author) = (self.person(who), Self::account(author));
                let notice = |_: bool, _: PostDate| notice(self.bed, &saver.account);
                let toggled = store
                    .toggle_bookmark(&saver, marked(&author, day(number)), &notice, now)
                    .await;
                allow_resigned(&toggled);
            }
            Step::Comment(who, author, number) => {
                let (commenter, author) = (self.person(who), Self::account(author));
                let comment = store.comment(
                    &commenter,
                    &author,
                    day(number),
                    NewComment {
                        text: "축하",
                        is_held: false,
                    },
                    &|_, _| None,
                    now,
                );
                self.comments.extend(comment.await.ok());
            }
            Step::DeleteComment(number) => {
                let Some(id) = self.comments.get(usize::try_from(number).unwrap()).copied() else {
                    return;
                };
                for by in 0..4 {
                    store.delete_comment(&Self::account(by), id, now).await.unwrap();
                }
            }
            Step::Show(author, number, to) => {
                let author = Self::account(author);
                if let Some((from, _)) = store.visibility(&author, day(number)).await.unwrap() {
                    let copies = Vec::new();
                    let words = WordList::default();
                    let change = VisibilityChange {
                        from,
                        to,
                        copies,
                        words,
                    };
                    store.set_visibility(&author, day(number), &change, now).await.unwrap();
                }
            }
            Step::Moderate(author, number, hidden) => {
                let content = Content::Post(day(number));
                let decision = Decision {
                    hidden,
                    at: now,
                    reporter: None,
                };
                store
                    .moderate(&Self::account(author), content, decision, now)
                    .await
                    .unwrap();
            }
            Step::Suspend(who, is_suspended) => self.suspend(who, is_suspended).await,
            Step::Resign(who) => {
                let account = Self::account(who);
                // Sometimes the account is back before the resignation is applied.
                let until = self.now - i64::try_from(self.random(6)).unwrap();
                self.now += 1;
                let number = usize::try_from(who).unwrap();
                self.tokens[number] = self.now;
                self.suspended[number] = self.suspended[number].filter(|since| *since > until);
                erase(self.bed, store, &account, at(until), event(self.bed)).await;
            }
        }
    }

    /// Suspends or restores.
    async fn suspend(&mut self, who: u64, is_suspended: bool) {
        self.suspended[usize::try_from(who).unwrap()] = is_suspended.then_some(self.now);
        let (store, now) = (self.opened.store.as_ref(), at(self.now));
        let stored = store.set_suspended(&Self::account(who), is_suspended, now).await;
        stored.unwrap();
        for change in store.uncounted().await.unwrap() {
            store.recount(&change, now).await.unwrap();
        }
    }

    /// Returns the events since the last call, as they were published.
    async fn events(&self) -> Vec<PostChanged> {
        let mut events = Vec::new();
        loop {
            let pending = self.opened.outbox.pending(500).await.unwrap().pending;
            if pending.is_empty() {
                return events;
            }
            for row in &pending {
                if row.record.topic == Topic::Post.default_name() {
                    events.push(serde_json::from_slice(row.record.value.as_ref().unwrap()).unwrap());
                }
            }
            let rows: Vec<String> = pending.into_iter().map(|row| row.row).collect();
            self.opened.outbox.published(&rows).await.unwrap();
        }
    }

    /// Applies events in a random order, up to eight at once and some of them twice.
    async fn deliver(&self, events: &[PostChanged]) {
        let mut order = events.to_vec();
        for event in events {
            if self.random(4) == 0 {
                order.push(event.clone());
            }
        }
        for at in (1..order.len()).rev() {
            order.swap(at, usize::try_from(self.random(at as u64 + 1)).unwrap());
        }
        let mut rest = &order[..];
        while !rest.is_empty() {
            let most = rest.len().min(8) as u64;
            let (together, later) = rest.split_at(usize::try_from(1 + self.random(most)).unwrap());
            self.apply_all(together).await;
            rest = later;
        }
    }

    async fn apply(&self, event: &PostChanged) {
        self.apply_all(from_ref(event)).await;
    }

    async fn apply_all(&self, events: &[PostChanged]) {
        self.opened.store.apply_to_view(events, at(self.now)).await.unwrap();
    }

    /// What each person sees of each.
    async fn views(&self) -> Vec<(u64, u64, Vec<PostView>)> {
        let mut all = Vec::new();
        for viewer in 0..4 {
            for author in 0..4 {
                let (who, whose) = (Self::account(viewer), Self::account(author));
                let of = ViewsOf {
                    author: &whose,
                    days: Days::ALL,
                };
                let views = self
                    .opened
                    .store
                    .post_views(&who, of, today(), PageFrom::Offset(0), 100);
                all.push((viewer, author, views.await.unwrap()));
            }
        }
        all
    }

    /// Returns the happiness of each pair of categories over all posts: as it is kept, and as it is computed from the posts.
    async fn pairs(&self) -> [BTreeMap<(String, String), i64>; 2] {
        let store = self.opened.store.as_ref();
        let names = CATEGORIES.map(str::to_owned);
        let Companions { totals, changes } = store.companions(&names).await.unwrap();
        let mut posts = Vec::new();
        for author in 0..4 {
            let of_author = store.of_posts(&Self::account(author), Days::ALL).await.unwrap();
            posts.extend(
                of_author
                    .iter()
                    .map(|(categories, happiness)| Change::came(categories, *happiness)),
            );
        }
        [sums(totals, &changes), sums(Vec::new(), &posts)]
    }

    async fn rebuild(&self) {
        let mut after = 0;
        while let (Some(last), _) = self.opened.store.rebuild_view_after(after, at(self.now)).await.unwrap() {
            assert!(last > after, "a build comes to an end");
            after = last;
        }
    }

    async fn begin(bed: &Bed) -> History<'_> {
        History {
            bed,
            opened: opened(bed).await,
            now: 100,
            tokens: [0; PEOPLE.len()],
            suspended: [None; PEOPLE.len()],
            comments: Vec::new(),
            taken: Vec::new(),
        }
    }
}

fn categories(bits: u64) -> Vec<&'static str> {
    let chosen = (0_u64..).zip(CATEGORIES).filter(|(bit, _)| (bits >> *bit) & 1 == 1);
    chosen.map(|(_, name)| name).collect()
}

/// Without pairs whose posts have no happiness together.
fn sums(totals: Vec<((String, String), i64)>, changes: &[Change]) -> BTreeMap<(String, String), i64> {
    let open = fold(changes).into_iter();
    let open = open.map(|(pair, total)| (pair, total.happiness));
    let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
    for (pair, happiness) in totals.into_iter().chain(open) {
        *sums.entry(pair).or_default() += happiness;
    }
    sums.retain(|_, happiness| *happiness != 0);
    sums
}

fn allow_resigned<T: std::fmt::Debug>(outcome: &Result<T, WriteError>) {
    assert!(matches!(outcome, Ok(_) | Err(WriteError::Resigned)), "{outcome:?}");
}

fn notice(bed: &Bed, receiver: &Account) -> sosohappy_events::Outgoing {
    let notice = sosohappy_events::types::NoticeRaised {
        receiver: receiver.clone(),
        topic: "bookmark".to_owned(),
        data: serde_json::json!({}),
        about: None,
    };
    sosohappy_events::Envelope::new(notice, &bed.context).to_outgoing()
}

/// The view that events have kept is the view that is built from the posts, the likes are those that their author sees, and recommendations are
/// made from the totals that the posts have.
async fn views_equal_the_posts_after_random_histories(bed: Bed) {
    let mut history = History::begin(&bed).await;
    let mut all = Vec::new();
    for round in 0..6 {
        for _ in 0..40 {
            history.take().await;
        }
        if round % 2 == 1 {
            // A restart: events that wait in the outbox are published, and are older than what the start builds.
            history.opened = opened(&bed).await;
            history.opened.store.build_view(at(history.now)).await.unwrap();
        }
        let events = history.events().await;
        history.deliver(&events).await;
        all.extend(events);
        let kept = history.views().await;
        let told = format!("round {round}: {:?}", history.taken);
        // Some changes are folded into the totals, others still open.
        history.opened.store.fold(20, at(history.now)).await.unwrap();
        let [totals, computed] = history.pairs().await;
        assert_eq!(totals, computed, "{told}");
        for (viewer, author, views) in &kept {
            if viewer == author {
                let own = history
                    .opened
                    .store
                    .own(&History::account(*author), Days::ALL)
                    .await
                    .unwrap();
                let likes: Vec<_> = own
                    .iter()
                    .map(|post| (post.date, history.counted(&post.likers), post.is_hidden))
                    .collect();
                let viewed: Vec<_> = views
                    .iter()
                    .map(|view| (view.date, usize::try_from(view.likes).unwrap(), view.is_hidden))
                    .collect();
                assert_eq!(viewed, likes, "{told}");
            }
        }
        if round % 2 == 0 {
            history.rebuild().await;
            assert_eq!(history.views().await, kept, "{told}");
            // Whatever is delivered again is older than what was built.
            history.deliver(&all).await;
            assert_eq!(history.views().await, kept, "{told}");
            assert!(history.events().await.is_empty(), "a build publishes nothing");
        }
    }
    let seen: usize = history.views().await.iter().map(|(_, _, views)| views.len()).sum();
    assert!(seen > 0, "{:?}", history.taken);
    while history.opened.store.fold(500, at(history.now)).await.unwrap() > 0 {}
    let [totals, computed] = history.pairs().await;
    assert_eq!(totals, computed, "{:?}", history.taken);
}

async fn a_late_event_brings_no_post_and_no_mark_back(bed: Bed) {
    let history = History::begin(&bed).await;
    let (kim, lee) = (history.person(0), history.person(1));
    let store = history.opened.store.as_ref();
    store.save(&post(&kim, date(0), &["sea"], &[]), at(1)).await.unwrap();
    for second in 2..5 {
        let toggled = store.toggle(&lee, marked(&kim.account, day(0)), &|_, _| None, at(second));
        toggled.await.unwrap();
    }
    let events = history.events().await;
    let [_, liked, unliked, again] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!([liked, unliked, again].map(|event| event.revision), [2, 3, 4]);
    history.apply(again).await;
    history.apply(unliked).await;
    history.apply(liked).await;
    let of = ViewsOf {
        author: &kim.account,
        days: Days::ALL,
    };
    let seen = async || {
        let views = store.post_views(&lee.account, of, today(), PageFrom::Offset(0), 8);
        views.await.unwrap().pop()
    };
    let view = seen().await.unwrap();
    assert_eq!((view.likes, view.is_liked), (1, true));

    store.delete(&kim.account, day(0), at(6)).await.unwrap();
    let deleted = history.events().await;
    assert_eq!(deleted[0].change, PostChange::Deleted);
    history.apply(&deleted[0]).await;
    history.deliver(&events).await;
    assert_eq!(seen().await, None);
    history.rebuild().await;
    history.deliver(&events).await;
    assert_eq!(seen().await, None, "a build keeps tombstones");
    store.sweep_view(Timestamp::MAX).await.unwrap();
    assert_eq!(bed.sql("feed", "DELETE FROM post_view_mark").await, 0);
    assert_eq!(bed.sql("feed", "DELETE FROM post_view").await, 0);
}

/// They have neither a revision nor bookmarks, nor do they say whether a post is hidden.
async fn events_of_the_release_before_are_applied_as_they_come(bed: Bed) {
    let history = History::begin(&bed).await;
    let (kim, lee) = (history.person(0), history.person(1));
    let old = |change: &str, likes: i64| -> PostChanged {
        serde_json::from_value(serde_json::json!({
            "change": change, "author": kim.account, "date": date(0), "post": 7, "isPublic": true, "likes": likes,
            "comments": 0, "actor": lee.account,
        }))
        .unwrap()
    };
    let of = ViewsOf {
        author: &kim.account,
        days: Days::ALL,
    };
    let own = async || {
        let views = history
            .opened
            .store
            .post_views(&kim.account, of, today(), PageFrom::Offset(0), 8);
        let view = views.await.unwrap().pop().unwrap();
        (view.likes, view.bookmarks, view.is_hidden)
    };
    let new = PostChanged {
        bookmarks: 2,
        revision: 3,
        ..old("saved", 0)
    };
    history.apply(&new).await;
    history.apply(&old("liked", 1)).await;
    assert_eq!(own().await, (1, 2, false));
    history.apply(&old("hidden", 1)).await;
    history.apply(&old("unliked", 0)).await;
    assert_eq!(own().await, (0, 2, true));
    history.apply(&old("restored", 0)).await;
    assert_eq!(own().await, (0, 2, false));
}

async fn views_are_read_off_an_index(bed: Bed) {
    let history = History::begin(&bed).await;
    fill_with_posts(&bed).await;
    history.rebuild().await;
    let analyze = ["ANALYZE", "ANALYZE TABLE post_view"][usize::from(bed.kafka().is_some())];
    bed.sql("feed", analyze).await;
    let (viewer, author) = (writer("viewer", 0).account, writer("p7", 0).account);
    let deep = Cursor {
        rank: 0,
        date: 2_020_050_100_000_000,
        id: 300,
    };
    let of = ViewsOf {
        author: &author,
        days: Days::ALL,
    };
    for from in [PageFrom::Offset(0), PageFrom::After(deep)] {
        let plan = history.opened.store.views_plan(&viewer, of, today(), from).await;
        let reads: Vec<_> = plan
            .iter()
            .filter(|step| step.starts_with("v ") || step.starts_with("SEARCH v ") || step.starts_with("SCAN v"))
            .collect();
        assert_eq!(reads.len(), 1, "{plan:#?}");
        assert!(is_read_by(reads[0], "post_view_author"), "{plan:#?}");
        assert!(
            !plan
                .iter()
                .any(|step| step.contains("filesort") || step.contains("TEMP B-TREE")),
            "{plan:#?}"
        );
    }
    let views = history
        .opened
        .store
        .post_views(&viewer, of, today(), PageFrom::After(deep), 8);
    assert!(!views.await.unwrap().is_empty());
}

async fn a_build_that_was_interrupted_goes_on(bed: Bed) {
    let history = History::begin(&bed).await;
    let store = history.opened.store.as_ref();
    assert!(
        store.is_view_built().await.unwrap(),
        "a new database has nothing to build"
    );
    fill_with_posts(&bed).await;
    // As after the migration of a database with posts, and a step.
    bed.sql("feed", "UPDATE post_view_build SET built_at = NULL").await;
    let (last, posts) = store.rebuild_view_after(0, at(0)).await.unwrap();
    assert_eq!(posts, 100);
    assert!(!store.is_view_built().await.unwrap());
    bed.sql("feed", "UPDATE post_view_build SET built_until = 100").await;
    assert_eq!(last, Some(100));
    store.build_view(at(1)).await.unwrap();
    assert!(store.is_view_built().await.unwrap());
    assert_eq!(bed.sql("feed", "DELETE FROM post_view").await, 1000);
}

/// Saves of many people come at once, and `SQLite` has one writer for the view and for those who save next.
async fn events_of_many_posts_are_applied_at_once(bed: Bed) {
    let history = History::begin(&bed).await;
    let kim = history.person(0);
    for number in 0..8 {
        let new = post(&kim, date(number), &["sea"], &[]);
        history.opened.store.save(&new, at(1)).await.unwrap();
    }
    let events = history.events().await;
    assert_eq!(events.len(), 8);
    let (cost, ()) = cost_of("views", &bed, history.apply_all(&events)).await;
    assert_eq!(cost, Cost { reads: 1, writes: 1 });
    let of = ViewsOf {
        author: &kim.account,
        days: Days::ALL,
    };
    let views = history
        .opened
        .store
        .post_views(&kim.account, of, today(), PageFrom::Offset(0), 100);
    assert_eq!(views.await.unwrap().len(), 8);
}
