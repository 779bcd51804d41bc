//! Crash points: a test ends a process by SIGKILL between two named steps.
//!
//! Code names a point where a crash must do no harm, `<service>.<what has just happened>`, and a test arms one of them:
//!
//! ```ignore
//! self.store.settle(&events, now).await?;
//! crash_point("notice.push-settled");
//! ```
//!
//! Only builds with debug assertions have crash points, and there only processes with [`CRASH_FILE`] in their environment.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::process::{Signal, getpid, kill_process};

/// The environment variable with the path of a file that contains the name of the armed point. Without the file none is armed.
pub const CRASH_FILE: &str = "SOSOHAPPY_CRASH_FILE";

static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| env::var_os(CRASH_FILE).map(PathBuf::from));

/// Ends the process by SIGKILL if this point is armed, and disarms it: of several processes that reach it one ends.
///
/// # Panics
/// If the kernel refuses the signal.
pub fn crash_point(name: &str) {
    if cfg!(debug_assertions) && FILE.as_deref().is_some_and(|file| disarm(file, name)) {
        kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    }
}

/// Removes the file if it arms this point. Returns whether this call removed it.
fn disarm(file: &Path, name: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|armed| armed == name) && fs::remove_file(file).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    /// The process that crashes. A test like any other, which does something only when its environment names the file.
    #[test]
    fn child() {
        if FILE.is_none() {
            return;
        }
        for point in ["before", "armed", "after"] {
            writeln!(std::io::stdout(), "reached {point}").unwrap();
            crash_point(point);
        }
    }

    #[test]
    fn a_process_ends_at_the_armed_point_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("point");
        fs::write(&file, "armed").unwrap();
        let run = || {
            let child = Command::new(env::current_exe().unwrap())
                .args(["--exact", "crash_point::tests::child", "--nocapture"])
                .env(CRASH_FILE, &file)
                .output()
                .unwrap();
            let printed = String::from_utf8(child.stdout).unwrap();
            (child.status.signal(), printed.matches("reached ").count())
        };
        assert_eq!(run(), (Some(9), 2));
        assert!(!file.exists(), "the point is disarmed");
        assert_eq!(run(), (None, 3));
    }
}
