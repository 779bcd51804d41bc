use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};

use crate::telemetry::logged_by_level;

/// Log events by level, under Logback's name. The subscriber counts them once a process; each scrape raises the service's counters to
/// those numbers.
#[derive(Debug)]
pub(super) struct Logged {
    events: IntCounterVec,
    catching_up: Mutex<()>,
}

impl Logged {
    pub(super) fn new() -> Self {
        let opts = Opts::new("logback_events_total", "Log events of the process by level");
        let events = IntCounterVec::new(opts, &["level"]).expect("names are valid");
        Self {
            events,
            catching_up: Mutex::default(),
        }
    }
}

impl Collector for Logged {
    fn desc(&self) -> Vec<&Desc> {
        self.events.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.catching_up.lock();
        for (level, count) in logged_by_level() {
            let counter = self.events.with_label_values(&[level]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.events.collect()
    }
}
