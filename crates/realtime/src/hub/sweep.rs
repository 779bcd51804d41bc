//! The one timer of a hub: pings, idle sockets, expired tokens, looks into the store without a signal.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::mailbox::Signal;
use crate::{Close, Hub, Limits};

pub(crate) async fn until_draining(hub: &Hub) {
    let draining = hub.0.context.lifecycle.draining();
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            () = tokio::time::sleep(period(&hub.0.limits.get())) => sweep(hub),
        }
    }
}

/// Often enough for the limits of this moment.
fn period(limits: &Limits) -> Duration {
    (limits.ping_every.min(limits.idle_timeout) / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

fn sweep(hub: &Hub) {
    let shared = &hub.0;
    let now = shared.context.clock.now();
    let tick = shared.tick();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut over = Vec::new();
    {
        let connections = shared.connections.read();
        for socket in connections.accounts.values().flatten() {
            if socket.caller.expires_at <= now {
                over.push((socket.clone(), Close::TokenExpired));
                continue;
            }
            if socket.silent_for(tick) > millis(socket.limits.idle_timeout) {
                over.push((socket.clone(), Close::Idle));
                continue;
            }
            if socket.looks(tick) {
                socket.mailbox.signal(Signal::Look, None, None);
            }
            if socket.next_ping.load(Ordering::Relaxed) <= tick {
                socket
                    .next_ping
                    .store(tick.saturating_add(millis(socket.limits.ping_every)), Ordering::Relaxed);
                socket.mailbox.ping();
            }
        }
    }
    for (socket, reason) in over {
        shared.cut(&socket, reason);
    }
}
