//! The version that is served whatever the source says, until it is let go.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::write_whole;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pin {
    /// None: let go.
    pub version: Option<String>,
    pub by: String,
    /// The newer one holds where two replicas disagree.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct PinError {
    path: String,
    reason: String,
}

/// One file. All calls block.
#[derive(Debug, Clone)]
pub struct PinFile(PathBuf);

impl PinFile {
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn read(&self) -> Result<Option<Pin>, PinError> {
        match std::fs::read(&self.0) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| failed(&self.0, &error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&self.0, &error)),
        }
    }

    pub fn write(&self, pin: &Pin) -> Result<(), PinError> {
        let bytes = serde_json::to_vec(pin).map_err(|error| failed(&self.0, &error))?;
        write_whole(&self.0, &bytes).map_err(|error| failed(&self.0, &error))
    }
}

fn failed(path: &Path, error: &dyn std::error::Error) -> PinError {
    PinError {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}
