//! Where tests keep their files.

use std::ffi::OsString;

use tempfile::TempDir;

/// The folder in which beds and fleets make theirs. `scripts/test` names one in memory: each commit of `SQLite` waits for the disk otherwise.
const PARENT: &str = "SOSOHAPPY_TEST_FOLDER";

/// Makes a folder of one test, which is deleted when it is dropped.
///
/// # Panics
/// If it cannot be made.
pub(crate) fn new() -> TempDir {
    new_in(std::env::var_os(PARENT))
}

fn new_in(parent: Option<OsString>) -> TempDir {
    let parent = parent.map_or_else(std::env::temp_dir, Into::into);
    tempfile::tempdir_in(parent).expect("a temporary folder can be created")
}

#[cfg(test)]
mod tests {
    use super::new_in;

    #[test]
    fn folders_are_made_in_the_one_that_is_named() {
        let parent = new_in(None);
        assert!(parent.path().starts_with(std::env::temp_dir()));
        let folder = new_in(Some(parent.path().into()));
        assert_eq!(folder.path().parent(), Some(parent.path()));
    }
}
