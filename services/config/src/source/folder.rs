//! A folder as a source.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::domain::snapshot::Contents;
use crate::source::MAX_BYTES;

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("the folder holds more than {MAX_BYTES} bytes")]
    TooLarge,
}

/// Reads every file below the folder except hidden ones and links to the outside. Blocks.
pub fn read(folder: &Path) -> Result<Contents, FolderError> {
    let mut contents = Contents::new();
    let mut total = 0;
    let mut waiting = vec![(PathBuf::from(folder), String::new())];
    while let Some((path, prefix)) = waiting.pop() {
        let read = |error| FolderError::Read {
            path: path.display().to_string(),
            error,
        };
        for entry in std::fs::read_dir(&path).map_err(read)? {
            let entry = entry.map_err(read)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(read)?;
            if kind.is_dir() {
                waiting.push((entry.path(), format!("{prefix}{name}/")));
            } else if kind.is_file() || links_inside(&entry.path(), folder) {
                let bytes = std::fs::read(entry.path()).map_err(read)?;
                total += bytes.len() as u64;
                if total > MAX_BYTES {
                    return Err(FolderError::TooLarge);
                }
                contents.insert(format!("{prefix}{name}"), Bytes::from(bytes));
            }
        }
    }
    Ok(contents)
}

/// Returns whether a link leads to a file inside the folder: a mounted ConfigMap consists of such links.
fn links_inside(link: &Path, folder: &Path) -> bool {
    match (link.canonicalize(), folder.canonicalize()) {
        (Ok(target), Ok(folder)) => target.is_file() && target.starts_with(folder),
        _ => false,
    }
}
