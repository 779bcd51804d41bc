//! What the fleet acknowledged to a crowd, and what the crowd has seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Column;

/// A like: author, date of the post, liker.
pub type Like = (String, i64, String);

/// Counts of one kind of promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    pub acknowledged: usize,
    /// Of these, seen where they belong.
    pub seen: usize,
    /// Seen more than once.
    pub doubled: usize,
}

impl Promise {
    fn is_kept(self) -> bool {
        self.acknowledged == self.seen && self.doubled == 0
    }
}

/// The counts of a whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Summary {
    pub calls: usize,
    /// Calls without an answer, or with one that is no success; they were repeated.
    pub failed: usize,
    /// Answers that the phone did not wait for.
    pub lost: usize,
    pub slowest: Duration,
    /// Sockets that a suspended app has left without a closing.
    pub suspensions: usize,
    pub reconnects: usize,
    pub posts: Promise,
    pub likes: Promise,
    pub messages: Promise,
    /// Frames whose number was not above that of the frame before.
    pub out_of_order: usize,
}

impl Summary {
    /// Whether everything that was acknowledged was seen, once and in order.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let promises = [self.posts, self.likes, self.messages];
        promises.into_iter().all(Promise::is_kept) && self.out_of_order == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {} failed and were repeated, {} answers not awaited, slowest {} ms, {} suspensions, {} reconnects",
            Column(self.calls, "calls"),
            self.failed,
            self.lost,
            self.slowest.as_millis(),
            self.suspensions,
            self.reconnects
        )?;
        for (what, seen, promise) in [
            ("posts saved", "in the diary", self.posts),
            ("likes taken", "shown to the author", self.likes),
            ("messages accepted", "shown to the receiver", self.messages),
        ] {
            let Promise {
                acknowledged,
                seen: count,
                doubled,
            } = promise;
            writeln!(f, "{}, {count} {seen}, {doubled} twice", Column(acknowledged, what))?;
        }
        write!(f, "{}", Column(self.out_of_order, "frames out of order"))
    }
}

#[derive(Debug, Default)]
pub struct Ledger(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: usize,
    failed: usize,
    lost: usize,
    slowest: Duration,
    suspensions: usize,
    reconnects: usize,
    out_of_order: usize,
    /// Acknowledged posts by author and date, with how often each is in the author's diary in the end.
    posts: BTreeMap<(String, i64), usize>,
    likes: BTreeSet<Like>,
    /// Likes by the notices that showed them, with their numbers of shown notices.
    notices: BTreeMap<Like, usize>,
    /// Messages that were written, accepted or not yet.
    written: usize,
    /// Accepted messages by id.
    accepted: BTreeSet<String>,
    /// Messages on the receiver's socket by id.
    shown: BTreeMap<String, usize>,
}

impl Ledger {
    pub fn called(&self, took: Duration, succeeded: bool) {
        let mut counts = self.0.lock();
        counts.calls += 1;
        counts.failed += usize::from(!succeeded);
        counts.slowest = counts.slowest.max(took);
    }

    pub fn lost_answer(&self) {
        self.0.lock().lost += 1;
    }

    pub fn suspended(&self) {
        self.0.lock().suspensions += 1;
    }

    pub fn reconnected(&self) {
        self.0.lock().reconnects += 1;
    }

    pub fn out_of_order(&self) {
        self.0.lock().out_of_order += 1;
    }

    pub fn post_saved(&self, author: &str, date: i64) {
        self.0.lock().posts.entry((author.to_owned(), date)).or_default();
    }

    /// Counts a post of the author's diary, in the end.
    pub fn post_found(&self, author: &str, date: i64) {
        if let Some(times) = self.0.lock().posts.get_mut(&(author.to_owned(), date)) {
            *times += 1;
        }
    }

    pub fn liked(&self, like: Like) {
        self.0.lock().likes.insert(like);
    }

    pub fn notice_shown(&self, like: Like) {
        *self.0.lock().notices.entry(like).or_default() += 1;
    }

    pub fn message_written(&self) {
        self.0.lock().written += 1;
    }

    pub fn accepted(&self, message: &str) {
        self.0.lock().accepted.insert(message.to_owned());
    }

    pub fn message_shown(&self, message: &str) {
        *self.0.lock().shown.entry(message.to_owned()).or_default() += 1;
    }

    /// Returns the date of a random post of another author, by a number that is random.
    pub fn post_of_another(&self, reader: &str, random: u64) -> Option<(String, i64)> {
        let counts = self.0.lock();
        let others: Vec<_> = counts.posts.keys().filter(|(author, _)| author != reader).collect();
        let at = usize::try_from(random % (others.len() as u64).max(1)).ok()?;
        others.get(at).map(|post| (*post).clone())
    }

    /// Dates of the author's acknowledged posts.
    pub fn dates_of(&self, author: &str) -> Vec<i64> {
        let counts = self.0.lock();
        let own = counts.posts.keys().filter(|(of, _)| of == author);
        own.map(|(_, date)| *date).collect()
    }

    /// Whether likes and messages were all shown, and no written message is still to be accepted: that of a phone that is suspended.
    pub fn is_settled(&self) -> bool {
        let counts = self.0.lock();
        counts.written == counts.accepted.len()
            && counts.likes.iter().all(|like| counts.notices.contains_key(like))
            && counts.accepted.iter().all(|id| counts.shown.contains_key(id))
    }

    /// Returns one line of counts, of a run that goes on.
    pub fn line(&self) -> String {
        let counts = self.0.lock();
        let columns = [
            Column(counts.calls, "calls"),
            Column(counts.failed, "failed"),
            Column(counts.posts.len(), "posts"),
            Column(counts.likes.len(), "likes"),
            Column(counts.notices.len(), "notices"),
            Column(counts.accepted.len(), "messages"),
            Column(counts.shown.len(), "shown"),
        ];
        columns.map(|column| column.to_string()).join("")
    }

    pub fn summary(&self) -> Summary {
        let counts = self.0.lock();
        let doubled = |times: &usize| usize::from(*times > 1);
        Summary {
            calls: counts.calls,
            failed: counts.failed,
            lost: counts.lost,
            slowest: counts.slowest,
            suspensions: counts.suspensions,
            reconnects: counts.reconnects,
            posts: Promise {
                acknowledged: counts.posts.len(),
                seen: counts.posts.values().filter(|times| **times > 0).count(),
                doubled: counts.posts.values().map(doubled).sum(),
            },
            likes: Promise {
                acknowledged: counts.likes.len(),
                seen: counts
                    .likes
                    .iter()
                    .filter(|like| counts.notices.contains_key(*like))
                    .count(),
                doubled: counts.notices.values().map(doubled).sum(),
            },
            messages: Promise {
                acknowledged: counts.accepted.len(),
                seen: counts
                    .accepted
                    .iter()
                    .filter(|id| counts.shown.contains_key(*id))
                    .count(),
                doubled: counts.shown.values().map(doubled).sum(),
            },
            out_of_order: counts.out_of_order,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(date: i64) -> Like {
        ("kim".to_owned(), date, "lee".to_owned())
    }

    #[test]
    fn what_is_missing_doubled_or_out_of_order_breaks_a_promise() {
        let ledger = Ledger::default();
        assert!(ledger.summary().is_kept(), "nothing was promised");

        ledger.liked(like(1));
        assert!(
            !ledger.is_settled() && !ledger.summary().is_kept(),
            "a like is not shown"
        );
        ledger.notice_shown(like(1));
        assert!(ledger.is_settled() && ledger.summary().is_kept());
        ledger.notice_shown(like(2));
        assert!(ledger.summary().is_kept(), "the phone did not learn that it was taken");
        ledger.notice_shown(like(1));
        assert_eq!(ledger.summary().likes.doubled, 1);

        let ledger = Ledger::default();
        ledger.message_written();
        assert!(!ledger.is_settled(), "not accepted yet");
        ledger.accepted("1");
        assert!(!ledger.is_settled(), "not shown");
        ledger.message_shown("1");
        assert!(ledger.is_settled() && ledger.summary().is_kept());
        ledger.message_shown("1");
        assert!(!ledger.summary().is_kept(), "shown twice");

        let ledger = Ledger::default();
        ledger.post_saved("kim", 1);
        assert!(!ledger.summary().is_kept(), "not in the diary");
        ledger.post_found("kim", 1);
        assert!(ledger.summary().is_kept());
        ledger.post_found("kim", 1);
        assert!(!ledger.summary().is_kept(), "twice in the diary");

        let ledger = Ledger::default();
        ledger.out_of_order();
        assert!(!ledger.summary().is_kept());
    }

    #[test]
    fn people_do_not_like_their_own_posts() {
        let ledger = Ledger::default();
        assert_eq!(ledger.post_of_another("kim", 7), None);
        ledger.post_saved("kim", 1);
        assert_eq!(ledger.post_of_another("kim", 7), None);
        ledger.post_saved("lee", 2);
        assert_eq!(ledger.post_of_another("kim", 7), Some(("lee".to_owned(), 2)));
        assert_eq!(ledger.dates_of("lee"), [2]);
    }
}
