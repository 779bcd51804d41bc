//! The sources of settings, and the error of invalid ones.

use std::path::PathBuf;

/// The sources of a service's settings.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The name in environment keys: `auth`, `feed`, …
    pub service: &'static str,
    /// The service's embedded `settings.toml`.
    pub defaults: &'static str,
    /// An optional file over the defaults.
    pub file: Option<PathBuf>,
    /// Keys set by the launcher or a test, `("database.url", "sqlite:…")`, over the file and under the environment.
    pub overrides: Vec<(String, String)>,
    /// Whether the process environment is read; false in tests, which share a process.
    pub environment: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{path}: {reason}")]
    Invalid { path: String, reason: String },
    #[error("cannot read settings from {origin}: {reason}")]
    Unreadable { origin: String, reason: String },
}
