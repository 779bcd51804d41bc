//! Which processes have a database file open, so that the leases of dead ones are not waited for.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// A lock on `<database>.lock` that the kernel releases when the process ends, however it ends. Every process that has
/// the database open shares it; holding it exclusively proves that there is no other.
///
/// The lock is not on the database itself: closing a second descriptor of that file would drop `SQLite`'s own locks.
#[derive(Debug)]
pub(super) struct ProcessLock(#[expect(dead_code, reason = "kept open: closing it releases the lock")] File);

/// What is known of other processes when a database is opened.
#[derive(Debug)]
pub(super) enum Opening {
    /// There is none, and others that open the database wait until [`ProcessLock::share`].
    Alone(File),
    Shared(ProcessLock),
}

impl ProcessLock {
    /// Locks exclusively if that is possible at once, else waits for its share.
    pub(super) fn acquire(database: &Path) -> io::Result<Opening> {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        let file = OpenOptions::new().create(true).append(true).open(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Opening::Alone(file)),
            Err(TryLockError::WouldBlock) => Self::share(file).map(Opening::Shared),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Lets other processes in. Changing a held lock may deadlock on some platforms, so it is released first; a process
    /// that comes in between finds no lease yet.
    pub(super) fn share(file: File) -> io::Result<Self> {
        file.unlock()?;
        file.lock_shared()?;
        Ok(Self(file))
    }
}
