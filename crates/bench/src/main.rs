//! `make bench`: measures the fleet and a baseline for each figure in the same run, and writes `docs/performance.md`.

mod access;
mod bare;
mod bill;
mod card;
mod catch_up;
mod config;
mod day;
mod echo;
mod feed;
mod flood;
mod import;
mod like;
mod message;
mod metrics;
mod mirror;
mod report;
mod rolling;
mod rooms;
mod rounds;
mod route;
mod run;
mod sessions;
mod sockets;
mod start;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use sosohappy_common::run::{block_on, finish};
use sosohappy_fleet::app::{Addresses, NewPost, Phone};
use sosohappy_testkit::{EngineSet, Ports};

use crate::report::{Others, Report};
use crate::rounds::Effort;
use crate::run::Run;

/// Measures the fleet and its baselines in the same run
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Measure only these figures of the table; the page keeps its other rows
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    #[command(flatten)]
    effort: Effort,
    /// The page to write the figures to
    #[arg(long, global = true, default_value = "docs/performance.md", value_name = "FILE")]
    report: PathBuf,
}

/// Figures of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Access,
    Route,
    Config,
    Start,
    Like,
    Message,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a bare axum route, the baseline of the smallest route
    #[command(hide = true)]
    Bare { port: u16 },
    /// Serve bare sockets, the baseline of those of the fleet
    #[command(hide = true)]
    BareSockets { port: u16 },
    /// Publish or read the access tokens of a bus, as one process of `catch-up`
    #[command(hide = true)]
    AccessTokens(catch_up::Task),
    /// Count what a call of each kind takes: processor time, bytes to the disk, records, statements and fsyncs
    Bill {
        /// Calls of each kind
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=bill::MOST))]
        calls: u32,
    },
    /// Restart ten processes one after the other under load, behind a load balancer, on the real engines; fails if a request fails
    Rolling,
    /// Measure message delivery while another client sends 6,000 valid frames a second, with and without the frame limit
    Flood,
    /// Measure pages, saves and statistics of feed with a million posts, beside their statements alone
    Feed {
        /// The posts in the database
        #[arg(long, default_value_t = 1_000_000)]
        posts: u64,
    },
    /// Measure time and memory of `fleet import spring` for posts with a picture of 20 KB each, on the real engines
    Import {
        /// The posts in the legacy database; the targets are for the default
        #[arg(long, default_value_t = import::POSTS, value_parser = clap::value_parser!(u32).range(1..=i64::from(import::POSTS)))]
        posts: u32,
    },
    /// Measure messages of one person to a room with very many sockets, some of which do not read, as `bench` does as well
    Rooms(rooms::Size),
    /// Measure sign-ins, password log-ins and re-issues a second, as `bench` does as well
    Sessions {
        /// Calls of each client
        #[arg(long, default_value_t = CALLS, value_parser = clap::value_parser!(u32).range(1..))]
        calls: u32,
    },
    /// Measure how fast the token registry catches up with a million tokens at the start of a process, and what one takes in memory
    CatchUp(catch_up::Size),
    /// Measure memory, processor time and delivery with very many sockets of notice, as `bench` does as well
    Sockets {
        /// The open sockets, a multiple of 50
        #[arg(long, default_value_t = SOCKETS)]
        sockets: usize,
    },
    /// Measure what `fleet mirror` adds to an answer, and how fast a route steps back
    Mirror,
    /// Measure how many people a day the fleet serves on this machine, by the load of `docs/scale.md`
    Day {
        /// Seconds for which each rate is kept
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
}

/// Sizes of the parts that `bench` runs after the table.
const CALLS: u32 = 60;
const SOCKETS: usize = 10_000;

fn main() -> ExitCode {
    finish("bench", perform(&Arguments::parse()))
}

fn perform(arguments: &Arguments) -> anyhow::Result<()> {
    let begin = |part: &str| Run::begin(&arguments.report, part);
    match arguments.command {
        Some(Command::AccessTokens(ref task)) => block_on(task.perform()),
        Some(Command::Bare { port }) => block_on(route::serve_bare(port)),
        Some(Command::BareSockets { port }) => block_on(echo::serve_groups(port)),
        Some(Command::Bill { calls }) => block_on(bill::run(&mut begin("bill")?, calls)),
        Some(Command::CatchUp(size)) => block_on(catch_up::run(&mut begin("catch-up")?, size)),
        Some(Command::Day { seconds }) => block_on(day::run(&mut begin("day")?, Duration::from_secs(seconds))),
        Some(Command::Feed { posts }) => block_on(feed::run(&mut begin("feed")?, posts)),
        Some(Command::Flood) => block_on(flood::run(&mut begin("flood")?)),
        Some(Command::Import { posts }) => block_on(import::run(&mut begin("import")?, posts)),
        Some(Command::Mirror) => block_on(mirror::run(&mut begin("mirror")?)),
        Some(Command::Rolling) => block_on(rolling::run(&mut begin("rolling")?)),
        Some(Command::Rooms(size)) => block_on(rooms::run(&mut begin("rooms")?, size)),
        Some(Command::Sessions { calls }) => block_on(sessions::run(&mut begin("sessions")?, calls)),
        Some(Command::Sockets { sockets }) => block_on(sockets::run(&mut begin("sockets")?, sockets)),
        None => {
            let mut run = begin("table")?;
            block_on(measure(&mut run, arguments))?;
            if arguments.only.is_empty() {
                block_on(sockets::run(&mut run, SOCKETS))?;
                block_on(rooms::run(&mut run, rooms::Size::default()))?;
                block_on(sessions::run(&mut run, CALLS))?;
            }
            Ok(())
        }
    }
}

/// Measures the parts of the table that are named, or all where none is.
async fn measure(run: &mut Run, arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { only, effort, .. } = arguments;
    let effort = *effort;
    let mut report = Report::default();
    let is_named = |part: Part| only.is_empty() || only.contains(&part);
    if is_named(Part::Access) {
        access::measure(&mut report).await?;
    }
    if is_named(Part::Route) {
        route::measure(run, &mut report, effort).await?;
    }
    if is_named(Part::Config) {
        config::measure(run, &mut report, effort).await?;
    }
    if is_named(Part::Start) {
        start::measure(run, &mut report).await?;
    }
    for set in [EngineSet::Embedded, EngineSet::Real] {
        if set == EngineSet::Real && !EngineSet::real_is_there() {
            continue;
        }
        if is_named(Part::Like) {
            like::measure(run, &mut report, set, effort).await?;
        }
        if is_named(Part::Message) {
            message::measure(run, &mut report, set, effort).await?;
        }
    }
    let others = if only.is_empty() { Others::Dropped } else { Others::Kept };
    run.write_table(&report, others)
}

/// Days on which an author has a post to be liked: a like again is no second notice, so each like is of another post.
const LIKED_DAYS: i64 = 336;

/// Returns noon of one of the first 28 days of the months of 2025, by its number from 0.
fn noon_of(day: i64) -> i64 {
    2_025_000_012_000_000 + (day / 28 + 1) * 10_000_000_000 + (day % 28 + 1) * 100_000_000
}

/// Saves the posts that are liked.
async fn save_liked_posts(author: &Phone) -> anyhow::Result<()> {
    for day in 0..LIKED_DAYS {
        let post = NewPost {
            date: noon_of(day),
            text: "liked",
            pictures: &[],
        };
        author.save_post(&post).await?;
    }
    Ok(())
}

fn addresses(ports: Ports) -> Addresses {
    Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_table_are_named_without_another_command() {
        let is_accepted = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        for accepted in [
            "bench",
            "bench --only like,message --report page.md",
            "bench feed --posts 10 --report page.md",
            "bench --rounds 7 --samples 30 --seconds 600",
            "bench rooms --sockets 200 --seconds 10",
            "bench catch-up --tokens 8000 --rounds 3",
            "bench bill --calls 316 --report page.md",
            "bench access-tokens publish kafka:127.0.0.1:9092  0 10",
            "bench day --seconds 60",
            "bench sockets --sockets 2000",
            "bench sessions --calls 10",
            "bench import --posts 2000 --report page.md",
        ] {
            assert!(is_accepted(accepted), "{accepted}");
        }
        for refused in [
            "bench --only like feed",
            "bench feed --only like",
            "bench --rounds 0",
            "bench --samples 10 rooms",
            "bench catch-up --rounds 2",
            "bench bill --calls 0",
            "bench bill --calls 317",
            "bench import --posts 0",
            "bench import --posts 100001",
        ] {
            assert!(!is_accepted(refused), "{refused}");
        }
    }
}
