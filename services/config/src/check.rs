//! `sosohappy-config check DIR`: checks a folder of configuration in a pipeline.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::domain::check::Checker;
use crate::domain::finding::Refused;
use crate::domain::snapshot::Snapshot;
use crate::schemas;
use crate::source::read_folder;

/// Checks a folder of configuration as the config service does before it publishes a version
#[derive(Debug, Parser)]
#[command(name = "sosohappy-config check", version)]
struct Arguments {
    /// The folder
    folder: PathBuf,
    /// Accepts unknown keys in the fleet's own sections
    #[arg(long)]
    accept_unknown_keys: bool,
}

/// Prints `file:line: reason` for each finding. Returns exit code 0 without findings, 1 with findings, 2 when the folder cannot be read.
#[must_use]
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    match check(&arguments.folder, !arguments.accept_unknown_keys) {
        Ok(files) => {
            print(&format!("{files} files valid"));
            ExitCode::SUCCESS
        }
        Err(CheckError::Refused(Refused(findings))) => {
            for finding in findings {
                print(&finding.to_string());
            }
            ExitCode::from(1)
        }
        Err(error) => {
            use std::io::Write as _;
            // Standard error may be closed.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Folder(#[from] crate::source::FolderError),
    #[error(transparent)]
    Schema(#[from] schemas::InvalidSchema),
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

fn print(line: &str) {
    use std::io::Write as _;
    // Standard output may be a closed pipe.
    let _ = writeln!(std::io::stdout(), "{line}");
}
