//! `sosohappy-config check DIR`: what a pipeline asks before a change is merged.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::domain::check::Checker;
use crate::domain::finding::Refused;
use crate::domain::snapshot::Snapshot;
use crate::schemas;
use crate::source::read_folder;

/// Checks a folder of configuration as the config service checks a version before it publishes it
#[derive(Debug, Parser)]
#[command(name = "sosohappy-config check", version)]
struct Arguments {
    /// The folder
    folder: PathBuf,
    /// Lets unknown keys in sections of ours pass
    #[arg(long)]
    accept_unknown_keys: bool,
}

/// Writes `file:line: reason` for everything that is wrong. Ends with 0 when nothing is, 1 when something is, 2 when the folder cannot be
/// read.
#[must_use]
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    match check(&arguments.folder, !arguments.accept_unknown_keys) {
        Ok(files) => {
            say(&format!("{files} files are right"));
            ExitCode::SUCCESS
        }
        Err(CheckError::Refused(Refused(findings))) => {
            for finding in findings {
                say(&finding.to_string());
            }
            ExitCode::from(1)
        }
        Err(error) => {
            use std::io::Write as _;
            // Nobody is left to tell when standard error is closed.
            let _told = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Folder(#[from] crate::source::FolderError),
    #[error(transparent)]
    Schema(#[from] schemas::NotASchema),
    #[error(transparent)]
    Refused(#[from] Refused),
}

fn check(folder: &Path, refuse_unknown: bool) -> Result<usize, CheckError> {
    let contents = read_folder(folder)?;
    let checker = Checker::new(schemas::all()?, refuse_unknown);
    let snapshot = Snapshot::new(String::new(), contents)?;
    checker.check(&snapshot)?;
    Ok(snapshot.files.len())
}

fn say(line: &str) {
    use std::io::Write as _;
    // A closed pipe ends the output, which is what its reader wants.
    let _told = writeln!(std::io::stdout(), "{line}");
}
