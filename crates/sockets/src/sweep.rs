//! The one timer of a hub: pings, idle sockets, tokens whose life ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::{Close, Hub};

pub(crate) async fn until_draining(hub: &Hub) {
    let limits = &hub.0.limits;
    let period =
        (limits.ping_every.min(limits.idle_timeout) / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let draining = hub.0.context.lifecycle.draining();
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            _ = ticks.tick() => sweep(hub),
        }
    }
}

fn sweep(hub: &Hub) {
    let shared = &hub.0;
    let now = shared.context.clock.now();
    let tick = shared.tick();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (idle_after, ping_every) = (millis(shared.limits.idle_timeout), millis(shared.limits.ping_every));
    let mut over = Vec::new();
    {
        let book = shared.book.read();
        for socket in book.accounts.values().flatten() {
            if socket.caller.expires_at <= now {
                over.push((socket.clone(), Close::TokenExpired));
            } else if socket.silent_for(tick) > idle_after {
                over.push((socket.clone(), Close::Idle));
            } else if socket.next_ping.load(Ordering::Relaxed) <= tick {
                socket
                    .next_ping
                    .store(tick.saturating_add(ping_every), Ordering::Relaxed);
                socket.mailbox.ping();
            }
        }
    }
    for (socket, reason) in over {
        shared.cut(&socket, reason);
    }
}
