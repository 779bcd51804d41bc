//! Recognises records that are delivered more than once: those that concern accounts connected to this replica. A record for an account
//! without a socket here shows nothing, so it is not remembered; the store answers for what is older than this memory.

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use sosohappy_events::EventId;

/// Records a second, for accounts connected to one replica, whose duplicates are recognised over the whole [`WINDOW`].
const RATE: u32 = 5_000;
/// Seconds after the first copy in which a second one may come: a broker or relay that was killed is back sooner.
const WINDOW: u32 = 60;
/// About 20 MB, while the rate lasts.
const MOST: u32 = RATE * WINDOW;
/// Ids of a quiet replica, for which no memory is given back.
const FEW: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    New,
    Duplicate,
    /// Older than what is remembered: the store knows whether it was shown.
    Forgotten,
}

/// The records read within the last minute, as many as the rate it is made for brings.
#[derive(Debug)]
pub struct Dedupe {
    ids: HashSet<EventId>,
    order: VecDeque<Read>,
    /// When the youngest forgotten record occurred.
    forgotten_until: Timestamp,
    most: usize,
}

#[derive(Debug)]
struct Read {
    id: EventId,
    occurred_at: Timestamp,
    seen_at: Timestamp,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self {
            ids: HashSet::new(),
            order: VecDeque::new(),
            forgotten_until: Timestamp::MIN,
            most: usize::try_from(MOST).unwrap_or(usize::MAX),
        }
    }
}

impl Dedupe {
    #[must_use]
    pub fn verdict(&self, id: EventId, occurred_at: Timestamp) -> Verdict {
        if self.ids.contains(&id) {
            Verdict::Duplicate
        } else if occurred_at <= self.forgotten_until {
            Verdict::Forgotten
        } else {
            Verdict::New
        }
    }

    /// Remembers a record that was handled.
    pub fn remember(&mut self, id: EventId, occurred_at: Timestamp, now: Timestamp) {
        while let Some(oldest) = self.order.front()
            && now.duration_since(oldest.seen_at) > SignedDuration::from_secs(WINDOW.into())
        {
            self.forget_oldest();
        }
        if self.order.len() <= FEW && self.order.capacity() > 2 * FEW {
            self.order.shrink_to(FEW);
            self.ids.shrink_to(FEW);
        }
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(Read {
            id,
            occurred_at,
            seen_at: now,
        });
        if self.order.len() > self.most {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            self.ids.remove(&oldest.id);
            self.forgotten_until = self.forgotten_until.max(oldest.occurred_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::Context;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn remembers_the_latest_and_knows_what_it_has_forgotten() {
        let context = Context::system("dm-service", 0);
        let mut dedupe = Dedupe {
            most: 2,
            ..Dedupe::default()
        };
        let [one, two, three, four] = std::array::from_fn(|_| EventId::new(&context));
        for (id, second) in [(one, 10), (two, 20), (two, 20), (three, 30)] {
            dedupe.remember(id, at(second), at(second));
        }
        assert_eq!(dedupe.verdict(two, at(20)), Verdict::Duplicate);
        assert_eq!(dedupe.verdict(three, at(30)), Verdict::Duplicate);
        assert_eq!(dedupe.verdict(one, at(10)), Verdict::Forgotten);
        assert_eq!(dedupe.verdict(four, at(10)), Verdict::Forgotten);
        assert_eq!(dedupe.verdict(four, at(11)), Verdict::New);
        assert_eq!((dedupe.ids.len(), dedupe.order.len()), (2, 2));
    }

    /// Case D5: 1,740 likes a second, the second copy 11 seconds later and at the end of the window.
    #[test]
    fn stands_the_rate_it_is_made_for() {
        let context = Context::system("notice-service", 0);
        let mut dedupe = Dedupe::default();
        let first = EventId::new(&context);
        dedupe.remember(first, at(0), at(0));
        let window = i64::from(WINDOW);
        for second in 0..window {
            for _ in 0..RATE - 1 {
                dedupe.remember(EventId::new(&context), at(second), at(second));
            }
            assert_eq!(dedupe.verdict(first, at(0)), Verdict::Duplicate, "after {second} s");
        }
        dedupe.remember(EventId::new(&context), at(window + 1), at(window + 1));
        assert_eq!(dedupe.verdict(first, at(0)), Verdict::Forgotten);
        dedupe.remember(EventId::new(&context), at(3 * window), at(3 * window));
        dedupe.remember(EventId::new(&context), at(3 * window), at(3 * window));
        assert!(dedupe.order.capacity() <= 2 * FEW, "memory is given back");
    }
}
