//! `post`: the posts of the days that are today somewhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use parking_lot::Mutex;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::clock::Clock;
use sosohappy_events::Envelope;
use sosohappy_events::types::{PostChange, PostChanged};

/// Yesterday began at most 62 hours ago: a day begins 14 hours before that of UTC in the earliest time zone.
const READ_BACK: Duration = Duration::from_hours(72);
/// A date has eight digits of the day, and eight below them.
const BELOW_DAY: i64 = 100_000_000;

/// A post as its newest event says.
#[derive(Debug, Clone, Copy)]
struct Post {
    /// Of two events the one with the greater number is the later one.
    revision: i64,
    exists: bool,
}

/// Posts by day (`yyyyMMdd`) and id.
type Days = BTreeMap<i64, HashMap<i64, Post>>;

/// The posts that were read. Clones share them.
#[derive(Debug, Clone)]
pub struct Posts {
    clock: Arc<dyn Clock>,
    days: Arc<Mutex<Days>>,
}

impl Posts {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            days: Arc::default(),
        }
    }

    /// Returns the time since which all events of the counted days are.
    pub fn horizon(&self) -> Timestamp {
        self.clock.now().checked_sub(READ_BACK).unwrap_or(Timestamp::MIN)
    }

    /// Returns the number of posts of a day, `yyyyMMdd`; `None` for a day that is today nowhere.
    pub fn count(&self, day: i64) -> Option<usize> {
        let (first, last) = self.today();
        let counted = |posts: &HashMap<i64, Post>| posts.values().filter(|post| post.exists).count();
        (first..=last)
            .contains(&day)
            .then(|| self.days.lock().get(&day).map_or(0, counted))
    }

    /// Returns the first and the last day that are today somewhere.
    fn today(&self) -> (i64, i64) {
        let today = Offset::UTC.to_datetime(self.clock.now()).date();
        let first = today.yesterday().unwrap_or(Date::MIN);
        let last = today.tomorrow().unwrap_or(Date::MAX);
        (digits(first), digits(last))
    }
}

fn digits(date: Date) -> i64 {
    i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day())
}

/// Applying an event twice, or after a later one, changes nothing.
#[async_trait]
impl Consumer<PostChanged> for Posts {
    async fn handle(&self, Envelope { event, .. }: Envelope<PostChanged>) -> Result<(), HandleError> {
        let day = event.date / BELOW_DAY;
        let (first, last) = self.today();
        let mut days = self.days.lock();
        days.retain(|day, _| *day >= first);
        if !(first..=last).contains(&day) {
            return Ok(());
        }
        let newest = Post {
            revision: event.revision,
            exists: event.change != PostChange::Deleted,
        };
        let post = days.entry(day).or_default().entry(event.post).or_insert(newest);
        if newest.revision >= post.revision {
            *post = newest;
        }
        Ok(())
    }
}
