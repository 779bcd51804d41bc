//! What is wrong with a source, where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that keeps a version from being published. Never quotes a value: it is logged and shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// Inside the source.
    pub path: String,
    /// From 1; none where the parser does not tell.
    pub line: Option<usize>,
    pub reason: String,
}

impl Finding {
    pub fn new(path: &str, line: Option<usize>, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.reason),
            None => write!(f, "{}: {}", self.path, self.reason),
        }
    }
}

/// Everything that is wrong with one version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", joined(.0))]
pub struct Refused(pub Vec<Finding>);

fn joined(findings: &[Finding]) -> String {
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
