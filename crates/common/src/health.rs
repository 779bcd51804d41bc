//! The named checks behind `/actuator/health`, which services register.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use parking_lot::RwLock;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The timeout of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long results are cached: the endpoint is open, and must not load the engines behind it.
const FRESH: Duration = Duration::from_secs(1);

/// Free bytes below which a disk counts as full, as in Spring's `diskSpace`: the rest is for logs and deletions.
const LEAST_FREE: u64 = 10 * 1024 * 1024;

/// The result of a check: details for operators, or the reason of the failure.
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
    /// Folders of the check `diskSpace`.
    folders: RwLock<BTreeSet<PathBuf>>,
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

/// The results by name, in the order of registration.
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
    /// Registers a check, for example `db`. Its reason is shown to operators only, and must hold no secret. The check is held as long as
    /// this: one that needs something that holds this in turn, as a [`crate::Context`] does, holds it weakly.
    pub fn register<F>(&self, name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Checked> + Send + 'static,
    {
        self.inner
            .checks
            .write()
            .push((name, Arc::new(move || Box::pin(ask()))));
    }

    /// Adds a folder that the service writes to: the check `diskSpace` is down while its disk is full. Readiness does not depend on it, so
    /// that reads are still served.
    pub fn watch_disk(&self, folder: &Path) {
        let mut folders = self.inner.folders.write();
        if folders.is_empty() {
            let inner = Arc::downgrade(&self.inner);
            self.register("diskSpace", move || {
                let folders = inner.upgrade().map(|inner| inner.folders.read().clone());
                let folders = folders.unwrap_or_default();
                // On a blocking thread: a network file system may be slow.
                let checked = tokio::task::spawn_blocking(move || check_disks(&folders, LEAST_FREE));
                async { checked.await.unwrap_or_else(|panic| Err(panic.to_string())) }
            });
        }
        folders.insert(folder.to_owned());
    }

    /// Runs all checks concurrently, or returns results of less than a second ago.
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

/// Returns the free bytes of each folder's disk, or an error that names a disk with fewer than `least`.
fn check_disks(folders: &BTreeSet<PathBuf>, least: u64) -> Checked {
    let mut free = Map::new();
    for folder in folders {
        let shown = folder.display();
        let disk = rustix::fs::statvfs(folder).map_err(|error| format!("{shown}: {error}"))?;
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if bytes < least {
            return Err(format!("{shown}: {bytes} bytes are free, fewer than {least}"));
        }
        free.insert(shown.to_string(), bytes.into());
    }
    Ok(Map::from_iter([("free".to_owned(), free.into())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_down_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folders = BTreeSet::from([folder.path().to_owned()]);
        let free = check_disks(&folders, 1).unwrap();
        assert!(free["free"][folder.path().to_str().unwrap()].as_u64().unwrap() > 1);
        let full = check_disks(&folders, u64::MAX).unwrap_err();
        assert!(full.starts_with(folder.path().to_str().unwrap()), "{full}");
        assert!(full.ends_with(&format!("fewer than {}", u64::MAX)), "{full}");
        let gone = check_disks(&BTreeSet::from([folder.path().join("gone")]), 1).unwrap_err();
        assert!(gone.contains("No such file"), "{gone}");
    }

    #[test]
    fn checks_do_not_outlive_their_service() {
        let (health, folder) = (Health::default(), tempfile::tempdir().unwrap());
        let checked = Arc::new(());
        let of_check = checked.clone();
        health.register("db", move || {
            let _checked = of_check.clone();
            async { Ok(Map::new()) }
        });
        health.watch_disk(folder.path());
        drop(health);
        assert_eq!(Arc::strong_count(&checked), 1);
    }

    #[tokio::test]
    async fn folders_share_one_check() {
        let (health, folder) = (Health::default(), tempfile::tempdir().unwrap());
        health.watch_disk(folder.path());
        health.watch_disk(Path::new("/"));
        let report = health.report().await;
        let (name, checked) = &report.0[0];
        assert_eq!((*name, report.0.len()), ("diskSpace", 1));
        assert_eq!(checked.as_ref().unwrap()["free"].as_object().unwrap().len(), 2);
    }
}
