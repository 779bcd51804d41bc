//! `fleet restore`: makes a data folder from a backup.
//!
//! What the ledgers of later resignations have is added to that of the backup: auth resigns these accounts again before it answers.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::backup::files::Files;
use crate::backup::manifest::Manifest;
use crate::backup::{DATABASES, databases, files};
use crate::launch;

/// Makes the data folder, which must be missing or empty, from a backup. `resigned` are files of `resignation.ledger` that are newer than the backup.
///
/// # Errors
/// If the backup is not as it was written or is damaged, there are data already, or something cannot be read or written. Then there is no
/// data folder.
pub async fn run(backup: &Path, data: &Path, resigned: &[PathBuf]) -> anyhow::Result<()> {
    let manifest = Manifest::checked(backup)?;
    match std::fs::read_dir(data) {
        Ok(mut entries) => ensure!(entries.next().is_none(), "--data {}: not empty", data.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("--data {}", data.display())),
    }
    let mut ledgers = String::new();
    for file in resigned {
        let ledger = std::fs::read_to_string(file).with_context(|| format!("--resigned {}", file.display()))?;
        ledgers.push_str(&ledger);
        ledgers.push('\n');
    }

    let partial = data.with_added_extension("partial");
    files::create_anew(&partial).with_context(|| partial.display().to_string())?;
    let filled = fill(&partial, backup, &manifest, &ledgers).await;
    let later = files::or_remove(&partial, filled)?;
    files::put_in_place(&partial, data)?;
    println!(
        "restored to {} from the backup of {}; {later} later resignations, which auth repeats when it starts",
        data.display(),
        manifest.taken_at
    );
    Ok(())
}

/// Returns how many lines of the ledgers the backup lacked.
async fn fill(data: &Path, backup: &Path, manifest: &Manifest, ledgers: &str) -> anyhow::Result<usize> {
    let mut written = files::all(backup)?;
    written.retain(|path, _| path.to_str().is_some_and(|name| manifest.files.contains_key(name)));
    files::copy(backup, data, &written, &Files::new())?;
    for database in DATABASES {
        databases::check(&data.join(database)).await?;
        databases::skip_numbers(data, database).await.context(database)?;
    }
    add_lines(&data.join(launch::LEDGER), ledgers)
}

/// Appends lines that the file does not have, and returns how many.
fn add_lines(file: &Path, lines: &str) -> anyhow::Result<usize> {
    let mut options = OpenOptions::new();
    let mut ledger = options.read(true).append(true).create(true).mode(0o600).open(file)?;
    let known = std::fs::read_to_string(file)?;
    let mut known: HashSet<&str> = known.lines().collect();
    let mut added = 0;
    for line in lines.lines().filter(|line| !line.is_empty()) {
        if known.insert(line) {
            // The line break in front ends a line that a crash has cut.
            write!(ledger, "\n{line}\n")?;
            added += 1;
        }
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ledgers_are_added_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resigned");
        std::fs::write(&file, "\naa 1\n\nbb").unwrap();
        assert_eq!(add_lines(&file, "\naa 1\n\n\nbb 2\n\ncc 3\n\ncc 3\n").unwrap(), 2);
        let lines = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = lines.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["aa 1", "bb", "bb 2", "cc 3"]);
        assert_eq!(add_lines(&file, "bb 2\ncc 3").unwrap(), 0);
    }
}
