//! Outcome of each row: a count for each outcome, and one JSON line for each row that was changed or left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// One line of the report. It names rows by their ids, and holds nothing that people have written.
#[derive(Debug, Serialize)]
struct Line<'a> {
    table: &'a str,
    id: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    reason: &'a str,
}

/// The counts of one table.
#[derive(Debug, Default)]
struct Table {
    rows: u64,
    outcomes: BTreeMap<&'static str, u64>,
    reasons: BTreeMap<String, u64>,
}

/// A report that is being written.
#[derive(Debug)]
pub struct Report {
    file: BufWriter<File>,
    tables: BTreeMap<&'static str, Table>,
}

impl Report {
    /// Begins a new report in the place of the one before.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("--report {}", path.display()))?;
        Ok(Self {
            file: BufWriter::new(file),
            tables: BTreeMap::new(),
        })
    }

    /// Counts a row by its outcome.
    pub fn count(&mut self, table: &'static str, outcome: &'static str) {
        let counts = self.tables.entry(table).or_default();
        counts.rows += 1;
        *counts.outcomes.entry(outcome).or_default() += 1;
    }

    /// Writes why a row, or a column of it, is not here as it was there.
    pub fn note(
        &mut self,
        table: &'static str,
        id: impl std::fmt::Display,
        outcome: &'static str,
        column: Option<&str>,
        reason: &str,
    ) -> anyhow::Result<()> {
        let line = Line {
            table,
            id: &id.to_string(),
            outcome,
            column,
            reason,
        };
        serde_json::to_writer(&mut self.file, &line)?;
        self.file.write_all(b"\n")?;
        let column = column.map_or_else(String::new, |column| format!("{column}: "));
        let reasons = &mut self.tables.entry(table).or_default().reasons;
        *reasons.entry(format!("{outcome}: {column}{reason}")).or_default() += 1;
        Ok(())
    }

    /// Writes all lines to disk and returns the counts as text.
    pub fn finish(mut self) -> anyhow::Result<String> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        let mut text = String::new();
        for (name, table) in &self.tables {
            writeln!(text, "{name}: {} rows", table.rows)?;
            for (outcome, count) in &table.outcomes {
                writeln!(text, "  {count:>10}  {outcome}")?;
            }
            for (reason, count) in &table.reasons {
                writeln!(text, "  {count:>10}    {reason}")?;
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_a_note_and_a_count_an_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.jsonl");
        let mut report = Report::create(&path).unwrap();
        report.count("user", "created");
        report.count("user", "unplaced");
        report.note("user", 7, "unplaced", Some("email"), "no address").unwrap();
        let summary = report.finish().unwrap();
        assert!(summary.contains("user: 2 rows"), "{summary}");
        assert!(summary.contains("unplaced: email: no address"), "{summary}");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"table\":\"user\",\"id\":\"7\",\"outcome\":\"unplaced\",\"column\":\"email\",\"reason\":\"no address\"}\n"
        );
    }
}
