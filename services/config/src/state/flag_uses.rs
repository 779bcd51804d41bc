//! When each flag was first seen and last evaluated: stale flags are candidates for removal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::write_whole;

/// A flag that has not been evaluated for this long is stale.
const STALE_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Flags that are tracked.
const MAX_FLAGS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlagUse {
    pub first_seen: Timestamp,
    pub last_evaluated: Option<Timestamp>,
}

impl FlagUse {
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.duration_since(self.last_evaluated.unwrap_or(self.first_seen)) >= STALE_AFTER
    }
}

/// Clones share the uses. They are saved every few seconds; a crash loses those since the last save.
#[derive(Debug, Clone)]
pub struct FlagUses {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    uses: BTreeMap<String, FlagUse>,
    /// Evaluated by this replica and not yet published to the others.
    unpublished: BTreeSet<String>,
    changed: bool,
}

impl FlagUses {
    /// Reads the saved uses. A corrupt file is logged and ignored: uses are observed again. Blocks.
    #[must_use]
    pub fn open(path: PathBuf) -> Self {
        let uses = match std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(uses)) => uses,
            Ok(Err(error)) => {
                tracing::error!(%error, "saved uses of flags corrupt; ignored");
                BTreeMap::new()
            }
            Err(_) => BTreeMap::new(),
        };
        let state = State {
            uses,
            ..State::default()
        };
        Self {
            path,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Tracks the flags that are set and removes all others.
    pub fn retain<'a>(&self, flags: impl IntoIterator<Item = &'a str>, now: Timestamp) {
        let mut state = self.state.lock();
        let mut before = std::mem::take(&mut state.uses);
        let count = before.len();
        for flag in flags.into_iter().take(MAX_FLAGS) {
            let fresh = FlagUse {
                first_seen: now,
                last_evaluated: None,
            };
            let known = before.remove(flag);
            state.changed |= known.is_none();
            state.uses.insert(flag.to_owned(), known.unwrap_or(fresh));
        }
        state.changed |= state.uses.len() != count;
    }

    /// Notes that flags were evaluated now, by a service or by another replica.
    pub fn evaluated<'a>(&self, flags: impl IntoIterator<Item = &'a str>, now: Timestamp) {
        let mut state = self.state.lock();
        for flag in flags {
            if let Some(flag_use) = state.uses.get_mut(flag) {
                flag_use.last_evaluated = Some(now);
                state.changed = true;
            }
        }
    }

    /// Notes that this replica evaluated flags over OFREP; [`Self::take_unpublished`] returns them for the others.
    pub fn evaluated_here<'a>(&self, flags: impl Iterator<Item = &'a str> + Clone, now: Timestamp) {
        self.evaluated(flags.clone(), now);
        let mut state = self.state.lock();
        for flag in flags {
            if state.uses.contains_key(flag) && !state.unpublished.contains(flag) {
                state.unpublished.insert(flag.to_owned());
            }
        }
    }

    /// Returns and clears the flags evaluated by this replica since the last call.
    #[must_use]
    pub fn take_unpublished(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unpublished).into_iter().collect()
    }

    #[must_use]
    pub fn get(&self, flag: &str) -> Option<FlagUse> {
        self.state.lock().uses.get(flag).copied()
    }

    /// Saves the uses when they have changed. Blocks.
    pub fn flush(&self) {
        let bytes = {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.changed) {
                return;
            }
            serde_json::to_vec(&state.uses).unwrap_or_default()
        };
        if let Err(error) = write_whole(&self.path, &bytes) {
            tracing::error!(%error, "saving uses of flags failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_without_evaluations_becomes_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flags.json");
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let uses = FlagUses::open(path.clone());
        uses.retain(["used", "unused"], day(0));
        uses.evaluated(["used", "unknown"], day(20));
        uses.flush();
        let uses = FlagUses::open(path);
        uses.retain(["used", "unused"], day(31));
        let stale = |flag: &str, at: i64| uses.get(flag).unwrap().is_stale(day(at));
        assert!(stale("unused", 30) && !stale("unused", 29));
        assert!(!stale("used", 49) && stale("used", 50));
        assert_eq!(uses.get("unknown"), None);
        uses.retain(["used"], day(32));
        assert_eq!(uses.get("unused"), None, "a removed flag is not tracked");
    }
}
