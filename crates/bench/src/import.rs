//! `bench import`: time and memory of `fleet import spring` for posts with a picture of 20 KB each, into both engine sets.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sosohappy_testkit::spring::tables;
use sosohappy_testkit::{Bed, EngineSet};
use sqlx::{AssertSqlSafe, MySqlPool};

use crate::report::verdict;
use crate::run::Run;

/// The posts for which the targets are.
pub const POSTS: u32 = 100_000;
const PEOPLE: u32 = 1_000;
const TIME: Duration = Duration::from_mins(10);
const MEMORY_MIB: u64 = 200;
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// Bytes of a picture, at most.
const PICTURE: usize = 20 << 10;

/// The duration of a run, and the largest resident size of its process in MiB.
struct Measured {
    time: Duration,
    memory_mib: u64,
}

/// Measures the import of so many posts, at most [`POSTS`].
pub async fn run(run: &mut Run, posts: u32) -> anyhow::Result<()> {
    ensure!(
        EngineSet::real_is_there(),
        "the legacy databases need the test engines: scripts/engines up"
    );
    let fleet = run.binaries().join("fleet");
    let source = Bed::new(EngineSet::Real).await;
    let urls = [source.mysql_url("spring_auth"), source.mysql_url("spring_feed")];
    fill(&urls, posts).await?;
    let mut rows = String::new();
    for (set, name) in [
        (EngineSet::Embedded, "SQLite, pictures in a folder"),
        (EngineSet::Real, "MariaDB, pictures in a folder"),
    ] {
        let target = Bed::new(set).await;
        let first = import(&fleet, &target, &urls, "created", posts).await?;
        let second = import(&fleet, &target, &urls, "unchanged", posts).await?;
        println!(
            "{name}: {:?}, {} MiB; again {:?}, {} MiB",
            first.time, first.memory_mib, second.time, second.memory_mib
        );
        for (which, measured) in [("first run", &first), ("run without changes", &second)] {
            let met = measured.time <= TIME && measured.memory_mib <= MEMORY_MIB;
            let verdict = if posts == POSTS {
                verdict(met)
            } else {
                "not of the target's size"
            };
            writeln!(
                rows,
                "| {name}, {which} | {:.0} s | {} MiB | {verdict} |",
                measured.time.as_secs_f64(),
                measured.memory_mib
            )?;
        }
    }
    let build = if cfg!(debug_assertions) { "debug" } else { "optimized" };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    let text = format!(
        "Written by `make bench-migration POSTS={posts}`, by its part `bench import` ({build} build, load average {load} at its end): `fleet import spring` with \
         {posts} posts of {PEOPLE} accounts, each with a picture of 20 KB, two categories and two likes. The legacy database, the import and its target share \
         the machine. Memory is the largest resident size of the import's process. Target for {POSTS} posts on two processors: at most {} minutes and \
         {MEMORY_MIB} MiB.\n\n\
         | target | time | memory | |\n| --- | --- | --- | --- |\n{rows}",
        TIME.as_secs() / 60,
    );
    run.write_section("Import", &text)
}

/// Returns a JPEG of at most [`PICTURE`] bytes, with as much detail as fits.
fn picture() -> anyhow::Result<Vec<u8>> {
    let picture = image::RgbImage::from_fn(320, 240, |x, y| {
        let wave = |step: u32| u8::try_from((x * step + y * (step + 2) + x * y / 16) % 256).unwrap_or(0);
        image::Rgb([wave(1), wave(2), wave(3)])
    });
    for quality in (1..=95).rev() {
        let mut jpeg = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, quality);
        picture.write_with_encoder(encoder)?;
        if jpeg.len() <= PICTURE {
            return Ok(jpeg);
        }
    }
    anyhow::bail!("no quality makes the picture small enough")
}

/// Fills the legacy databases by statements that make the rows where they are.
async fn fill(urls: &[String; 2], posts: u32) -> anyhow::Result<()> {
    const DIGITS: &str = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 \
        UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    let [auth, feed] = urls;
    let (auth, feed) = (
        tables::open(auth, tables::AUTH).await?,
        tables::open(feed, tables::FEED).await?,
    );
    let numbers = format!(
        "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS n \
         FROM {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} e, {DIGITS} f) numbers"
    );
    let fill = async |pool: &MySqlPool, statement: String| {
        let done = sqlx::query(AssertSqlSafe(statement)).execute(pool).await?;
        anyhow::Ok(done.rows_affected())
    };
    let users = format!(
        "INSERT INTO user (apple_refresh_token, email, nickname, provider, provider_id) \
         SELECT '-', CONCAT('person', n, '@example.com+kakao'), CONCAT('person', n), 'kakao', n FROM {numbers} WHERE n < {PEOPLE}"
    );
    fill(&auth, users).await?;
    // Each account has a post on 100 days, 25 of each of four months.
    let days = format!(
        "INSERT INTO feed (feed_id, date, happiness, is_public, nickname, weather, text) \
         SELECT n + 1, (20230101 + n DIV {PEOPLE} DIV 25 * 100 + n DIV {PEOPLE} MOD 25) * 100000000 + 12000000, n MOD 6, b'1', \
         CONCAT('person', n MOD {PEOPLE}), 'sunny', CONCAT('day ', n) FROM {numbers} WHERE n < {posts}"
    );
    fill(&feed, days).await?;
    for values in ["'coffee'", "'sea'"] {
        let categories = format!("INSERT INTO feed_category (category, feed_id) SELECT {values}, feed_id FROM feed");
        fill(&feed, categories).await?;
    }
    for other in [1, 2] {
        let likes = format!(
            "INSERT INTO feed_like_nickname (nickname, feed_id) \
             SELECT CONCAT('person', (feed_id + {other}) MOD {PEOPLE}), feed_id FROM feed"
        );
        fill(&feed, likes).await?;
    }
    let picture = picture()?.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    // In parts: one transaction of two gigabytes would fill the undo log.
    let part = posts.div_ceil(20);
    for from in (0..posts).step_by(usize::try_from(part)?) {
        let images = format!(
            "INSERT INTO feed_image (image, feed_id) \
             SELECT CONCAT(x'{picture}', feed_id), feed_id FROM feed WHERE feed_id > {from} AND feed_id <= {}",
            from + part
        );
        fill(&feed, images).await?;
    }
    let (pictures, bytes): (i64, i64) =
        sqlx::query_as("SELECT COUNT(*), CAST(SUM(OCTET_LENGTH(image)) AS SIGNED) FROM feed_image")
            .fetch_one(&feed)
            .await?;
    println!("{pictures} pictures of {} bytes", bytes / pictures.max(1));
    auth.close().await;
    feed.close().await;
    Ok(())
}

/// Runs the import in a process of its own. Fails if not all posts have that outcome, or not all pictures are placed.
async fn import(fleet: &Path, target: &Bed, urls: &[String; 2], outcome: &str, posts: u32) -> anyhow::Result<Measured> {
    let auth = target
        .settings::<sosohappy_auth::Settings>("auth", sosohappy_auth::DEFAULTS, &[])
        .await;
    let feed = target
        .settings::<sosohappy_feed::Settings>("feed", sosohappy_feed::DEFAULTS, &[])
        .await;
    let (auth, feed) = (auth.get(), feed.get());
    let mut command = Command::new(fleet);
    command
        .args(["import", "spring", "--auth", &urls[0], "--feed", &urls[1], "--report"])
        .arg(target.folder().join("report.jsonl"))
        .arg("--data")
        .arg(target.folder().join("data"))
        .env("SOSOHAPPY_AUTH__DATABASE__URL", auth.database.url.expose())
        .env("SOSOHAPPY_AUTH__IMAGES__URL", auth.images.url.expose())
        .env("SOSOHAPPY_FEED__DATABASE__URL", feed.database.url.expose())
        .env("SOSOHAPPY_FEED__IMAGES__URL", feed.images.url.expose())
        .stdout(Stdio::piped());
    let began = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("{} does not start", fleet.display()))?;
    let status = format!("/proc/{}/status", child.id());
    let mut memory_kib = 0;
    while child.try_wait()?.is_none() {
        // The process may end between the two calls.
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        memory_kib = peak.unwrap_or(memory_kib);
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
    let time = began.elapsed();
    let output = child.wait_with_output()?;
    let summary = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the import failed: {summary}");
    for (table, outcome) in [("feed", outcome), ("feed_image", "placed")] {
        ensure!(
            has(&summary, table, outcome, posts),
            "{table}: {posts} {outcome} are not in {summary}"
        );
    }
    ensure!(memory_kib > 0, "the memory of the import was not measured");
    Ok(Measured {
        time,
        memory_mib: memory_kib / 1024,
    })
}

/// Returns whether so many rows of a table have an outcome by the summary of an import.
fn has(summary: &str, table: &str, outcome: &str, rows: u32) -> bool {
    let heading = format!("{table}: ");
    let wanted = format!("{rows}  {outcome}");
    let of_table = summary.lines().skip_while(|line| !line.starts_with(&heading)).skip(1);
    let mut counts = of_table.take_while(|line| line.starts_with(' ')).map(str::trim);
    counts.any(|count| count == wanted)
}

#[cfg(test)]
mod tests {
    use super::has;

    #[test]
    fn outcomes_are_those_of_one_table() {
        let summary = "feed: 20 rows\n          20  created\nfeed_image: 20 rows\n          19  placed\n           1  unplaced\n\
                       feed_like_nickname: 40 rows\n          40  placed\ncheck: 20 posts\n";
        assert!(has(summary, "feed", "created", 20));
        assert!(has(summary, "feed_image", "placed", 19));
        for (table, outcome, rows) in [
            ("feed", "created", 2),
            ("feed", "placed", 40),
            ("feed_image", "created", 20),
            ("feed_image", "placed", 20),
            ("user", "created", 20),
        ] {
            assert!(!has(summary, table, outcome, rows), "{rows} {outcome} in {table}");
        }
    }
}
