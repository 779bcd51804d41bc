//! Looking for a new version, checking it, and putting it in the place of the old one.

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

/// Why the source is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// From time to time, or because of a webhook: a new version may have to wait.
    Routine,
    /// An operator wants the new version served.
    Asked,
}

/// What a look at the source has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Unchanged,
    /// Something that is served is another than before.
    Changed,
    /// There is a new version, and it is not served.
    Refused,
    /// The source cannot be read.
    Away,
}

/// A fetch that outlived its time limit; the next one waits for it rather than starting beside it.
#[derive(Debug, Default)]
pub(super) struct Refreshing {
    lingering: Option<JoinHandle<Result<Heads, GitError>>>,
}

/// A version that was read and not yet looked into.
struct Candidate {
    version: String,
    contents: Contents,
}

impl Source {
    /// Publishes what the last process did, so that there is something to serve before the source is reached.
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

    /// Looks again and again. Calls `changed` after each change.
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
                    if outcome == Outcome::Changed || source.inner.news.swap(false, Ordering::Relaxed) {
                        changed();
                    }
                }
                let pause = tokio::time::sleep(source.inner.settings.get().poll.unwrap_or(source.inner.every));
                if draining.run_until_cancelled(pause).await.is_none() {
                    return Ok(());
                }
            }
        });
    }

    /// One look at the source; one at a time. A version that does not parse or hold to the schemas is refused as a whole: what
    /// was served is served on.
    pub async fn refresh(&self) -> Outcome {
        self.look(Look::Routine).await
    }

    pub async fn look(&self, look: Look) -> Outcome {
        let mut refreshing = self.inner.refreshing.lock().await;
        let looked = match &self.inner.backend {
            Backend::Folder(_) => self.refresh_folder(look).await,
            Backend::Git(_) => self.refresh_git(&mut refreshing, look).await,
        };
        match looked {
            Ok(outcome) => {
                let back = self.inner.condition.lock().away.take();
                if back.is_some() {
                    tracing::info!("source available again");
                }
                self.inner.metrics.away.set(0);
                outcome
            }
            Err(reason) => {
                self.inner.metrics.away.set(1);
                let mut condition = self.inner.condition.lock();
                if condition.away.as_ref().is_none_or(|(_, before)| *before != reason) {
                    tracing::error!(reason, "source unavailable; serving last good version");
                }
                let since = condition.away.take().map(|(since, _)| since);
                condition.away = Some((since.unwrap_or_else(|| self.inner.context.clock.now()), reason));
                Outcome::Away
            }
        }
    }

    async fn refresh_folder(&self, look: Look) -> Result<Outcome, String> {
        let source = self.clone();
        let read = blocking(move || match &source.inner.backend {
            Backend::Folder(folder) => folder::read(folder).map_err(|error| error.to_string()),
            Backend::Git(_) => Err("not a folder".to_owned()),
        });
        let contents = read.await?;
        let version = version_of(&contents);
        self.take(Candidate { version, contents }, Heads::default(), look).await
    }

    async fn refresh_git(&self, refreshing: &mut Refreshing, look: Look) -> Result<Outcome, String> {
        let fetched = self.fetch(refreshing).await;
        let (heads, away) = match fetched {
            Ok(heads) => (heads, None),
            // Nothing is served yet: the clone of an earlier process may help.
            Err(error) if self.published().is_none() => match self.local_heads().await {
                Some(heads) => (heads, Some(error)),
                None => return Err(error.to_string()),
            },
            Err(error) => return Err(error.to_string()),
        };
        self.inner.labels.forget_names();
        self.inner.fetched.lock().clone_from(&heads.labels);
        let label = self.inner.default_label.clone().or_else(|| heads.default.clone());
        let label = label.ok_or("the repository names no default branch: set source.default-label")?;
        let commit = heads.labels.get(&label).cloned();
        let commit = commit.ok_or_else(|| format!("the repository has no branch or tag {label}"))?;
        let served = self
            .published()
            .is_some_and(|published| published.main.version == commit);
        let contents = if served {
            Contents::new()
        } else {
            self.read(&commit).await?
        };
        let (heads, labels_changed) = self.keep_refused_labels(heads).await;
        let main = self
            .take(
                Candidate {
                    version: commit,
                    contents,
                },
                heads,
                look,
            )
            .await?;
        match (main, away) {
            (_, Some(error)) => Err(error.to_string()),
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

    /// The files at a commit. A clone that lacks them is made anew at the next look.
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
        let mut fetching = refreshing.lingering.take().unwrap_or_else(|| {
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
        let within = self.inner.settings.get().timeout;
        match tokio::time::timeout(within, &mut fetching).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Err(_) => {
                interrupt.store(true, Ordering::Relaxed);
                refreshing.lingering = Some(fetching);
                let seconds = within.as_secs_f32();
                Err(GitError::Away(format!("no answer within {seconds}s")))
            }
        }
    }

    /// A label that somebody uses and whose new commit is refused stays where it was.
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
                        .condition
                        .lock()
                        .refused
                        .retain(|refused| refused.label.as_ref() != Some(&label));
                }
                Err(error) => {
                    heads.labels.insert(label.clone(), old.clone());
                    match &*error {
                        LoadError::Refused(refused) => self.refuse(&new, Some(&label), refused).await,
                        LoadError::Git(error) => tracing::error!(label, %error, "reading label failed"),
                    }
                }
            }
        }
        (heads, changed)
    }

    /// Whether a new version is not to be served yet: another one is on its way, or operators say when.
    fn must_wait(&self, version: &str, look: Look) -> bool {
        let must_wait = match self.canary() {
            Some((canary, _)) if canary.phase == Phase::Running => canary.to != version,
            _ => *self.inner.holds.get() && look == Look::Routine,
        };
        if must_wait {
            let before = self.inner.waiting.lock().replace(version.to_owned());
            if before.as_deref() != Some(version) {
                tracing::info!(version, "new configuration version waits for busrefresh");
            }
        }
        must_wait
    }

    /// Publishes a version if it is a new and a good one.
    async fn take(&self, candidate: Candidate, heads: Heads, look: Look) -> Result<Outcome, String> {
        let before = self.published();
        if let Some(before) = &before
            && before.main.version != candidate.version
            && self.must_wait(&candidate.version, look)
        {
            return Ok(Outcome::Unchanged);
        }
        *self.inner.waiting.lock() = None;
        if let Some(before) = &before
            && before.main.version == candidate.version
        {
            if before.heads != heads {
                let published = Published {
                    heads,
                    ..(**before).clone()
                };
                *self.inner.published.write() = Some(Arc::new(published));
            }
            self.inner
                .condition
                .lock()
                .refused
                .retain(|refused| refused.label.is_some());
            return Ok(Outcome::Unchanged);
        }
        let source = self.clone();
        let Candidate { version, contents } = candidate;
        let name = version.clone();
        let looked_into = blocking(move || {
            let snapshot = Snapshot::new(version, contents)?;
            source.inner.checker.check(&snapshot)?;
            Ok::<_, Refused>(snapshot)
        });
        let main = match looked_into.await {
            Ok(snapshot) => Arc::new(snapshot),
            Err(refused) => {
                self.refuse(&name, None, &refused).await;
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
        if let Some(before) = &before {
            let started = self.start_planned(&before.main.version, &name).await;
            started.map_err(|error| error.to_string())?;
        }
        self.keep(&main).await;
        *self.inner.published.write() = Some(Arc::new(Published { main, heads }));
        self.inner
            .condition
            .lock()
            .refused
            .retain(|refused| refused.label.is_some());
        tracing::info!(version = name, "new configuration version served");
        Ok(Outcome::Changed)
    }
}
