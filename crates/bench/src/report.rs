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
        let mut text = String::from(
            "| what | measured | baseline in the same run | target | |\n| --- | --- | --- | --- | --- |\n",
        );
        for Row {
            what,
            measured,
            baseline,
            target,
            met,
            ..
        } in &self.0
        {
            let verdict = if *met { "met" } else { "**missed**" };
            let line = format!("| {what} | {measured} | {baseline} | {target} | {verdict} |\n");
            text.push_str(&line);
        }
        for missed in self.0.iter().filter(|row| !row.met) {
            let reason = format!("\n**{}**, missed: {}\n", missed.what, missed.why);
            text.push_str(&reason);
        }
        text
    }

    /// Writes the table of figures, and keeps the page's other sections.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = format!(
            "# Performance\n\nWritten by `make bench`, not by hand: each figure and its baseline come from one run, interleaved, on one \
             machine with two cores. Ratios hold from machine to machine, absolute times do not.\n\n{}",
            self.table()
        );
        // Sections of other commands follow the table.
        if let Some((_, sections)) = read(file)?.split_once("\n## ") {
            write!(text, "\n## {sections}")?;
        }
        std::fs::write(file, text)?;
        println!("written to {}", file.display());
        Ok(())
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
