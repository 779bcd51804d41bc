//! Leaving: 1012 in jittered batches, so that the clients do not fall upon the next replica all at once.

use std::time::Duration;

use crate::{Close, Hub};

/// The mean time between two batches.
const PACE: Duration = Duration::from_millis(100);
/// A batch smaller than this only draws the drain out.
const BATCH: usize = 16;

/// Closes everybody and waits for their tasks; the lifecycle's budget bounds the wait.
pub(crate) async fn drain(hub: &Hub) {
    let shared = &hub.0;
    let mut sockets: Vec<_> = {
        let mut connections = shared.connections.write();
        connections.draining = true;
        connections.accounts.values().flatten().cloned().collect()
    };
    sockets.sort_by_cached_key(|_| shared.context.entropy.u64());
    let batches = shared.limits.get().drain_spread.as_millis() / PACE.as_millis();
    let batch = sockets
        .len()
        .div_ceil(usize::try_from(batches).unwrap_or(usize::MAX).max(1))
        .max(BATCH);
    for (number, sockets) in sockets.chunks(batch).enumerate() {
        if number > 0 {
            let permille = u32::try_from(500 + shared.context.entropy.u64() % 1001).unwrap_or(1000);
            tokio::time::sleep(PACE * permille / 1000).await;
        }
        for socket in sockets {
            shared.cut(socket, Close::Restart);
        }
    }
    shared.tasks.close();
    shared.tasks.wait().await;
}
