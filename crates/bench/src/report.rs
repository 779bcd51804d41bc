//! The measured figures, and the page that they are written to.

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
pub struct Report(Vec<Line>);

impl Report {
    /// Adds a figure and prints it.
    pub fn add(&mut self, row: &Row) {
        let verdict = if row.met { "met" } else { "MISSED" };
        println!(
            "{}: {} (baseline {}; target {}: {verdict})",
            row.what, row.measured, row.baseline, row.target
        );
        self.0.push(Line::from(row));
    }

    /// Adds the figures of one measurement. The steps, a table with the sentence before it, follow the first missed target.
    pub fn add_with_steps(&mut self, rows: &[Row], steps: &str) {
        let mut steps = Some(steps).filter(|steps| !steps.is_empty());
        for row in rows {
            self.add(row);
            if let Some(missed) = self.0.last_mut().and_then(|line| line.missed.as_mut())
                && let Some(steps) = steps.take()
            {
                missed.extend(["\n\n", steps.trim_end()]);
            }
        }
    }

    /// Returns the table of figures, and why some miss their targets.
    pub fn table(&self) -> String {
        table(&self.0)
    }

    /// Returns the page with the table of figures below `head`, and with the other sections of `page`.
    pub fn written_to(&self, page: &str, head: &str, others: Others) -> String {
        let (known, sections) = page.split_once("\n## ").unzip();
        let mut lines = match others {
            Others::Kept => Line::all_of(known.unwrap_or(page)),
            Others::Dropped => Vec::new(),
        };
        for line in &self.0 {
            match lines.iter_mut().find(|known| known.what == line.what) {
                Some(known) => *known = line.clone(),
                None => lines.push(line.clone()),
            }
        }
        let mut text = format!("# Performance\n\n{head}\n\n{}", table(&lines));
        // Sections of other commands follow the table.
        if let Some(sections) = sections {
            text.extend(["\n## ", sections]);
        }
        text
    }
}

fn table(lines: &[Line]) -> String {
    let mut text =
        format!("{HEADER} measured | baseline in the same run | target | |\n| --- | --- | --- | --- | --- |\n");
    for line in lines {
        text.extend([line.row.as_str(), "\n"]);
    }
    for missed in lines.iter().filter_map(|line| line.missed.as_ref()) {
        text.extend(["\n", missed.as_str(), "\n"]);
    }
    text
}

/// The beginning of the table of figures; further tables follow about missed targets.
const HEADER: &str = "| what |";

/// What becomes of rows of the page that were not measured in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Kept,
    Dropped,
}

/// A row of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    what: String,
    row: String,
    /// The paragraph about a missed target, and the table of its steps.
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
    /// Reads the rows of a table as it was written, with what follows about missed targets.
    fn all_of(text: &str) -> Vec<Self> {
        let rows = text.lines().skip_while(|line| !line.starts_with(HEADER));
        // The head and the rule below it.
        rows.take_while(|line| line.starts_with("| "))
            .skip(2)
            .map(|row| {
                let what = row.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
                Self {
                    what: what.to_owned(),
                    row: row.to_owned(),
                    missed: about(text, what),
                }
            })
            .collect()
    }
}

/// Returns what the text says about a missed target: up to the next target.
fn about(text: &str, what: &str) -> Option<String> {
    let begin = text.find(&format!("\n**{what}**, missed: "))? + 1;
    let rest = &text[begin..];
    let end = rest.find("\n\n**").unwrap_or(rest.len());
    Some(rest[..end].trim_end().to_owned())
}

/// Returns the page with a section of that heading in place of an existing one.
pub fn with_section(page: &str, heading: &str, body: &str) -> String {
    let mut parts = page.split("\n## ");
    let mut text = parts.next().unwrap_or_default().trim_end().to_owned();
    if text.is_empty() {
        "# Performance".clone_into(&mut text);
    }
    let others = parts
        .filter(|part| part.lines().next() != Some(heading))
        .map(str::trim_end);
    for part in others.chain([format!("{heading}\n\n{}", body.trim_end()).as_str()]) {
        text.extend(["\n\n## ", part]);
    }
    text.push('\n');
    text
}

/// Returns the cell that says whether a target is met.
pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
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

    const STEPS: &str = "Where the milliseconds go:\n\n| step | begins |\n| --- | --- |\n| feed: request | 0.10 |\n";

    fn rows(rows: &[(&str, &str, bool)]) -> Vec<Row> {
        let row = |(what, measured, met): &(&str, &str, bool)| Row {
            what: (*what).to_owned(),
            measured: (*measured).to_owned(),
            baseline: "—".to_owned(),
            target: "≤ 2 ms",
            met: *met,
            why: "two commits.",
        };
        rows.iter().map(row).collect()
    }

    fn report(figures: &[(&str, &str, bool)], steps: &str) -> Report {
        let mut report = Report::default();
        report.add_with_steps(&rows(figures), steps);
        report
    }

    #[test]
    fn a_run_of_some_parts_keeps_the_other_rows_and_sections() {
        let figures = [
            ("like, p50", "3 ms", false),
            ("like, p99", "9 ms", false),
            ("message", "1 ms", true),
        ];
        let page = report(&figures, STEPS).written_to("", "The head.", Others::Dropped);
        assert!(page.starts_with("# Performance\n\nThe head.\n\n| what |"), "{page}");
        let page = with_section(&page, "Import", "| target | time |\n| --- | --- |\n| SQLite | 3 s |");
        let figures = [("message", "4 ms", false), ("socket", "1 ms", true)];
        let page = report(&figures, "").written_to(&page, "Another head.", Others::Kept);
        assert!(!page.contains("The head."), "{page}");
        let rows: Vec<_> = page.lines().filter(|line| line.contains("≤ 2 ms")).collect();
        assert_eq!(
            rows,
            [
                "| like, p50 | 3 ms | — | ≤ 2 ms | **missed** |",
                "| like, p99 | 9 ms | — | ≤ 2 ms | **missed** |",
                "| message | 4 ms | — | ≤ 2 ms | **missed** |",
                "| socket | 1 ms | — | ≤ 2 ms | met |",
            ]
        );
        let about = format!(
            "\n**like, p50**, missed: two commits.\n\n{STEPS}\n**like, p99**, missed: two commits.\n\n**message**, missed: two commits.\n"
        );
        assert!(page.contains(&about), "{page}");
        assert!(
            page.ends_with("\n## Import\n\n| target | time |\n| --- | --- |\n| SQLite | 3 s |\n"),
            "{page}"
        );
        let page = report(&[("message", "1 ms", true)], "").written_to(&page, "The head.", Others::Dropped);
        assert!(!page.contains("like, p50") && page.contains("## Import"), "{page}");
    }

    #[test]
    fn a_section_takes_the_place_of_the_one_before() {
        let page = with_section("", "Import", "3 s");
        let page = with_section(&page, "Mirror", "1 s");
        assert_eq!(
            with_section(&page, "Import", "4 s\n"),
            "# Performance\n\n## Mirror\n\n1 s\n\n## Import\n\n4 s\n"
        );
    }

    #[test]
    fn steps_follow_the_first_missed_target_only() {
        let figures = [
            ("p50", "1 ms", true),
            ("p99", "3 ms", false),
            ("maximum", "9 ms", false),
        ];
        let table = report(&figures, STEPS).table();
        let about = format!("\n**p99**, missed: two commits.\n\n{STEPS}\n**maximum**, missed: two commits.\n");
        assert!(table.ends_with(&about), "{table}");
        assert!(!report(&figures[..1], STEPS).table().contains("step"));
    }

    #[test]
    fn quantiles_are_measured_times() {
        let samples = Samples::new((1..=200).rev().map(Duration::from_millis).collect());
        let at = [0, 500, 990, 1000].map(|per_mille| samples.quantile(per_mille).as_millis());
        assert_eq!(at, [1, 100, 198, 200]);
        assert_eq!(samples.median(), samples.quantile(500));
        assert_eq!(Samples::new(Vec::new()).quantile(990), Duration::ZERO);
        let one = Samples::new(vec![Duration::from_millis(3)]);
        assert_eq!(
            [0, 500, 990].map(|per_mille| one.quantile(per_mille).as_millis()),
            [3, 3, 3]
        );
    }
}
