//! One run of the bench: the page that it writes, the machine that it ran on, and the data behind its figures.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use sosohappy_common::clock::{Clock as _, SystemClock};

use crate::card::Card;
use crate::report::{Others, Report, with_section};

/// The folder of raw data in cargo's target folder.
const FOLDER: &str = "bench";

/// The first lines of the page.
const HEAD: &str = "Written by `make bench`, not by hand: each figure and its baseline come from one run, in which they take turns, on one machine. Ratios hold from machine to \
    machine, absolute times do not. A ratio is the median of its rounds, with the least and the greatest of them.\n\n\
    `make bench` measures this table and the sections Binaries and starts, Sockets, Rooms and Sign-in rates. `make bench ARGS=PART` measures the others, which take longer or need the \
    machine in another state: `feed` fills a database with a million posts first, `catch-up` publishes a million tokens to Kafka first, `bill` makes calls one after the other and traces \
    a fleet, `day` keeps each of up to 14 rates for `--seconds` on each set of engines, `rolling` restarts ten processes, `flood` switches limits off, `import` and `mirror` \
    (`make bench-migration`) need the databases of the legacy services, and `make cold-build` builds everything anew. \
    `--only`, `--rounds`, `--samples` and `--seconds` change what is measured of the table, `--help` lists the sizes of the parts.";

/// A run.
#[derive(Debug)]
pub struct Run {
    page: PathBuf,
    binaries: PathBuf,
    /// The file of the raw data.
    file: PathBuf,
    card: Card,
    data: Map<String, Value>,
}

impl Run {
    /// Begins a run of a part, which writes that page.
    pub fn begin(page: &Path, part: &str) -> anyhow::Result<Self> {
        let executable = std::env::current_exe()?;
        let binaries = executable.parent().context("the binary is in a folder")?;
        let folder = binaries.parent().unwrap_or(binaries).join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        let began = format!("{:.0}", SystemClock.now());
        let card = Card::read();
        println!("{card}");
        let mut data = Map::new();
        data.insert("part".to_owned(), json!(part));
        data.insert("beganAt".to_owned(), json!(began));
        data.insert("machine".to_owned(), card.to_json());
        Ok(Self {
            page: page.to_owned(),
            binaries: binaries.to_owned(),
            file: folder.join(format!("{}-{part}.json", began.replace(':', ""))),
            card,
            data,
        })
    }

    /// Returns the folder of the fleet's binaries, and of this one.
    pub fn binaries(&self) -> PathBuf {
        self.binaries.clone()
    }

    /// Keeps the data behind a figure for the file of raw data.
    pub fn keep(&mut self, name: &str, data: Value) {
        self.data.insert(name.to_owned(), data);
    }

    /// Writes the table of figures, and keeps the page's other sections.
    pub fn write_table(&mut self, report: &Report, others: Others) -> anyhow::Result<()> {
        let head = format!("{HEAD}\n\n{}", self.about());
        let page = report.written_to(&self.read()?, &head, others);
        self.keep("table", json!(report.table()));
        self.write(&page)
    }

    /// Writes a section with that heading, in place of an existing one.
    pub fn write_section(&mut self, heading: &str, body: &str) -> anyhow::Result<()> {
        let body = format!("{}\n\n{}", body.trim_end(), self.about());
        let page = with_section(&self.read()?, heading, &body);
        self.keep(heading, json!(body));
        self.write(&page)
    }

    /// Returns the sentence about where the figures come from.
    fn about(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        format!(
            "Machine: {}. Raw data: `{FOLDER}/{name}` in cargo's target folder.",
            self.card
        )
    }

    /// Reads the page; empty if it does not exist.
    fn read(&self) -> anyhow::Result<String> {
        match std::fs::read_to_string(&self.page) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            other => Ok(other?),
        }
    }

    fn write(&self, page: &str) -> anyhow::Result<()> {
        std::fs::write(&self.page, page)?;
        std::fs::write(&self.file, serde_json::to_string(&self.data)?)?;
        println!(
            "written to {}, raw data in {}",
            self.page.display(),
            self.file.display()
        );
        Ok(())
    }
}
