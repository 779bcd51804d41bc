//! Figures as they come, and the page they end on.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// One measured figure beside its baseline and target.
#[derive(Debug)]
pub struct Row {
    pub what: String,
    pub measured: String,
    pub baseline: String,
    pub target: &'static str,
    pub met: bool,
    /// What lies between the figure and its baseline; told where the target is missed.
    pub why: &'static str,
}

#[derive(Debug, Default)]
pub struct Report(Vec<Row>);

impl Report {
    /// Keeps the figure and tells it at once.
    pub fn add(&mut self, row: Row) {
        let verdict = if row.met { "met" } else { "MISSED" };
        println!(
            "{}: {} (baseline {}; target {}: {verdict})",
            row.what, row.measured, row.baseline, row.target
        );
        self.0.push(row);
    }

    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = String::from(
            "# Performance\n\nWritten by `make bench`, not by hand: each figure and its baseline come from one run, interleaved, on one \
             machine with two cores. Ratios hold from machine to machine, absolute times do not.\n\n\
             | what | measured | baseline in the same run | target | |\n| --- | --- | --- | --- | --- |\n",
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
            writeln!(text, "| {what} | {measured} | {baseline} | {target} | {verdict} |")?;
        }
        for missed in self.0.iter().filter(|row| !row.met) {
            write!(text, "\n**{}**, missed: {}\n", missed.what, missed.why)?;
        }
        // What other commands have written below stays.
        if let Some((_, sections)) = read(file)?.split_once("\n## ") {
            write!(text, "\n## {sections}")?;
        }
        std::fs::write(file, text)?;
        println!("written to {}", file.display());
        Ok(())
    }
}

/// Puts a section of its own under that heading, in place of the one that is there.
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

/// A page that is not there is an empty one.
fn read(file: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => Ok(other?),
    }
}

/// Sorted samples.
#[derive(Debug)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// The sample below which that share of all lies; zero without samples.
    pub fn quantile(&self, per_mille: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * per_mille / 1000).copied().unwrap_or_default()
    }

    pub fn median(&self) -> Duration {
        self.quantile(500)
    }
}

/// How many times as long.
pub fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(f64::MIN_POSITIVE)
}

pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
