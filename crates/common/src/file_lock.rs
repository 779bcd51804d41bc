//! A lock on a file that one process holds, for as long as it lives: the kernel takes it away however the process ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a process that is ending is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// Locks the file, which is made where it is missing, and writes the process id into it. The file stays: were it deleted, two
    /// processes could hold locks of two files of one name.
    ///
    /// # Errors
    /// [`FileLockError::Held`] when another holder (of this process, too) keeps it for longer than a second.
    pub async fn take(path: &Path) -> Result<Self, FileLockError> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "99999999 of an earlier holder").unwrap();
        let lock = FileLock::take(&path).await.unwrap();
        let refused = FileLock::take(&path).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("in use by process {}", std::process::id()));
        // Who lets go within the second is waited for.
        let (next, ()) = tokio::join!(FileLock::take(&path), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(lock);
        });
        next.unwrap();
    }

    #[tokio::test]
    async fn needs_a_folder() {
        let path = Path::new("/nowhere/at/all");
        assert!(matches!(FileLock::take(path).await, Err(FileLockError::Io(_))));
    }
}
