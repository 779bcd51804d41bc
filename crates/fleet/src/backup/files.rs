//! The files of a data folder beside its databases, and how files are written so that they stay.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::DATABASES;

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    bytes: u64,
    changed_at: SystemTime,
}

/// Files by their paths inside a folder.
pub(crate) type Files = BTreeMap<PathBuf, Seen>;

/// Lists the files of a data folder beside its databases.
///
/// # Errors
/// If a folder cannot be read.
pub(crate) fn list(data: &Path) -> io::Result<Files> {
    let mut files = all(data)?;
    files.retain(|path, _| is_copied(path));
    Ok(files)
}

/// Lists the files below a folder.
///
/// # Errors
/// If a folder cannot be read.
pub(crate) fn all(folder: &Path) -> io::Result<Files> {
    let (mut files, mut folders) = (Files::new(), vec![PathBuf::new()]);
    while let Some(inner) = folders.pop() {
        let Some(entries) = present(std::fs::read_dir(folder.join(&inner)))? else {
            continue;
        };
        for entry in entries {
            let path = inner.join(entry?.file_name());
            let Some(metadata) = present(std::fs::metadata(folder.join(&path)))? else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                let (bytes, changed_at) = (metadata.len(), metadata.modified()?);
                files.insert(path, Seen { bytes, changed_at });
            }
        }
    }
    Ok(files)
}

/// Returns `None` for what was deleted meanwhile.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Not so the databases with their logs, locks, and pictures that are being uploaded.
fn is_copied(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let of_a_database = |database: &str| {
        let rest = name.strip_prefix(database);
        rest.is_some_and(|rest| matches!(rest, "" | "-wal" | "-shm" | "-journal"))
    };
    let is_database = path.components().count() == 1 && DATABASES.into_iter().any(of_a_database);
    let is_lock = path.extension().is_some_and(|extension| extension == "lock");
    let is_upload = path.starts_with("images") && name.contains('#');
    !is_database && !is_lock && !is_upload
}

/// Copies those of the files that were not as they are `before`, and deletes the copies of those that are gone since. A file that is deleted
/// meanwhile has no copy.
///
/// # Errors
/// If a file cannot be read or written.
pub(crate) fn copy(from: &Path, into: &Path, files: &Files, before: &Files) -> io::Result<()> {
    for (path, seen) in files {
        if before.get(path) == Some(seen) {
            continue;
        }
        if let Some(folder) = path.parent() {
            create(&into.join(folder))?;
        }
        present(std::fs::copy(from.join(path), into.join(path)))?;
    }
    for gone in before.keys().filter(|path| !files.contains_key(*path)) {
        present(std::fs::remove_file(into.join(gone)))?;
    }
    Ok(())
}

/// Writes a new file that only its owner can read.
///
/// # Errors
/// If it exists or cannot be written.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(file)?
        .write_all(bytes)
}

/// Creates a folder that only its owner can read, and those above it, where they are missing.
fn create(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// As [`create`], without what a command that was killed has left there.
///
/// # Errors
/// If it cannot be deleted or created.
pub(crate) fn create_anew(folder: &Path) -> io::Result<()> {
    present(std::fs::remove_dir_all(folder))?;
    create(folder)
}

/// Deletes a folder whose making has failed, and returns the failure.
pub(crate) fn or_remove<T>(folder: &Path, made: anyhow::Result<T>) -> anyhow::Result<T> {
    if made.is_err() {
        // What cannot be deleted is deleted by the next attempt.
        let _ = std::fs::remove_dir_all(folder);
    }
    made
}

/// Renames a folder once everything in it is on the disk: under its new name it is there as a whole or not at all.
///
/// # Errors
/// If there is something else under the name.
pub(crate) fn put_in_place(folder: &Path, to: &Path) -> io::Result<()> {
    sync(folder)?;
    std::fs::rename(folder, to)?;
    let above = to.parent().filter(|above| !above.as_os_str().is_empty());
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

/// Waits until everything in a folder is on the disk.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(files: &Files) -> Vec<&str> {
        files.keys().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn copies_follow_what_changes_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (data, into) = (folder.path().join("data"), folder.path().join("copy"));
        create(&data.join("images/feed")).unwrap();
        create(&data.join("config")).unwrap();
        for name in [
            "auth.db",
            "auth.db-wal",
            "auth.db.lock",
            "fleet.lock",
            "images/feed/1#2",
            "images/feed/1",
            "images/feed/2",
            "config/auth.db",
            "config/a#b.yml",
            "service-token",
        ] {
            write(&data.join(name), b"one").unwrap();
        }
        create_anew(&into).unwrap();
        let before = list(&data).unwrap();
        copy(&data, &into, &before, &Files::new()).unwrap();
        let expected = [
            "config/a#b.yml",
            "config/auth.db",
            "images/feed/1",
            "images/feed/2",
            "service-token",
        ];
        assert_eq!(names(&all(&into).unwrap()), expected);

        std::fs::write(data.join("config/a#b.yml"), "more").unwrap();
        std::fs::remove_file(data.join("images/feed/1")).unwrap();
        write(&data.join("images/feed/3"), b"three").unwrap();
        copy(&data, &into, &list(&data).unwrap(), &before).unwrap();
        let expected = [
            "config/a#b.yml",
            "config/auth.db",
            "images/feed/2",
            "images/feed/3",
            "service-token",
        ];
        assert_eq!(names(&all(&into).unwrap()), expected);
        assert_eq!(std::fs::read(into.join("config/a#b.yml")).unwrap(), b"more");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&into), mode(&into.join("service-token"))), (0o700, 0o600));
    }
}
