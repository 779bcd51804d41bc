//! Reports about notices that a socket has shown.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_access::Caller;
use sosohappy_bus::delivery::Hop;
use sosohappy_common::clock::Clock;
use sosohappy_common::{Account, Context, crash_point};
use sosohappy_events::EventId;
use sosohappy_realtime::{Marks, Numbered, OnShown, stream};
use sosohappy_store::StoreError;

use crate::metrics::{NoticeMetrics, Outcome};
use crate::store::{Store, StoredNotice, View};

/// The delivery of a notice that is older when its frame is queued is not measured: its client was offline.
const MEASURED: Duration = Duration::from_secs(30);

/// Settles the pushes of shown notices, and measures their delivery. Clones share the queue of marks.
#[derive(Debug, Clone)]
pub struct ShownReports {
    marks: Marks<EventId>,
    views: Marks<View>,
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
        let reached = |hop: Hop| {
            let (metrics, clock) = (self.metrics.clone(), self.clock.clone());
            move || {
                if is_measured {
                    metrics.reached(hop, occurred_at, clock.now());
                }
            }
        };
        let (metrics, written, acknowledged) =
            (self.metrics.clone(), reached(Hop::Written), reached(Hop::Acknowledged));
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
