//! Copies of the versions that were published: served while the source is unavailable, and compared with later ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::write_whole;
use crate::domain::snapshot::Contents;

/// Names the version that was published last.
const LAST: &str = "last";

#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct ArchiveError {
    path: String,
    reason: String,
}

/// A file a version, named after it. All calls block.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
    most: usize,
}

impl Archive {
    /// `keep` versions stay.
    pub fn open(folder: PathBuf, keep: usize) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        Ok(Self { folder, most: keep })
    }

    /// Keeps a version as the last one, and deletes the oldest beyond `keep`.
    pub fn put(&self, version: &str, contents: &Contents) -> Result<(), ArchiveError> {
        let path = self.path(version).ok_or_else(|| ArchiveError {
            path: self.folder.display().to_string(),
            reason: "a version is hex".to_owned(),
        })?;
        let files: BTreeMap<_, _> = contents
            .iter()
            .map(|(path, bytes)| (path, STANDARD.encode(bytes)))
            .collect();
        let bytes = serde_json::to_vec(&files).map_err(|error| failed(&path, &error))?;
        write_whole(&path, &bytes).map_err(|error| failed(&path, &error))?;
        let last = self.folder.join(LAST);
        write_whole(&last, version.as_bytes()).map_err(|error| failed(&last, &error))?;
        self.forget(version)
    }

    /// None when it is not kept (any more).
    pub fn get(&self, version: &str) -> Result<Option<Contents>, ArchiveError> {
        let Some(path) = self.path(version) else {
            return Ok(None);
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, &error)),
        };
        let files: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|error| failed(&path, &error))?;
        let file = |(name, text): (String, String)| {
            let bytes = STANDARD.decode(text).map_err(|error| failed(&path, &error))?;
            Ok((name, Bytes::from(bytes)))
        };
        files.into_iter().map(file).collect::<Result<Contents, _>>().map(Some)
    }

    /// The version that was published last.
    pub fn last(&self) -> Result<Option<String>, ArchiveError> {
        let path = self.folder.join(LAST);
        match std::fs::read_to_string(&path) {
            Ok(version) => Ok(Some(version)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// The one kept version that begins so; none when several do.
    pub fn find(&self, prefix: &str) -> Result<Option<String>, ArchiveError> {
        let mut found = self.kept()?.into_iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(match (found.next(), found.next()) {
            (Some((name, _)), None) => Some(name),
            _ => None,
        })
    }

    fn path(&self, version: &str) -> Option<PathBuf> {
        is_version(version).then(|| self.folder.join(version))
    }

    fn kept(&self) -> Result<Vec<(String, SystemTime)>, ArchiveError> {
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(|error| failed(&self.folder, &error))? {
            let entry = entry.map_err(|error| failed(&self.folder, &error))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if is_version(&name) {
                let changed = entry.metadata().and_then(|metadata| metadata.modified());
                kept.push((name, changed.map_err(|error| failed(&entry.path(), &error))?));
            }
        }
        Ok(kept)
    }

    fn forget(&self, newest: &str) -> Result<(), ArchiveError> {
        let mut kept = self.kept()?;
        kept.retain(|(name, _)| name != newest);
        kept.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        for (name, _) in kept.into_iter().skip(self.most.saturating_sub(1)) {
            let path = self.folder.join(name);
            std::fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
        Ok(())
    }
}

/// Versions name files: nothing but hex does.
fn is_version(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn failed(path: &Path, error: &dyn std::error::Error) -> ArchiveError {
    ArchiveError {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &'static str) -> Contents {
        Contents::from([("a.yml".to_owned(), Bytes::from_static(text.as_bytes()))])
    }

    #[test]
    fn keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path().join("versions"), 2).unwrap();
        assert_eq!(archive.last().unwrap(), None);
        for (version, text) in [
            ("aaaaaaa1", "a: 1"),
            ("aaaaaaa2", "a: 2"),
            ("bbbbbbb3", "a: 3"),
            ("bbbbbbb4", "a: 4"),
        ] {
            archive.put(version, &contents(text)).unwrap();
            // File times are what "oldest" goes by.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(archive.last().unwrap().as_deref(), Some("bbbbbbb4"));
        assert_eq!(archive.get("aaaaaaa1").unwrap(), None);
        assert_eq!(archive.get("aaaaaaa2").unwrap(), None);
        assert_eq!(archive.get("bbbbbbb3").unwrap(), Some(contents("a: 3")));
        assert_eq!(archive.find("bbbbbbb3").unwrap().as_deref(), Some("bbbbbbb3"));
        assert_eq!(archive.find("bbbbbbb").unwrap(), None, "two begin so");
    }

    #[test]
    fn only_versions_name_files() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path().to_owned(), 2).unwrap();
        for name in ["../secret", "last", "", "abc"] {
            assert_eq!(archive.get(name).unwrap(), None, "{name}");
            assert!(archive.put(name, &contents("a: 1")).is_err(), "{name}");
        }
    }

    #[test]
    fn copies_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path().to_owned(), 2).unwrap();
        archive.put("aaaaaaa1", &contents("a: 1")).unwrap();
        let mode = folder.path().join("aaaaaaa1").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}
