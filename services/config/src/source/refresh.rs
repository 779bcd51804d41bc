//! Refreshes the source: reads the newest version, checks it, and publishes it.
//!
//! One refresh runs at a time (`refreshing`). `published` is replaced last, after the checks, the state of a planned canary and the copy on disk,
//! so that a request never sees a version that may still be refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use super::git::{GitError, Heads};
use super::labels::LoadError;
use super::{Backend, Published, Source, SourceError, blocking, folder};
use crate::domain::canary::Phase;
use crate::domain::finding::Refused;
use crate::domain::snapshot::{Contents, Snapshot, version_of};

/// The reason for a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshReason {
    /// Polling or a webhook: a new version may be held back.
    Scheduled,
    /// An operator requested it: a new version is served.
    Requested,
}

/// The result of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Unchanged,
    /// A served version has changed.
    Changed,
    /// A new version failed the checks and is not served.
    Refused,
    /// The source cannot be read.
    Unavailable,
}

/// State of the refresh in progress.
#[derive(Debug, Default)]
pub(super) struct Refreshing {
    /// A fetch that exceeded `source.timeout`. The next refresh waits for it instead of starting another: two would write into one clone.
    unfinished_fetch: Option<JoinHandle<Result<Heads, GitError>>>,
}

/// A version that was read and not checked yet.
struct Candidate {
    version: String,
    contents: Contents,
}

impl Source {
    /// Publishes the version that the last process served, so that it is available before the source has been read.
    pub(super) async fn recover(&self) -> Result<(), SourceError> {
        let source = self.clone();
        let recovered = blocking(move || {
            let inner = &source.inner;
            let state = |error: &dyn std::error::Error| SourceError::State(error.to_string());
            let Some(version) = inner.archive.last().map_err(|error| state(&error))? else {
                return Ok(None);
            };
            let newest = match inner.archive.get(&version) {
                Ok(Some(contents)) => Snapshot::new(version, contents),
                Ok(None) => return Ok(None),
                Err(error) => {
                    tracing::error!(%error, "reading saved version failed");
                    return Ok(None);
                }
            };
            let heads = match &inner.backend {
                Backend::Git(git) => git.heads().ok().flatten().unwrap_or_default(),
                Backend::Folder(_) => Heads::default(),
            };
            match newest {
                Ok(newest) => Ok(Some((Arc::new(newest), heads))),
                Err(refused) => {
                    tracing::error!(%refused, "saved version invalid");
                    Ok::<_, SourceError>(None)
                }
            }
        });
        if let Some((main, heads)) = recovered.await? {
            *self.inner.published.write() = Some(Arc::new(Published { main, heads }));
        }
        Ok(())
    }

    /// Refreshes at every polling interval. Calls `changed` after each change.
    pub fn spawn_watch(&self, changed: impl Fn() + Send + 'static) {
        let source = self.clone();
        let lifecycle = &self.inner.context.lifecycle;
        let draining = lifecycle.draining();
        let mut gate = Some(lifecycle.gate("source"));
        lifecycle.spawn("config-source", async move {
            loop {
                let Some(outcome) = draining.run_until_cancelled(source.refresh()).await else {
                    return Ok(());
                };
                if source.published().is_some() {
                    if let Some(gate) = gate.take() {
                        gate.open();
                    }
                    if outcome == Outcome::Changed || source.inner.is_change_unpublished.swap(false, Ordering::Relaxed)
                    {
                        changed();
                    }
                }
                let pause = tokio::time::sleep(source.inner.settings.get().poll.unwrap_or(source.inner.default_poll));
                if draining.run_until_cancelled(pause).await.is_none() {
                    return Ok(());
                }
            }
        });
    }

    /// Refreshes the source once. A version that fails a check is refused as a whole, and the version before stays published.
    pub async fn refresh(&self) -> Outcome {
        self.refresh_for(RefreshReason::Scheduled).await
    }

    /// Refreshes the source once. The reason decides whether a new version is held back.
    pub async fn refresh_for(&self, reason: RefreshReason) -> Outcome {
        let mut refreshing = self.inner.refreshing.lock().await;
        let refreshed = match &self.inner.backend {
            Backend::Folder(_) => self.refresh_folder(reason).await,
            Backend::Git(_) => self.refresh_git(&mut refreshing, reason).await,
        };
        match refreshed {
            Ok(outcome) => {
                let before = self.inner.status.lock().unavailable.take();
                if before.is_some() {
                    tracing::info!("source available again");
                }
                self.inner.metrics.unavailable.set(0);
                outcome
            }
            Err(error) => {
                self.inner.metrics.unavailable.set(1);
                let mut status = self.inner.status.lock();
                if status.unavailable.as_ref().is_none_or(|(_, before)| *before != error) {
                    tracing::error!(reason = error, "source unavailable; serving last valid version");
                }
                let since = status.unavailable.take().map(|(since, _)| since);
                status.unavailable = Some((since.unwrap_or_else(|| self.inner.context.clock.now()), error));
                Outcome::Unavailable
            }
        }
    }

    async fn refresh_folder(&self, reason: RefreshReason) -> Result<Outcome, String> {
        let source = self.clone();
        let read = blocking(move || match &source.inner.backend {
            Backend::Folder(folder) => folder::read(folder).map_err(|error| error.to_string()),
            Backend::Git(_) => Err("not a folder".to_owned()),
        });
        let contents = read.await?;
        let version = version_of(&contents);
        self.publish(Candidate { version, contents }, Heads::default(), reason)
            .await
    }

    async fn refresh_git(&self, refreshing: &mut Refreshing, reason: RefreshReason) -> Result<Outcome, String> {
        let fetched = self.fetch(refreshing).await;
        // When the fetch fails and nothing is published, the clone of an earlier process is read; the refresh is reported as unavailable all the same.
        let (heads, fetch_error) = match fetched {
            Ok(heads) => (heads, None),
            Err(error) if self.published().is_none() => match self.local_heads().await {
                Some(heads) => (heads, Some(error)),
                None => return Err(error.to_string()),
            },
            Err(error) => return Err(error.to_string()),
        };
        self.inner.labels.clear_names();
        self.inner.fetched.lock().clone_from(&heads.labels);
        let label = self.inner.default_label.clone().or_else(|| heads.default.clone());
        let label = label.ok_or("the repository names no default branch: set source.default-label")?;
        let commit = heads.labels.get(&label).cloned();
        let commit = commit.ok_or_else(|| format!("the repository has no branch or tag {label}"))?;
        let is_published = self
            .published()
            .is_some_and(|published| published.main.version == commit);
        // An unchanged commit is not read: `publish` compares the version before it looks at the contents.
        let contents = if is_published {
            Contents::new()
        } else {
            self.read(&commit).await?
        };
        let (heads, labels_changed) = self.keep_refused_labels(heads).await;
        let main = self
            .publish(
                Candidate {
                    version: commit,
                    contents,
                },
                heads,
                reason,
            )
            .await?;
        match (main, fetch_error) {
            (_, Some(error)) => Err(error.to_string()),
            // The default branch is the same, but another requested label has moved: clients are to be notified.
            (Outcome::Unchanged, None) if labels_changed => Ok(Outcome::Changed),
            (outcome, None) => Ok(outcome),
        }
    }

    async fn local_heads(&self) -> Option<Heads> {
        let source = self.clone();
        blocking(move || match &source.inner.backend {
            Backend::Git(git) => git.heads().ok().flatten(),
            Backend::Folder(_) => None,
        })
        .await
    }

    /// Reads the files at a commit. A clone that lacks them is replaced at the next refresh.
    async fn read(&self, commit: &str) -> Result<Contents, String> {
        let (source, commit) = (self.clone(), commit.to_owned());
        blocking(move || match &source.inner.backend {
            Backend::Git(git) => git.read(&commit).map_err(|error| {
                source.note_damage(&error);
                error.to_string()
            }),
            Backend::Folder(_) => Err("not a repository".to_owned()),
        })
        .await
    }

    pub(super) fn note_damage(&self, error: &GitError) {
        if matches!(error, GitError::Damaged(_)) {
            self.inner.damaged.store(true, Ordering::Relaxed);
        }
    }

    async fn fetch(&self, refreshing: &mut Refreshing) -> Result<Heads, GitError> {
        let interrupt = Arc::new(AtomicBool::new(false));
        let mut fetching = refreshing.unfinished_fetch.take().unwrap_or_else(|| {
            let (source, interrupt) = (self.clone(), interrupt.clone());
            tokio::task::spawn_blocking(move || match &source.inner.backend {
                Backend::Git(git) if source.inner.damaged.load(Ordering::Relaxed) => {
                    let cloned = git.clone_anew(&interrupt);
                    source.inner.damaged.store(cloned.is_err(), Ordering::Relaxed);
                    cloned
                }
                Backend::Git(git) => git.fetch(&interrupt),
                Backend::Folder(_) => Err(GitError::Damaged("not a repository".to_owned())),
            })
        });
        let timeout = self.inner.settings.get().timeout;
        match tokio::time::timeout(timeout, &mut fetching).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Err(_) => {
                interrupt.store(true, Ordering::Relaxed);
                refreshing.unfinished_fetch = Some(fetching);
                let seconds = timeout.as_secs_f32();
                Err(GitError::Unavailable(format!("no response within {seconds}s")))
            }
        }
    }

    /// Checks the new commits of requested labels. A label whose new commit is refused stays at the commit before; returns whether one moved.
    async fn keep_refused_labels(&self, mut heads: Heads) -> (Heads, bool) {
        let before = self.published().map(|published| published.heads.labels.clone());
        let before: BTreeMap<_, _> = before.unwrap_or_default();
        let used = self.inner.used.lock().clone();
        let mut changed = false;
        for label in used {
            let (Some(new), Some(old)) = (heads.labels.get(&label).cloned(), before.get(&label)) else {
                continue;
            };
            if new == *old {
                continue;
            }
            match self.snapshot_of(&new).await {
                Ok(_) => {
                    changed = true;
                    self.inner
                        .status
                        .lock()
                        .refused
                        .retain(|refused| refused.label.as_ref() != Some(&label));
                }
                Err(error) => {
                    heads.labels.insert(label.clone(), old.clone());
                    match &*error {
                        LoadError::Refused(refused) => self.record_refusal(&new, Some(&label), refused).await,
                        LoadError::Git(error) => tracing::error!(label, %error, "reading label failed"),
                    }
                }
            }
        }
        (heads, changed)
    }

    /// Returns whether a new version is held back.
    ///
    /// | canary | `canary.hold` | reason | held back |
    /// | --- | --- | --- | --- |
    /// | running, of another version | any | any | yes |
    /// | running, of this version | any | any | no |
    /// | not running | on | scheduled | yes |
    /// | not running | on | requested | no |
    /// | not running | off | any | no |
    fn is_held_back(&self, version: &str, reason: RefreshReason) -> bool {
        let is_held_back = match self.canary() {
            Some((canary, _)) if canary.phase == Phase::Running => canary.to != version,
            _ => *self.inner.holds.get() && reason == RefreshReason::Scheduled,
        };
        if is_held_back {
            let before = self.inner.waiting.lock().replace(version.to_owned());
            if before.as_deref() != Some(version) {
                tracing::info!(version, "new configuration version held back until busrefresh");
            }
        }
        is_held_back
    }

    /// Publishes a version if it is new, not held back, and passes the checks.
    async fn publish(&self, candidate: Candidate, heads: Heads, reason: RefreshReason) -> Result<Outcome, String> {
        let before = self.published();
        if let Some(before) = &before
            && before.main.version != candidate.version
            && self.is_held_back(&candidate.version, reason)
        {
            return Ok(Outcome::Unchanged);
        }
        *self.inner.waiting.lock() = None;
        if let Some(before) = &before
            && before.main.version == candidate.version
        {
            // The same default version; branches and tags may have moved.
            if before.heads != heads {
                let published = Published {
                    heads,
                    ..(**before).clone()
                };
                *self.inner.published.write() = Some(Arc::new(published));
            }
            self.inner
                .status
                .lock()
                .refused
                .retain(|refused| refused.label.is_some());
            return Ok(Outcome::Unchanged);
        }
        let source = self.clone();
        let Candidate { version, contents } = candidate;
        let name = version.clone();
        let checked = blocking(move || {
            let snapshot = Snapshot::new(version, contents)?;
            source.inner.checker.check(&snapshot)?;
            Ok::<_, Refused>(snapshot)
        });
        let main = match checked.await {
            Ok(snapshot) => Arc::new(snapshot),
            Err(refused) => {
                self.record_refusal(&name, None, &refused).await;
                // Other labels move all the same.
                if let Some(before) = before {
                    let published = Published {
                        heads,
                        ..(*before).clone()
                    };
                    *self.inner.published.write() = Some(Arc::new(published));
                }
                return Ok(Outcome::Refused);
            }
        };
        // The canary's state first: after a crash here the new version is unserved, or served to the canary's instances only.
        if let Some(before) = &before {
            let started = self.start_planned(&before.main.version, &name).await;
            started.map_err(|error| error.to_string())?;
        }
        self.save(&main).await;
        *self.inner.published.write() = Some(Arc::new(Published { main, heads }));
        self.inner
            .status
            .lock()
            .refused
            .retain(|refused| refused.label.is_some());
        tracing::info!(version = name, "new configuration version served");
        Ok(Outcome::Changed)
    }
}
