//! Where settings come from, and why they are refused.

use std::path::PathBuf;

/// Where the settings of a service come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `auth`, `feed`, … : the name in environment keys.
    pub service: &'static str,
    /// The service's embedded `settings.toml`.
    pub defaults: &'static str,
    /// An optional file over the defaults.
    pub file: Option<PathBuf>,
    /// Keys set by the launcher or a test, `("database.url", "sqlite:…")`, over the file and under the environment.
    pub overrides: Vec<(String, String)>,
    /// Whether the process environment is read; tests in one process say no.
    pub environment: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{path}: {reason}")]
    Invalid { path: String, reason: String },
    #[error("cannot read settings from {origin}: {reason}")]
    Unreadable { origin: String, reason: String },
}
