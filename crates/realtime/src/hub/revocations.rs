//! Closes the sockets of revoked sessions and accounts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use sosohappy_access::{Caller, Revalidation, Revocations};
use sosohappy_common::{Account, Context};

use crate::{Close, Hub};

/// Pause between two rounds of asking auth about open sockets.
const ROUND: Duration = Duration::from_millis(250);

/// Sockets asked about at once: auth may just have started again.
const AT_ONCE: usize = 8;

/// Spawns the task that asks auth again about the tokens of open sockets while revocations may be missing, each at most once a
/// second; those that auth revoked are closed.
pub fn spawn_revalidation(context: &Context, hub: &Hub, revalidation: Revalidation) {
    let (hub, mut rounds) = (hub.clone(), context.lifecycle.rounds(ROUND));
    context.lifecycle.spawn("socket-revalidation", async move {
        while rounds.next().await {
            if revalidation.is_needed() {
                rounds.interruptible(revalidate_all(&hub, &revalidation)).await;
            }
        }
        Ok(())
    });
}

async fn revalidate_all(hub: &Hub, revalidation: &Revalidation) {
    let callers: HashMap<_, Caller> = {
        let connections = hub.0.connections.read();
        let sockets = connections.accounts.values().flatten();
        sockets
            .map(|socket| (socket.caller.token, socket.caller.clone()))
            .collect()
    };
    stream::iter(callers.into_values())
        .for_each_concurrent(AT_ONCE, async |caller| {
            // Heartbeats may have come back in the middle of a long round.
            if revalidation.is_needed() {
                revalidation.revalidate(&caller).await;
            }
        })
        .await;
}

/// Closes sockets of an account whenever [`Revocations`] reports a change of it.
pub(crate) fn subscribe(hub: &Hub) {
    // Weak: the hub holds the revocations, and they hold this subscriber.
    let hub_ref = Arc::downgrade(&hub.0);
    hub.0.revocations.subscribe(move |account| {
        if let Some(shared) = hub_ref.upgrade() {
            close_revoked(&Hub(shared), account);
        }
    });
}

fn close_revoked(hub: &Hub, account: &Account) {
    let shared = &hub.0;
    // Most revocations are about accounts without a socket here.
    if !shared.connections.read().accounts.contains_key(account) {
        return;
    }
    let mut connections = shared.connections.write();
    let sockets = connections.accounts.get(account).cloned().unwrap_or_default();
    for socket in sockets {
        if let Some(reason) = reason(&shared.revocations, &socket.caller) {
            connections.remove(&socket);
            socket.mailbox.close(reason);
        }
    }
}

/// Returns why this caller may not have a socket; `None` while the session is valid.
pub(crate) fn reason(revocations: &Revocations, caller: &Caller) -> Option<Close> {
    let at = revocations.revoked_at(&caller.account, caller.session, caller.issued_at)?;
    // Auth also publishes `expired` when the session's last token has run out: that client is to re-issue and come back.
    let ran_out = caller.expires_at <= at;
    Some(if ran_out { Close::TokenExpired } else { Close::Policy })
}
