//! What `/actuator/health` tells: named checks that services register.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use parking_lot::RwLock;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// One check; longer is a failure.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// For how long an answer serves whoever asks next: asking is open, the engines behind are not.
const FRESH: Duration = Duration::from_secs(1);

/// What a check answers: details for operators, or why the part is down.
pub type Checked = Result<Map<String, Value>, String>;

type Ask = Arc<dyn Fn() -> BoxFuture<'static, Checked> + Send + Sync>;

/// The checks of one service. Clones share them.
#[derive(Clone, Default)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    checks: RwLock<Vec<(&'static str, Ask)>>,
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

/// Every check by name, in the order they were registered.
#[derive(Debug, Clone, Default)]
pub struct Report(pub Vec<(&'static str, Checked)>);

impl Report {
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.iter().all(|(_, checked)| checked.is_ok())
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.inner.checks.read().iter().map(|(name, _)| *name).collect();
        f.debug_tuple("Health").field(&names).finish()
    }
}

impl Health {
    /// Adds a check, for example `db`. The reason it answers is shown to operators only, and must still hold no
    /// secret.
    pub fn register<F>(&self, name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Checked> + Send + 'static,
    {
        self.inner
            .checks
            .write()
            .push((name, Arc::new(move || Box::pin(ask()))));
    }

    /// Asks all checks at once, or answers what was found less than a second ago.
    pub async fn report(&self) -> Arc<Report> {
        let mut last = self.inner.last.lock().await;
        if let Some((at, report)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return report.clone();
        }
        let checks = self.inner.checks.read().clone();
        let asked = checks.into_iter().map(|(name, ask)| async move {
            let checked = tokio::time::timeout(CHECK_TIMEOUT, ask()).await;
            let checked = checked.unwrap_or_else(|_| Err(format!("no answer within {}s", CHECK_TIMEOUT.as_secs())));
            if let Err(reason) = &checked {
                tracing::warn!(check = name, reason, "health check failed");
            }
            (name, checked)
        });
        let report = Arc::new(Report(join_all(asked).await));
        *last = Some((Instant::now(), report.clone()));
        report
    }
}
