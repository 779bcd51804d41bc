//! Findings: the reasons for refusing a version, with file and line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Findings in one log line.
const LOGGED: usize = 20;

/// One reason for refusing a version. Never quotes a value: findings are logged and returned to operators.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// The path inside the source.
    pub path: String,
    /// From 1; none where the parser gives no position.
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

/// The error of an invalid file. The reason never quotes a value.
#[derive(Debug)]
pub(super) struct ParseError {
    pub line: Option<usize>,
    pub reason: String,
}

impl ParseError {
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

/// All findings of one version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", joined(.0))]
pub struct Refused(pub Vec<Finding>);

/// Joins the first findings for the log.
fn joined(findings: &[Finding]) -> String {
    let mut lines: Vec<_> = findings.iter().take(LOGGED).map(ToString::to_string).collect();
    if findings.len() > LOGGED {
        lines.push(format!("and {} more", findings.len() - LOGGED));
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_findings_are_logged_as_one_short_line() {
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
