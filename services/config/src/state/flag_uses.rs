//! When each flag was first seen and last evaluated: those that nothing asks about any more are to be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::write_whole;

/// A flag that was not evaluated for this long is stale.
const STALE_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Names that are remembered.
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

/// Clones share what is known. It is kept on disk, from time to time: what the last minute before a crash knew is lost.
#[derive(Debug, Clone)]
pub struct FlagUses {
    path: PathBuf,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    uses: BTreeMap<String, FlagUse>,
    /// Evaluated by this replica, and not yet told to the others.
    untold: BTreeSet<String>,
    changed: bool,
}

impl FlagUses {
    /// A damaged file counts as none: what it says can be learnt anew. Blocks.
    #[must_use]
    pub fn open(path: PathBuf) -> Self {
        let uses = match std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(uses)) => uses,
            Ok(Err(error)) => {
                tracing::error!(%error, "saved uses of flags corrupt; starting anew");
                BTreeMap::new()
            }
            Err(_) => BTreeMap::new(),
        };
        let known = Known {
            uses,
            ..Known::default()
        };
        Self {
            path,
            known: Arc::new(Mutex::new(known)),
        }
    }

    /// These flags are set now; others are forgotten.
    pub fn keep<'a>(&self, flags: impl IntoIterator<Item = &'a str>, now: Timestamp) {
        let mut known = self.known.lock();
        let mut before = std::mem::take(&mut known.uses);
        let count = before.len();
        for flag in flags.into_iter().take(MAX_FLAGS) {
            let fresh = FlagUse {
                first_seen: now,
                last_evaluated: None,
            };
            let (of, fresh_one) = match before.remove(flag) {
                Some(of) => (of, false),
                None => (fresh, true),
            };
            known.changed |= fresh_one;
            known.uses.insert(flag.to_owned(), of);
        }
        known.changed |= known.uses.len() != count;
    }

    pub fn evaluated<'a>(&self, flags: impl IntoIterator<Item = &'a str>, now: Timestamp) {
        let mut known = self.known.lock();
        for flag in flags {
            if let Some(of) = known.uses.get_mut(flag) {
                of.last_evaluated = Some(now);
                known.changed = true;
            }
        }
    }

    /// The same of what this replica was asked; [`Self::take_untold`] has it for the others.
    pub fn evaluated_here<'a>(&self, flags: impl Iterator<Item = &'a str> + Clone, now: Timestamp) {
        self.evaluated(flags.clone(), now);
        let mut known = self.known.lock();
        for flag in flags {
            if known.uses.contains_key(flag) && !known.untold.contains(flag) {
                known.untold.insert(flag.to_owned());
            }
        }
    }

    #[must_use]
    pub fn take_untold(&self) -> Vec<String> {
        std::mem::take(&mut self.known.lock().untold).into_iter().collect()
    }

    #[must_use]
    pub fn get(&self, flag: &str) -> Option<FlagUse> {
        self.known.lock().uses.get(flag).copied()
    }

    /// Writes what has changed. Blocks.
    pub fn flush(&self) {
        let bytes = {
            let mut known = self.known.lock();
            if !std::mem::take(&mut known.changed) {
                return;
            }
            serde_json::to_vec(&known.uses).unwrap_or_default()
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
    fn a_flag_that_nothing_evaluates_becomes_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flags.json");
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let uses = FlagUses::open(path.clone());
        uses.keep(["used", "unused"], day(0));
        uses.evaluated(["used", "unknown"], day(20));
        uses.flush();
        let uses = FlagUses::open(path);
        uses.keep(["used", "unused"], day(31));
        let stale = |flag: &str, at: i64| uses.get(flag).unwrap().is_stale(day(at));
        assert!(stale("unused", 30) && !stale("unused", 29));
        assert!(!stale("used", 49) && stale("used", 50));
        assert_eq!(uses.get("unknown"), None);
        uses.keep(["used"], day(32));
        assert_eq!(uses.get("unused"), None, "one that is gone is forgotten");
    }
}
