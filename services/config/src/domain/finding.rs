//! What is wrong with a source, where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Findings in one log line.
const SHOWN: usize = 20;

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

/// Why a file does not parse. The reason never quotes a value.
#[derive(Debug)]
pub(super) struct Flaw {
    pub line: Option<usize>,
    pub reason: String,
}

impl Flaw {
    pub(super) fn at(line: usize, reason: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            reason: reason.into(),
        }
    }

    pub(super) fn without_line(reason: impl Into<String>) -> Self {
        Self {
            line: None,
            reason: reason.into(),
        }
    }
}

/// Everything that is wrong with one version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", joined(.0))]
pub struct Refused(pub Vec<Finding>);

/// The first of many: this goes to the log.
fn joined(findings: &[Finding]) -> String {
    let mut lines: Vec<_> = findings.iter().take(SHOWN).map(ToString::to_string).collect();
    if findings.len() > SHOWN {
        lines.push(format!("and {} more", findings.len() - SHOWN));
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_findings_are_one_short_line() {
        let findings = (0..10_000)
            .map(|number| Finding::new(&format!("{number}.yml"), None, "bad"))
            .collect();
        let line = Refused(findings).to_string();
        assert!(
            line.starts_with("0.yml: bad; 1.yml: bad; ") && line.ends_with("; and 9980 more"),
            "{line}"
        );
        assert_eq!(
            Refused(vec![Finding::new("a.yml", Some(2), "bad")]).to_string(),
            "a.yml:2: bad"
        );
    }
}
