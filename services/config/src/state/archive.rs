//! Copies of published versions: served while the source is unavailable, and compared with later ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::write_whole;
use crate::domain::snapshot::Contents;

/// The file that contains the last published version's name.
const LAST: &str = "last";

#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct ArchiveError {
    path: String,
    reason: String,
}

/// One file per version, named after it. All calls block.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
    max_versions: usize,
}

impl Archive {
    /// Opens the folder and creates it when it is missing.
    pub fn open(folder: PathBuf, max_versions: usize) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        Ok(Self { folder, max_versions })
    }

    /// Saves a version as the last one, and deletes the oldest beyond `max_versions`.
    pub fn put(&self, version: &str, contents: &Contents) -> Result<(), ArchiveError> {
        let path = self.path(version).ok_or_else(|| ArchiveError {
            path: self.folder.display().to_string(),
            reason: "a version consists of hex digits".to_owned(),
        })?;
        let files: BTreeMap<_, _> = contents
            .iter()
            .map(|(path, bytes)| (path, STANDARD.encode(bytes)))
            .collect();
        let bytes = serde_json::to_vec(&files).map_err(|error| failed(&path, &error))?;
        write_whole(&path, &bytes).map_err(|error| failed(&path, &error))?;
        let last = self.folder.join(LAST);
        write_whole(&last, version.as_bytes()).map_err(|error| failed(&last, &error))?;
        self.delete_oldest(version)
    }

    /// Returns the files of a version; none when it is not saved.
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

    /// Returns the last published version.
    pub fn last(&self) -> Result<Option<String>, ArchiveError> {
        let path = self.folder.join(LAST);
        match std::fs::read_to_string(&path) {
            Ok(version) => Ok(Some(version)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// Returns the saved version with this prefix; none when several have it.
    pub fn find(&self, prefix: &str) -> Result<Option<String>, ArchiveError> {
        let mut found = self.saved()?.into_iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(match (found.next(), found.next()) {
            (Some((name, _)), None) => Some(name),
            _ => None,
        })
    }

    fn path(&self, version: &str) -> Option<PathBuf> {
        is_version(version).then(|| self.folder.join(version))
    }

    fn saved(&self) -> Result<Vec<(String, SystemTime)>, ArchiveError> {
        let mut saved = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(|error| failed(&self.folder, &error))? {
            let entry = entry.map_err(|error| failed(&self.folder, &error))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if is_version(&name) {
                let changed = entry.metadata().and_then(|metadata| metadata.modified());
                saved.push((name, changed.map_err(|error| failed(&entry.path(), &error))?));
            }
        }
        Ok(saved)
    }

    fn delete_oldest(&self, newest: &str) -> Result<(), ArchiveError> {
        let mut saved = self.saved()?;
        saved.retain(|(name, _)| name != newest);
        saved.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        for (name, _) in saved.into_iter().skip(self.max_versions.saturating_sub(1)) {
            let path = self.folder.join(name);
            std::fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
        Ok(())
    }
}

/// Returns whether a text is a version: versions become file names, so that only hex digits are accepted.
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
    fn the_newest_versions_are_kept() {
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
            // The oldest version is found by file times.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(archive.last().unwrap().as_deref(), Some("bbbbbbb4"));
        assert_eq!(archive.get("aaaaaaa1").unwrap(), None);
        assert_eq!(archive.get("aaaaaaa2").unwrap(), None);
        assert_eq!(archive.get("bbbbbbb3").unwrap(), Some(contents("a: 3")));
        assert_eq!(archive.find("bbbbbbb3").unwrap().as_deref(), Some("bbbbbbb3"));
        assert_eq!(archive.find("bbbbbbb").unwrap(), None, "two versions have this prefix");
    }

    #[test]
    fn only_versions_become_file_names() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path().to_owned(), 2).unwrap();
        for name in ["../secret", "last", "", "abc"] {
            assert_eq!(archive.get(name).unwrap(), None, "{name}");
            assert!(archive.put(name, &contents("a: 1")).is_err(), "{name}");
        }
    }

    #[test]
    fn copies_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path().to_owned(), 2).unwrap();
        archive.put("aaaaaaa1", &contents("a: 1")).unwrap();
        let mode = folder.path().join("aaaaaaa1").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}
