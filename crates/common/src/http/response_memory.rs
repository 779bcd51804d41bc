//! The memory that large responses share: each is held until its client has read it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Problem;
use crate::settings::Server;

/// How long a response waits for its share.
const WAIT: Duration = Duration::from_secs(5);
/// The budget of routes that are not behind [`super::serve::Service`], as in the shared defaults.
const FALLBACK_BUDGET: usize = 64 * 1024 * 1024;

/// `server.response-memory`, as an extractor. A handler reserves its share before it loads a large response:
///
/// ```ignore
/// let mut share = memory.share(size).await?;   // 503 when no memory is released in time
/// let bytes = load().await?;
/// Ok(share.hold(bytes).into_response())         // released once the client has read it, or disconnected
/// ```
///
/// A client that does not read is disconnected after `server.write-timeout`. Streams need no share.
#[derive(Debug, Clone)]
pub struct ResponseMemory {
    budget: usize,
    memory: Arc<Semaphore>,
    wait: Duration,
}

/// Reserved bytes of the budget, released when it is dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Default for ResponseMemory {
    fn default() -> Self {
        Self::of(FALLBACK_BUDGET)
    }
}

impl ResponseMemory {
    /// Creates the budget of new settings. Shares the memory with the budget before if its size is the same; otherwise older responses
    /// count against the old budget until they are read.
    pub(crate) fn new(settings: &Server, before: Option<&Self>) -> Self {
        let made = Self::of(settings.response_memory);
        match before {
            Some(before) if before.budget == made.budget => before.clone(),
            _ => made,
        }
    }

    fn of(budget: usize) -> Self {
        let budget = budget.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self {
            budget,
            memory: Arc::new(Semaphore::new(budget)),
            wait: WAIT,
        }
    }

    /// Waits for a share of so many bytes; a larger one than the budget takes all of it.
    pub async fn share(&self, bytes: usize) -> Result<Share, Problem> {
        let permits = u32::try_from(bytes.min(self.budget)).unwrap_or(u32::MAX);
        let waiting = tokio::time::timeout(self.wait, self.memory.clone().acquire_many_owned(permits));
        match waiting.await {
            Ok(Ok(permit)) => Ok(Share(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable()),
        }
    }
}

impl Share {
    /// Attaches the share, reduced to their length, to these bytes: it is released with the last reference to them.
    #[must_use]
    pub fn hold(mut self, bytes: impl Into<Bytes>) -> Bytes {
        struct Held(Bytes, #[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        let bytes = bytes.into();
        if let Some(surplus) = self.0.num_permits().checked_sub(bytes.len()) {
            drop(self.0.split(surplus));
        }
        Bytes::from_owner(Held(bytes, self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_is_held_until_the_last_byte_is_released() {
        let mut memory = ResponseMemory::of(1000);
        memory.wait = Duration::from_millis(20);
        let held = memory.share(900).await.expect("there is room").hold(vec![7; 600]);
        let refused = memory.share(500).await.expect_err("400 are left");
        assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
        drop(memory.share(400).await.expect("what was not used was given back"));
        let part = held.slice(599..);
        drop(held);
        memory.share(500).await.expect_err("a part holds the whole");
        drop(part);
        memory.share(5000).await.expect("all of it, for what is larger");
    }
}
