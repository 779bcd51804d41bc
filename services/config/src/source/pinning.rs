//! Going back to a version, and letting go of it again.

use std::sync::Arc;

use super::{Published, Source, blocking};
use crate::domain::snapshot::Snapshot;
use crate::state::pin::Pin;
use crate::state::record::{Action, Entry};

#[derive(Debug, thiserror::Error)]
pub enum PinningError {
    #[error("nothing is served yet")]
    NotYet,
    #[error("no such version is kept")]
    Unknown,
    #[error("{0}")]
    Bad(String),
    #[error("{0}")]
    State(String),
}

impl Source {
    /// Serves a version, by its name or the beginning of it, until it is let go (none). Durable when this returns.
    pub async fn pin(&self, version: Option<&str>, by: &str) -> Result<Pin, PinningError> {
        let _one_at_a_time = self.inner.refreshing.lock().await;
        let snapshot = match version {
            Some(version) => Some(self.checked(version).await?),
            None => None,
        };
        let pin = Pin {
            version: snapshot.as_ref().map(|snapshot| snapshot.version.clone()),
            by: by.to_owned(),
            at: self.inner.context.clock.now(),
        };
        self.put_on(pin.clone(), snapshot, by).await?;
        Ok(pin)
    }

    /// The same as another replica has done; an older pin than ours changes nothing. Answers whether something changed.
    pub async fn adopt(&self, pin: Pin) -> Result<bool, PinningError> {
        let _one_at_a_time = self.inner.refreshing.lock().await;
        let ours = self.published().and_then(|published| published.pin.clone());
        if ours.is_some_and(|ours| ours.at >= pin.at) {
            return Ok(false);
        }
        let snapshot = match &pin.version {
            Some(version) => Some(self.checked(version).await?),
            None => None,
        };
        let by = format!("{}, on another replica", pin.by);
        self.put_on(pin, snapshot, &by).await?;
        Ok(true)
    }

    async fn checked(&self, version: &str) -> Result<Arc<Snapshot>, PinningError> {
        let found = self.version(version).await.map_err(PinningError::Bad)?;
        let snapshot = found.ok_or(PinningError::Unknown)?;
        let source = self.clone();
        blocking(move || match source.inner.checker.check(&snapshot) {
            Ok(()) => Ok(snapshot),
            Err(refused) => Err(PinningError::Bad(refused.to_string())),
        })
        .await
    }

    async fn put_on(&self, pin: Pin, snapshot: Option<Arc<Snapshot>>, by: &str) -> Result<(), PinningError> {
        let before = self.published().ok_or(PinningError::NotYet)?;
        let action = if snapshot.is_some() {
            Action::Pinned
        } else {
            Action::Unpinned
        };
        let main = snapshot.unwrap_or_else(|| before.newest.clone());
        let entry = Entry::new(pin.at, by, action).version(&main.version);
        let (source, kept, written) = (self.clone(), main.clone(), pin.clone());
        let durable = blocking(move || {
            let inner = &source.inner;
            let contents = kept.contents();
            inner
                .archive
                .keep(&kept.version, &contents)
                .map_err(|error| error.to_string())?;
            inner.record.add(&entry).map_err(|error| error.to_string())?;
            inner.pin_file.write(&written).map_err(|error| error.to_string())
        });
        durable.await.map_err(PinningError::State)?;
        tracing::info!(version = main.version, by, ?action, "pin changed by operator");
        let published = Published {
            main,
            pin: Some(pin),
            ..(*before).clone()
        };
        *self.inner.published.write() = Some(Arc::new(published));
        Ok(())
    }
}
