//! The records this replica has read, as many as it can remember.

use std::collections::{HashSet, VecDeque};

use jiff::Timestamp;
use sosohappy_events::EventId;

/// About 4 MB.
const MOST: usize = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    New,
    Duplicate,
    /// From before what is remembered: it may have been read.
    Forgotten,
}

#[derive(Debug)]
pub struct Dedupe {
    ids: HashSet<EventId>,
    order: VecDeque<(EventId, Timestamp)>,
    /// Of the latest happening that was forgotten.
    forgotten_until: Timestamp,
    most: usize,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self {
            ids: HashSet::new(),
            order: VecDeque::new(),
            forgotten_until: Timestamp::MIN,
            most: MOST,
        }
    }
}

impl Dedupe {
    pub fn verdict(&self, id: EventId, occurred_at: Timestamp) -> Verdict {
        if self.ids.contains(&id) {
            Verdict::Duplicate
        } else if occurred_at <= self.forgotten_until {
            Verdict::Forgotten
        } else {
            Verdict::New
        }
    }

    pub fn remember(&mut self, id: EventId, occurred_at: Timestamp) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back((id, occurred_at));
        if self.order.len() > self.most
            && let Some((oldest, at)) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
            self.forgotten_until = self.forgotten_until.max(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::Context;

    use super::*;

    #[test]
    fn remembers_the_latest_and_knows_what_it_has_forgotten() {
        let context = Context::system("dm-service", 0);
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut dedupe = Dedupe {
            most: 2,
            ..Dedupe::default()
        };
        let [one, two, three, four] = std::array::from_fn(|_| EventId::new(&context));
        for (id, second) in [(one, 10), (two, 20), (two, 20), (three, 30)] {
            dedupe.remember(id, at(second));
        }
        assert_eq!(dedupe.verdict(two, at(20)), Verdict::Duplicate);
        assert_eq!(dedupe.verdict(three, at(30)), Verdict::Duplicate);
        assert_eq!(dedupe.verdict(one, at(10)), Verdict::Forgotten);
        assert_eq!(dedupe.verdict(four, at(10)), Verdict::Forgotten);
        assert_eq!(dedupe.verdict(four, at(11)), Verdict::New);
        assert_eq!((dedupe.ids.len(), dedupe.order.len()), (2, 2));
    }
}
