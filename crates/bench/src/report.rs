//! The measured figures, and the page that they are written to.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// One measured figure with its baseline and target.
#[derive(Debug)]
pub struct Row {
    pub what: String,
    pub measured: String,
    pub baseline: String,
    pub target: &'static str,
    pub met: bool,
    /// The reason for the difference between the figure and its baseline; written to the page if the target is missed.
    pub why: &'static str,
}

/// The figures of one run.
#[derive(Debug, Default)]
pub struct Report(Vec<Row>);

impl Report {
    /// Adds a figure and prints it.
    pub fn add(&mut self, row: Row) {
        let verdict = if row.met { "met" } else { "MISSED" };
        println!(
            "{}: {} (baseline {}; target {}: {verdict})",
            row.what, row.measured, row.baseline, row.target
        );
        self.0.push(row);
    }

    /// Returns the table of figures, and why some miss their targets.
    pub fn table(&self) -> String {
        table(&self.0.iter().map(Line::from).collect::<Vec<_>>())
    }

    /// Writes the table of figures, and keeps the page's other sections.
    pub fn write(&self, file: &Path, others: Others) -> anyhow::Result<()> {
        let old = read(file)?;
        let (known, sections) = old.split_once("\n## ").unzip();
        let mut lines = match others {
            Others::Kept => Line::all_of(known.unwrap_or(&old)),
            Others::Dropped => Vec::new(),
        };
        for row in &self.0 {
            let line = Line::from(row);
            match lines.iter_mut().find(|known| known.what == line.what) {
                Some(known) => *known = line,
                None => lines.push(line),
            }
        }
        let mut text = format!(
            "# Performance\n\nWritten by `make bench`, not by hand: each figure and its baseline come from one run, interleaved, on one \
             machine with two cores. Ratios hold from machine to machine, absolute times do not.\n\n{}",
            table(&lines)
        );
        // Sections of other commands follow the table.
        if let Some(sections) = sections {
            write!(text, "\n## {sections}")?;
        }
        std::fs::write(file, text)?;
        println!("written to {}", file.display());
        Ok(())
    }
}

fn table(lines: &[Line]) -> String {
    let mut text =
        String::from("| what | measured | baseline in the same run | target | |\n| --- | --- | --- | --- | --- |\n");
    for line in lines {
        text.extend([line.row.as_str(), "\n"]);
    }
    for missed in lines.iter().filter_map(|line| line.missed.as_ref()) {
        text.extend(["\n", missed.as_str(), "\n"]);
    }
    text
}

/// What becomes of rows of the page that were not measured in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Kept,
    Dropped,
}

/// A row of the page.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    what: String,
    row: String,
    /// The paragraph about a missed target.
    missed: Option<String>,
}

impl From<&Row> for Line {
    fn from(row: &Row) -> Self {
        let Row {
            what,
            measured,
            baseline,
            target,
            met,
            why,
        } = row;
        let verdict = verdict(*met);
        Self {
            what: what.clone(),
            row: format!("| {what} | {measured} | {baseline} | {target} | {verdict} |"),
            missed: (!met).then(|| format!("**{what}**, missed: {why}")),
        }
    }
}

impl Line {
    /// Reads the rows of a table as it was written.
    fn all_of(table: &str) -> Vec<Self> {
        let rows = table.lines().filter(|line| line.starts_with("| "));
        // The head and the rule below it.
        rows.skip(2)
            .map(|row| {
                let what = row.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
                let about = format!("**{what}**, missed: ");
                Self {
                    what: what.to_owned(),
                    row: row.to_owned(),
                    missed: table.lines().find(|line| line.starts_with(&about)).map(str::to_owned),
                }
            })
            .collect()
    }
}

/// Writes a section with that heading, and replaces an existing one.
pub fn write_section(file: &Path, heading: &str, body: &str) -> anyhow::Result<()> {
    let old = read(file)?;
    let mut parts = old.split("\n## ");
    let mut text = parts.next().unwrap_or_default().trim_end().to_owned();
    if text.is_empty() {
        "# Performance".clone_into(&mut text);
    }
    let others = parts
        .filter(|part| part.lines().next() != Some(heading))
        .map(str::trim_end);
    for part in others.chain([format!("{heading}\n\n{}", body.trim_end()).as_str()]) {
        write!(text, "\n\n## {part}")?;
    }
    text.push('\n');
    std::fs::write(file, text)?;
    println!("written to {}, {heading:?}", file.display());
    Ok(())
}

/// Returns the cell that says whether a target is met.
pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

/// Reads the page; empty if it does not exist.
fn read(file: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => Ok(other?),
    }
}

/// Sorted measurements.
#[derive(Debug)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// Returns the quantile in thousandths (500 is the median); zero without samples.
    pub fn quantile(&self, per_mille: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * per_mille / 1000).copied().unwrap_or_default()
    }

    pub fn median(&self) -> Duration {
        self.quantile(500)
    }
}

/// Returns how many times as long as `other` `one` is.
pub fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(f64::MIN_POSITIVE)
}

pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: &[(&str, &str, bool)]) -> Report {
        let row = |(what, measured, met): &(&str, &str, bool)| Row {
            what: (*what).to_owned(),
            measured: (*measured).to_owned(),
            baseline: "—".to_owned(),
            target: "≤ 2 ms",
            met: *met,
            why: "two commits.",
        };
        Report(rows.iter().map(row).collect())
    }

    #[test]
    fn a_run_of_some_parts_keeps_the_other_rows_and_sections() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("performance.md");
        report(&[("like, p50", "3 ms", false), ("message", "1 ms", true)])
            .write(&file, Others::Dropped)
            .unwrap();
        write_section(&file, "Import", "| target | time |\n| --- | --- |\n| SQLite | 3 s |").unwrap();
        report(&[("message", "4 ms", false), ("socket", "1 ms", true)])
            .write(&file, Others::Kept)
            .unwrap();
        let page = std::fs::read_to_string(&file).unwrap();
        let rows: Vec<_> = page.lines().filter(|line| line.contains("≤ 2 ms")).collect();
        assert_eq!(
            rows,
            [
                "| like, p50 | 3 ms | — | ≤ 2 ms | **missed** |",
                "| message | 4 ms | — | ≤ 2 ms | **missed** |",
                "| socket | 1 ms | — | ≤ 2 ms | met |",
            ]
        );
        assert!(page.contains("\n**like, p50**, missed: two commits.\n\n**message**, missed: two commits.\n"));
        assert!(
            page.ends_with("\n## Import\n\n| target | time |\n| --- | --- |\n| SQLite | 3 s |\n"),
            "{page}"
        );
        report(&[("message", "1 ms", true)])
            .write(&file, Others::Dropped)
            .unwrap();
        let page = std::fs::read_to_string(&file).unwrap();
        assert!(!page.contains("like, p50") && page.contains("## Import"), "{page}");
    }
}
