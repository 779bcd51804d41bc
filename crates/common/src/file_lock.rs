//! Locks on files between processes. The kernel releases a lock when its process ends, however it ends.
//!
//! A locked file is never deleted: otherwise two processes could hold the locks of two files of one name.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long [`FileLock::take`] waits for a process that is ending.
const PATIENCE: Duration = Duration::from_secs(1);

/// A lock that one process holds alone.
#[derive(Debug)]
pub struct FileLock {
    /// Locked as long as it is open.
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum FileLockError {
    #[error("in use by process {0}")]
    Held(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FileLock {
    /// Locks the file, creating it where it is missing, and writes the process id into it.
    ///
    /// # Errors
    /// [`FileLockError::Held`] when another holder (also one of this process) keeps it for longer than a second.
    pub async fn take(path: &Path) -> Result<Self, FileLockError> {
        let mut file = open(path)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    file.read_to_string(&mut holder)?;
                    return Err(FileLockError::Held(holder));
                }
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

/// A lock that all processes which use something share. Holding it exclusively proves that no other process uses it.
#[derive(Debug)]
pub struct SharedFileLock {
    /// Locked as long as it is open.
    _file: File,
}

/// The result of [`SharedFileLock::acquire`].
#[derive(Debug)]
pub enum Acquired {
    /// No other process holds the lock, and those that ask for it wait until [`Exclusive::share`].
    Alone(Exclusive),
    Shared(SharedFileLock),
}

/// A shared lock while its first process holds it alone.
#[derive(Debug)]
pub struct Exclusive(File);

impl SharedFileLock {
    /// Locks the file exclusively if that is possible at once, else waits for its share: blocks the thread.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn acquire(path: &Path) -> io::Result<Acquired> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Acquired::Alone(Exclusive(file))),
            Err(TryLockError::WouldBlock) => {
                file.lock_shared()?;
                Ok(Acquired::Shared(Self { _file: file }))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Exclusive {
    /// Admits other processes.
    ///
    /// # Errors
    /// When the kernel refuses the lock.
    pub fn share(self) -> io::Result<SharedFileLock> {
        // Changing a held lock may deadlock on some platforms, so it is released first. Another process that locks the file in between
        // finds what the holder has prepared.
        self.0.unlock()?;
        self.0.lock_shared()?;
        Ok(SharedFileLock { _file: self.0 })
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_exclusive_lock_has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "99999999 of an earlier holder").unwrap();
        let lock = FileLock::take(&path).await.unwrap();
        let refused = FileLock::take(&path).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("in use by process {}", std::process::id()));
        // A holder that releases it within a second is waited for.
        let (next, ()) = tokio::join!(FileLock::take(&path), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(lock);
        });
        next.unwrap();
    }

    #[tokio::test]
    async fn a_missing_folder_is_an_error() {
        let path = Path::new("/nowhere/at/all");
        assert!(matches!(FileLock::take(path).await, Err(FileLockError::Io(_))));
    }

    #[test]
    fn a_shared_lock_is_exclusive_until_its_first_holder_shares_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Acquired::Alone(first) = SharedFileLock::acquire(&path).unwrap() else {
            panic!("another process holds the lock");
        };
        let second = std::thread::spawn({
            let path = path.clone();
            move || SharedFileLock::acquire(&path).unwrap()
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!second.is_finished(), "the second holder waits");
        let first = first.share().unwrap();
        let Acquired::Shared(second) = second.join().unwrap() else {
            panic!("the first holder has not released its lock");
        };
        drop(first);
        assert!(matches!(SharedFileLock::acquire(&path).unwrap(), Acquired::Shared(_)));
        drop(second);
        assert!(matches!(SharedFileLock::acquire(&path).unwrap(), Acquired::Alone(_)));
    }
}
