//! Which processes have the journal open. A process holds the lock of a file of its own as long as it lives; the kernel
//! takes it away however the process ends, so that nobody has to write heartbeats or wait for a lease to run out.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// This process's sign of life.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Locked as long as it is open.
    _file: File,
}

impl Lock {
    pub(super) fn take(journal: &Path, process: &str) -> io::Result<Self> {
        let path = path(journal, process);
        let file = File::create_new(&path)?;
        file.lock()?;
        Ok(Self { path, _file: file })
    }

    /// Ends in order: nothing is left behind.
    pub(super) fn release(self) {
        remove(&self.path);
    }
}

/// Whether a process that was registered has ended.
pub(super) fn dead(journal: &Path, process: &str) -> io::Result<bool> {
    let file = match File::open(path(journal, process)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

pub(super) fn bury(journal: &Path, process: &str) {
    remove(&path(journal, process));
}

fn path(journal: &Path, process: &str) -> PathBuf {
    let mut name = journal.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{process}.lock"));
    journal.with_file_name(name)
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "journal lock file not deleted");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_dead_when_its_lock_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("events.db");
        let lock = Lock::take(&journal, "a1").unwrap();
        assert!(!dead(&journal, "a1").unwrap());
        assert!(dead(&journal, "b2").unwrap(), "no file");
        drop(lock);
        assert!(dead(&journal, "a1").unwrap(), "as after a kill");
        bury(&journal, "a1");
        let lock = Lock::take(&journal, "a1").unwrap();
        lock.release();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
