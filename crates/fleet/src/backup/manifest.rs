//! `manifest.json` of a backup: when it was taken, and the digest of every other file in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::files;

const FILE: &str = "manifest.json";

/// The format of backups that this release writes and reads.
const FORMAT: u32 = 1;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub format: u32,
    /// The release that has written it.
    pub version: String,
    pub taken_at: Timestamp,
    /// By path inside the backup.
    pub files: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Reads all files of a backup.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(crate) fn of(backup: &Path, taken_at: Timestamp) -> anyhow::Result<Self> {
        Ok(Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            taken_at,
            files: entries(backup)?,
        })
    }

    /// # Errors
    /// If there is a manifest, or it cannot be written.
    pub(crate) fn write(&self, backup: &Path) -> anyhow::Result<()> {
        Ok(files::write(&backup.join(FILE), &serde_json::to_vec_pretty(self)?)?)
    }

    /// Reads the manifest of a backup and compares every file with it.
    ///
    /// # Errors
    /// If it is no backup of this format, or a file is missing, added or altered.
    pub(crate) fn checked(backup: &Path) -> anyhow::Result<Self> {
        let file = backup.join(FILE);
        let json = std::fs::read(&file).with_context(|| format!("{}: no backup", file.display()))?;
        let manifest: Self = serde_json::from_slice(&json).with_context(|| file.display().to_string())?;
        ensure!(
            manifest.format == FORMAT,
            "{}: format {} is not read by this release",
            file.display(),
            manifest.format
        );
        let found = entries(backup)?;
        for name in manifest.files.keys().chain(found.keys()) {
            match (manifest.files.get(name), found.get(name)) {
                (Some(written), Some(found)) if written == found => {}
                (Some(_), Some(_)) => bail!("{}: {name} was altered", backup.display()),
                (Some(_), None) => bail!("{}: {name} is missing", backup.display()),
                (None, _) => bail!("{}: {name} was added", backup.display()),
            }
        }
        Ok(manifest)
    }

    /// Returns the size of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().map(|entry| entry.bytes).sum()
    }
}

fn entries(backup: &Path) -> anyhow::Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    for path in files::all(backup)?.into_keys() {
        let name = path
            .to_str()
            .with_context(|| format!("{}: not UTF-8", path.display()))?;
        if name != FILE {
            entries.insert(name.to_owned(), entry(&backup.join(&path))?);
        }
    }
    Ok(entries)
}

fn entry(file: &Path) -> anyhow::Result<Entry> {
    let mut reading = File::open(file).with_context(|| file.display().to_string())?;
    let (mut digest, mut bytes, mut part) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = reading.read(&mut part)?;
        if read == 0 {
            break;
        }
        digest.update(&part[..read]);
        bytes += read as u64;
    }
    let sha256 = hex::encode(digest.finalize());
    Ok(Entry { bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_is_not_as_it_was_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let backup = folder.path();
        let refused = || Manifest::checked(backup).unwrap_err().to_string();
        assert!(refused().ends_with("no backup"));
        std::fs::create_dir(backup.join("config")).unwrap();
        let names = ["auth.db", "config/a.yml"];
        for name in names {
            std::fs::write(backup.join(name), "as it was").unwrap();
        }
        let manifest = Manifest::of(backup, Timestamp::UNIX_EPOCH).unwrap();
        manifest.write(backup).unwrap();
        assert_eq!(Manifest::checked(backup).unwrap(), manifest);
        assert_eq!(manifest.bytes(), 18);

        for name in names {
            std::fs::write(backup.join(name), "as it is!").unwrap();
            assert!(refused().ends_with(&format!("{name} was altered")));
            std::fs::remove_file(backup.join(name)).unwrap();
            assert!(refused().ends_with(&format!("{name} is missing")));
            std::fs::write(backup.join(name), "as it was").unwrap();
        }
        std::fs::write(backup.join("more"), "").unwrap();
        assert!(refused().ends_with("more was added"));
        std::fs::remove_file(backup.join("more")).unwrap();
        let json = std::fs::read_to_string(backup.join(FILE)).unwrap();
        std::fs::write(backup.join(FILE), json.replace("\"format\": 1", "\"format\": 2")).unwrap();
        assert!(refused().ends_with("format 2 is not read by this release"));
    }
}
