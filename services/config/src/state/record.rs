//! The audit record: one line of JSON per action, append-only.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::private;
use crate::domain::finding::Finding;

/// Bytes at the end of the file that a query reads.
const WINDOW: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A version was published.
    Published,
    /// A version failed the checks: `findings` contains the reasons.
    Refused,
    /// A canary of a version was started.
    CanaryStarted,
    /// All instances run the version.
    CanaryFinished,
    /// The version before is served again: `detail` contains the reason.
    CanaryRolledBack,
    BusRefresh,
    BusEnv,
    Webhook,
    Encrypt,
    Decrypt,
}

impl Action {
    /// Returns whether the action concerns a version.
    #[must_use]
    pub fn is_history(self) -> bool {
        matches!(
            self,
            Self::Published | Self::Refused | Self::CanaryStarted | Self::CanaryFinished | Self::CanaryRolledBack
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The operator's user name, the provider of a webhook, or `source`.
    pub who: String,
    pub action: Action,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<String>,
    /// Author and subject of a commit, a bus destination, or the applications of a webhook. Never a value.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub findings: Vec<Finding>,
}

impl Entry {
    #[must_use]
    pub fn new(at: Timestamp, actor: &str, action: Action) -> Self {
        Self {
            at,
            who: actor.to_owned(),
            action,
            version: None,
            label: None,
            detail: None,
            findings: Vec::new(),
        }
    }

    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct RecordError {
    path: String,
    error: std::io::Error,
}

/// The file. All calls block.
#[derive(Debug, Clone)]
pub struct Record {
    path: PathBuf,
    file: Arc<Mutex<std::fs::File>>,
}

impl Record {
    /// Opens the file and terminates a line that a crash left incomplete.
    pub fn open(path: PathBuf) -> Result<Self, RecordError> {
        let open = || {
            let mut file = private().append(true).create(true).open(&path)?;
            let mut reader = std::fs::File::open(&path)?;
            if reader.seek(SeekFrom::End(0))? > 0 {
                let mut last = [0];
                reader.seek(SeekFrom::End(-1))?;
                reader.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            Ok(file)
        };
        let file = open().map_err(|error| failed(&path, error))?;
        Ok(Self {
            path,
            file: Arc::new(Mutex::new(file)),
        })
    }

    /// Appends an entry, which is durable when this returns.
    pub fn add(&self, entry: &Entry) -> Result<(), RecordError> {
        let mut line = serde_json::to_vec(entry).map_err(|error| failed(&self.path, error.into()))?;
        line.push(b'\n');
        let mut file = self.file.lock();
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        written.map_err(|error| failed(&self.path, error))
    }

    /// Returns at most `limit` entries that `wanted` accepts, newest first. Corrupt lines are skipped and logged.
    pub fn newest(&self, limit: usize, wanted: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>, RecordError> {
        let read = || {
            let mut file = std::fs::File::open(&self.path)?;
            let length = file.metadata()?.len();
            let start = length.saturating_sub(WINDOW);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok((start > 0, bytes))
        };
        // The first line of a window in the middle of the file is incomplete.
        let (is_cut, bytes) = read().map_err(|error| failed(&self.path, error))?;
        let lines: Vec<_> = bytes
            .split(|byte| *byte == b'\n')
            .skip(usize::from(is_cut))
            .filter(|line| !line.is_empty())
            .collect();
        let mut entries = Vec::new();
        for line in lines.into_iter().rev() {
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) if wanted(&entry) => entries.push(entry),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "audit record line corrupt; skipped"),
            }
            if entries.len() == limit {
                break;
            }
        }
        Ok(entries)
    }
}

fn failed(path: &Path, error: std::io::Error) -> RecordError {
    RecordError {
        path: path.display().to_string(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_a_crash_during_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.jsonl");
        let entry = |actor: &str| Entry::new(Timestamp::UNIX_EPOCH, actor, Action::Published).version("abc");
        Record::open(path.clone()).unwrap().add(&entry("kim")).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"at\":\"20").unwrap();
        let record = Record::open(path).unwrap();
        record.add(&entry("lee")).unwrap();
        let all = record.newest(10, |_| true).unwrap();
        assert_eq!(all, [entry("lee"), entry("kim")]);
        assert_eq!(record.newest(1, |_| true).unwrap(), [entry("lee")]);
        assert_eq!(record.newest(10, |entry| entry.who == "kim").unwrap(), [entry("kim")]);
    }
}
