//! Shows notices on the sockets of this replica, those of each receiver in order: thousands of likes of one post at once do not delay the
//! notices of others.

use std::time::Duration;

use sosohappy_bus::consume::HandleError;
use sosohappy_realtime::Lanes;

use crate::delivery::Delivery;
use crate::domain::Notice;

/// Between two tries while the inbox is unavailable: the first, doubled up to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Clones share the lanes.
#[derive(Debug, Clone)]
pub struct Shows {
    pub delivery: Delivery,
    lanes: Lanes<Notice>,
}

impl Shows {
    pub fn new(delivery: &Delivery) -> Self {
        let shown_by = delivery.clone();
        let lanes = Lanes::new(&delivery.context, move |notice| {
            let delivery = shown_by.clone();
            Box::pin(async move { show(&delivery, &notice).await })
        });
        Self {
            delivery: delivery.clone(),
            lanes,
        }
    }

    /// Shows a notice after the earlier ones of its receiver. Without a socket here there is nothing to do: the consumer keeps it.
    pub fn show(&self, notice: Notice) {
        if !self.delivery.hub.online(&notice.receiver) {
            return;
        }
        let receiver = notice.receiver.clone();
        if !self.lanes.push(&receiver, notice) {
            // The inbox has it, and its push is sent.
            tracing::warn!("too many notices for one account; not shown on its sockets");
        }
    }
}

/// Retries while the inbox is unavailable: version 2 sockets read the notice from there.
async fn show(delivery: &Delivery, notice: &Notice) {
    let draining = delivery.context.lifecycle.draining();
    let mut pause = RETRY.0;
    loop {
        match delivery.show(notice).await {
            Ok(()) => return,
            Err(HandleError::Unavailable(error)) => {
                tracing::warn!(error = format!("{error:#}"), "showing notice failed; retrying");
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "showing notice failed");
                return;
            }
        }
        if draining.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            // Its receiver reconnects to another replica.
            return;
        }
        pause = (pause * 2).min(RETRY.1);
    }
}
