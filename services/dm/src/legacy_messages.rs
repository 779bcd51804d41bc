//! Messages that the legacy Spring services left, or that a Spring replica beside ours writes: they name people by nickname only. Whose they are is
//! found out here, so that they are in the history and go with a resignation. What names nobody who is known stays as it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;
use sosohappy_access::Names;
use sosohappy_common::{Account, Context};
use tokio::time::{Instant, MissedTickBehavior};

use crate::domain::{Claim, MessageId};
use crate::store::Store;

const EVERY: Duration = Duration::from_mins(1);
/// What is younger is looked at every time.
const YOUNG: Duration = Duration::from_hours(1);
/// How often all of them are.
const ALL_EVERY: Duration = Duration::from_hours(6);
const AT_ONCE: u32 = 500;

pub fn spawn(context: &Context, store: Arc<dyn Store>, names: Arc<dyn Names>) {
    let (clock, draining) = (context.clock.clone(), context.lifecycle.draining());
    let lifecycle = context.lifecycle.clone();
    context.lifecycle.spawn("first-fleet-messages", async move {
        // Before, the directory of names is not filled.
        if draining.run_until_cancelled(lifecycle.ready()).await.is_none() {
            return Ok(());
        }
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut all_done: Option<Instant> = None;
        while draining.run_until_cancelled(tick.tick()).await.is_some() {
            let all = all_done.is_none_or(|done| done.elapsed() >= ALL_EVERY);
            let from = if all {
                Timestamp::UNIX_EPOCH
            } else {
                clock.now().checked_sub(YOUNG).unwrap_or(Timestamp::UNIX_EPOCH)
            };
            let claimed = draining.run_until_cancelled(claim(&*store, &*names, from)).await;
            match claimed {
                Some(Ok(())) if all => all_done = Some(Instant::now()),
                Some(Ok(())) | None => {}
                Some(Err(error)) => tracing::warn!(error = format!("{error:#}"), "legacy messages unclaimed"),
            }
        }
        Ok(())
    });
}

/// Claims what was written since then, as far as its people are known.
pub async fn claim(store: &dyn Store, names: &dyn Names, since: Timestamp) -> anyhow::Result<()> {
    let mut known: HashMap<String, Option<Account>> = HashMap::new();
    let mut after = first_id(since);
    loop {
        let unclaimed = store.unclaimed(&after, AT_ONCE).await?;
        let Some(last) = unclaimed.last() else { return Ok(()) };
        after = last.id.clone();
        let mut claims = Vec::new();
        for message in unclaimed {
            for nickname in [&message.sender, &message.receiver] {
                if !known.contains_key(nickname) {
                    let account = names
                        .account_of(nickname)
                        .await
                        .map_err(|denied| anyhow!("names: {denied}"))?;
                    known.insert(nickname.clone(), account);
                }
            }
            if let (Some(Some(sender)), Some(Some(receiver))) =
                (known.get(&message.sender), known.get(&message.receiver))
            {
                claims.push(Claim {
                    id: message.id,
                    sender: sender.clone(),
                    receiver: receiver.clone(),
                });
            }
        }
        store.claim(&claims).await?;
    }
}

/// Before all ids that were made since then: they begin with the second, in hex.
fn first_id(since: Timestamp) -> MessageId {
    MessageId::stored(format!("{:08x}{:016x}", since.as_second().max(0), 0))
}
