//! Reports about notices that a socket has shown.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use sosohappy_access::Caller;
use sosohappy_bus::delivery::Hop;
use sosohappy_common::clock::Clock;
use sosohappy_common::{Account, Context, crash_point};
use sosohappy_events::EventId;
use sosohappy_realtime::{Marks, Numbered, OnShown, stream};
use sosohappy_store::StoreError;

use crate::metrics::{NoticeMetrics, Outcome};
use crate::store::{Store, StoredNotice, View};

/// The delivery of a notice that is older when its frame is queued is not measured.
const MEASURED: Duration = Duration::from_secs(30);

/// Notices at one hop, of which those are measured whose receiver had a socket here when the record was consumed. What a client that was offline
/// reads later is not among them, and each is measured once, however many sockets there are. A socket may read a notice from the inbox before the
/// record is consumed here. A notice for which the other of the two never comes is forgotten after a while.
#[derive(Debug, Clone, Default)]
struct Measured(Arc<Mutex<Generations>>);

#[derive(Debug, Default)]
struct Generations {
    /// Since when `recent` is filled.
    since: Option<Timestamp>,
    recent: HashMap<EventId, Known>,
    before: HashMap<EventId, Known>,
}

/// What was first.
#[derive(Debug, Clone, Copy)]
enum Known {
    Consumed,
    Reached(Timestamp),
}

impl Measured {
    /// Returns when the notice has reached the hop, if that was before.
    fn consumed(&self, notice: EventId, now: Timestamp) -> Option<Timestamp> {
        match self.matched(notice, Known::Consumed, now)? {
            Known::Consumed => None,
            Known::Reached(at) => Some(at),
        }
    }

    /// Returns whether the notice is measured now.
    fn reached(&self, notice: EventId, now: Timestamp) -> bool {
        matches!(self.matched(notice, Known::Reached(now), now), Some(Known::Consumed))
    }

    /// Removes and returns what was known before, or notes what is known now.
    fn matched(&self, notice: EventId, known: Known, now: Timestamp) -> Option<Known> {
        let mut notices = self.0.lock();
        if notices
            .since
            .is_none_or(|since| now.duration_since(since).unsigned_abs() > MEASURED)
        {
            notices.before = std::mem::take(&mut notices.recent);
            notices.since = Some(now);
        }
        let first = notices
            .recent
            .remove(&notice)
            .or_else(|| notices.before.remove(&notice));
        if first.is_none() {
            notices.recent.insert(notice, known);
        }
        first
    }
}

/// Settles the pushes of shown notices, and measures their delivery. Clones share the queue of marks.
#[derive(Debug, Clone)]
pub struct ShownReports {
    marks: Marks<EventId>,
    views: Marks<View>,
    written: Measured,
    acknowledged: Measured,
    metrics: NoticeMetrics,
    clock: Arc<dyn Clock>,
}

impl ShownReports {
    pub fn spawn(context: &Context, store: &Arc<dyn Store>, metrics: &NoticeMetrics) -> Self {
        let (settled_in, viewed_in) = (store.clone(), store.clone());
        let marks = Marks::spawn(context, move |notices: Vec<EventId>, at| {
            let store = settled_in.clone();
            Box::pin(async move {
                store.settle(&notices, at).await?;
                crash_point("notice.shown-recorded");
                Ok::<_, StoreError>(())
            })
        });
        let views = Marks::spawn(context, move |views: Vec<View>, _| {
            let store = viewed_in.clone();
            Box::pin(async move { store.viewed(&latest(views)).await })
        });
        Self {
            marks,
            views,
            written: Measured::default(),
            acknowledged: Measured::default(),
            metrics: metrics.clone(),
            clock: context.clock.clone(),
        }
    }

    /// Notes that a client of version 1 opened a socket: the app was opened, and its icon counts anew.
    pub fn opened(&self, caller: &Caller) {
        self.viewed(&caller.account, Some(caller.issued_at));
    }

    fn viewed(&self, account: &Account, authorized_at: Option<Timestamp>) {
        self.views.mark(View {
            account: account.clone(),
            at: self.clock.now(),
            authorized_at,
        });
    }

    /// Notes that the record of a notice was consumed while its receiver had a socket here: the delivery to it is measured.
    pub fn consumed(&self, notice: EventId, occurred_at: Timestamp) {
        let now = self.clock.now();
        for (hop, measured) in [(Hop::Written, &self.written), (Hop::Acknowledged, &self.acknowledged)] {
            if let Some(at) = measured.consumed(notice, now) {
                self.metrics.reached(hop, occurred_at, at);
            }
        }
    }

    /// Returns the report for a frame of version 1 that is being queued, which also counts as viewed when it is shown.
    pub fn queued_to_view(&self, account: &Account, notice: EventId, occurred_at: Timestamp) -> OnShown {
        let (reports, account) = (self.clone(), account.clone());
        self.report(notice, occurred_at, move || reports.viewed(&account, None))
    }

    /// Returns the frame of a notice for version 2, whose acknowledgement settles its push. `actor`: the present nickname of who caused it, without
    /// which a like and a follow have none.
    pub fn numbered(&self, notice: &StoredNotice, actor: Option<&str>) -> Option<Numbered> {
        let data = notice.shown_data(actor)?;
        Some(Numbered {
            seq: notice.seq,
            frame: stream::frame(&notice.topic, Some(&notice.id.to_string()), Some(notice.seq), &data).into(),
            on_shown: self.report(notice.id, notice.occurred_at, || ()),
        })
    }

    fn report(&self, notice: EventId, occurred_at: Timestamp, shown: impl FnOnce() + Send + 'static) -> OnShown {
        let is_measured = self.clock.now().duration_since(occurred_at).unsigned_abs() <= MEASURED;
        let reached = |hop: Hop, measured: &Measured| {
            let (metrics, clock, measured) = (self.metrics.clone(), self.clock.clone(), measured.clone());
            move || {
                let now = clock.now();
                if is_measured && measured.reached(notice, now) {
                    metrics.reached(hop, occurred_at, now);
                }
            }
        };
        let metrics = self.metrics.clone();
        let written = reached(Hop::Written, &self.written);
        let acknowledged = reached(Hop::Acknowledged, &self.acknowledged);
        let on_shown = self.marks.on_shown(notice, move || {
            metrics.notice(Outcome::Shown);
            acknowledged();
            shown();
            crash_point("notice.frame-shown");
        });
        on_shown.on_written(move || {
            written();
            crash_point("notice.frame-written");
        })
    }
}

/// Merges the views of each account: of a flood of frames for one account the last is enough.
fn latest(views: Vec<View>) -> Vec<View> {
    let mut latest = HashMap::<Account, View>::new();
    for view in views {
        match latest.entry(view.account.clone()) {
            Entry::Vacant(place) => {
                place.insert(view);
            }
            Entry::Occupied(mut place) => {
                let earlier = place.get_mut();
                earlier.at = earlier.at.max(view.at);
                earlier.authorized_at = earlier.authorized_at.max(view.authorized_at);
            }
        }
    }
    latest.into_values().collect()
}
