//! Feed with very many posts: pages of `findOtherFeed` beside its statement alone, `saveFeed` beside a loop of inserts, and
//! `analysisHappiness` of a heavy month.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use sosohappy_common::Account;
use sosohappy_feed::{DEFAULTS, SERVICE};
use sosohappy_testkit::{Bed, EngineSet, Person, Running};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, MySqlPool, SqlitePool};

use crate::report::{Samples, millis, verdict};
use crate::rounds::median;
use crate::route::{CONNECTIONS, ROUND, rate, rate_of};
use crate::run::Run;

/// People who have written the posts.
const PEOPLE: u64 = 500;
/// Posts of one statement that fills the table.
const BATCH: u64 = 50_000;
/// Memory of the connection that fills a file, in KiB: the ends of all indexes.
const FILL_CACHE: &str = "-262144";
/// The page that is called deep.
const DEEP: usize = 1000;
/// Rounds that count, after one that warms up.
const ROUNDS: usize = 3;
/// Days on which one account can write: 28 of each month of 25 years.
const DAYS: i64 = 25 * 336;
/// Pairs of categories known beside those of the posts.
const PAIRS: u64 = 24_000;
const SETTLES_WITHIN: Duration = Duration::from_mins(5);
/// Calls of `analysisHappiness` that make the day's recommendations.
const FIRST_CALLS: usize = 50;

/// The statement of the first page of `findOtherFeed` and of a page behind a cursor.
const PAGE: &str = "SELECT p.id, p.account, p.date, p.weather, p.happiness, p.text, p.categories, p.images, p.likes, p.comments, \
    EXISTS (SELECT 1 FROM post_like l WHERE l.post_id = p.id AND l.account = ?) AS is_liked FROM post p \
    WHERE p.public_date <= ? AND (p.public_date < ? OR p.id < ?) AND p.account <> ? \
    AND NOT EXISTS (SELECT 1 FROM post_moderation h WHERE h.hidden = 1 AND h.post_id = p.id) \
    AND NOT EXISTS (SELECT 1 FROM post_review r WHERE r.held = 1 AND r.post_id = p.id) \
    AND NOT EXISTS (SELECT 1 FROM directory_relation b WHERE b.kind = 'block' AND b.active = 1 AND b.account = ? AND b.other = p.account) \
    AND NOT EXISTS (SELECT 1 FROM directory_relation b WHERE b.kind = 'block' AND b.active = 1 AND b.account = p.account AND b.other = ?) \
    ORDER BY p.public_date DESC, p.id DESC LIMIT 8";
const INSERT: &str = "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at) \
    VALUES (?, ?, ?, 'sunny', 5, 'as long as most', 0, '[\"sea\",\"food\"]', '[]', 0)";
const MONTH: &str = "SELECT categories, happiness FROM post WHERE account = ? AND day BETWEEN 20250101 AND 20250131";

/// Measures with so many posts on every engine that is there, and writes the section.
pub async fn run(run: &mut Run, posts: u64) -> anyhow::Result<()> {
    let mut rows = measure(run, EngineSet::Embedded, posts).await?;
    if EngineSet::real_is_there() {
        rows.extend(measure(run, EngineSet::Real, posts).await?);
    }
    let build = if cfg!(debug_assertions) { "debug" } else { "optimized" };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    let body = format!(
        "Written by `bench feed --posts {posts}` ({build} build, load average {load} at its end): {PEOPLE} people have written the posts. Requests \
         come over {CONNECTIONS} connections, and so many tasks run the statement alone, through the driver, on the same database. Service, client \
         and database share two cores; rounds of {} s, interleaved, medians of {ROUNDS}. Besides its statement, a request has HTTP, the check \
         of its token, nicknames in place of accounts, and JSON.\n\n\
         | what | engine | measured | baseline in the same run | target | |\n| --- | --- | --- | --- | --- | --- |\n{}",
        ROUND.as_secs(),
        rows.concat()
    );
    run.write_section("Feed with many posts", &body)
}

/// Returns a day without a post, as `yyyyMMdd`, by its number from 0.
fn day_of(number: i64) -> i64 {
    let number = number % DAYS;
    (2000 + number / 336) * 10_000 + (number / 28 % 12 + 1) * 100 + number % 28 + 1
}

/// A statement without a service around it.
#[derive(Debug, Clone, Copy)]
enum Bare {
    /// The newest public posts up to a date.
    Page {
        date: i64,
    },
    Insert,
    Month,
}

#[derive(Debug)]
enum Pools {
    /// As the service has them: one connection writes.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
    MySql(MySqlPool),
}

#[derive(Debug)]
struct Database {
    pools: Pools,
    viewer: String,
    inserted: AtomicI64,
}

impl Database {
    async fn open(bed: &Bed, viewer: &Person) -> anyhow::Result<Self> {
        let connections = u32::try_from(CONNECTIONS)?;
        let pools = if bed.kafka().is_some() {
            let pool = MySqlPoolOptions::new().max_connections(connections);
            Pools::MySql(pool.connect(&bed.mysql_url("feed")).await?)
        } else {
            let pool = |connections: u32| SqlitePoolOptions::new().max_connections(connections);
            Pools::Sqlite {
                readers: pool(connections).connect_with(sqlite(bed)).await?,
                writer: pool(1).connect_with(sqlite(bed)).await?,
            }
        };
        Ok(Self {
            pools,
            viewer: viewer.account.as_str().to_owned(),
            inserted: AtomicI64::new(0),
        })
    }

    async fn run(&self, bare: Bare) -> anyhow::Result<()> {
        match bare {
            Bare::Page { date } => self.page(date).await,
            Bare::Insert => self.insert().await,
            Bare::Month => self.month().await,
        }
    }

    async fn page(&self, date: i64) -> anyhow::Result<()> {
        let viewer = &self.viewer;
        let rows = match &self.pools {
            Pools::Sqlite { readers, .. } => {
                let page = sqlx::query(PAGE).bind(viewer).bind(date).bind(date).bind(i64::MAX);
                page.bind(viewer)
                    .bind(viewer)
                    .bind(viewer)
                    .fetch_all(readers)
                    .await?
                    .len()
            }
            Pools::MySql(pool) => {
                let page = sqlx::query(PAGE).bind(viewer).bind(date).bind(date).bind(i64::MAX);
                page.bind(viewer).bind(viewer).bind(viewer).fetch_all(pool).await?.len()
            }
        };
        ensure!(rows == 8, "a page and one more row are expected, not {rows}");
        Ok(())
    }

    async fn insert(&self) -> anyhow::Result<()> {
        let number = self.inserted.fetch_add(1, Ordering::Relaxed);
        let (account, day) = (format!("bare{}@example.com+kakao", number / DAYS), day_of(number));
        let date = day * 100_000_000 + 12_000_000;
        match &self.pools {
            Pools::Sqlite { writer, .. } => {
                let insert = sqlx::query(INSERT).bind(account).bind(day).bind(date);
                insert.execute(writer).await?;
            }
            Pools::MySql(pool) => {
                let insert = sqlx::query(INSERT).bind(account).bind(day).bind(date);
                insert.execute(pool).await?;
            }
        }
        Ok(())
    }

    async fn month(&self) -> anyhow::Result<()> {
        let rows = match &self.pools {
            Pools::Sqlite { readers, .. } => sqlx::query(MONTH).bind(&self.viewer).fetch_all(readers).await?.len(),
            Pools::MySql(pool) => sqlx::query(MONTH).bind(&self.viewer).fetch_all(pool).await?.len(),
        };
        ensure!(rows == 31, "a full month is expected, not {rows} days");
        Ok(())
    }

    async fn execute(&self, statement: &'static str) -> anyhow::Result<()> {
        match &self.pools {
            Pools::Sqlite { writer, .. } => _ = sqlx::query(statement).execute(writer).await?,
            Pools::MySql(pool) => _ = sqlx::query(statement).execute(pool).await?,
        }
        Ok(())
    }

    /// Returns how many events of saves are not published.
    async fn unpublished(&self) -> anyhow::Result<i64> {
        const COUNT: &str = "SELECT COUNT(*) FROM event_outbox";
        Ok(match &self.pools {
            Pools::Sqlite { readers, .. } => sqlx::query_scalar(COUNT).fetch_one(readers).await?,
            Pools::MySql(pool) => sqlx::query_scalar(COUNT).fetch_one(pool).await?,
        })
    }
}

/// Commits are on disk before they are acknowledged, as the service's are.
fn sqlite(bed: &Bed) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(bed.folder().join("feed.db"))
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(30))
}

/// A table of numbers from `begin`, as many as a batch has.
fn numbers(begin: u64) -> String {
    const DIGITS: &str = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 \
        UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    format!(
        "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + {begin} AS n \
         FROM {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} e, {DIGITS} f \
         WHERE 10000 * f.d + 1000 * e.d + 100 * c.d + 10 * b.d + a.d < {BATCH}) numbers"
    )
}

/// Fills the table by statements that make the rows where they are: one post a person a day from the year 2000 on, at another minute for each
/// person, nine of ten public.
async fn fill(bed: &Bed, posts: u64) -> anyhow::Result<()> {
    let person = format!("(n % {PEOPLE})");
    let turn = format!("((n - n % {PEOPLE}) / {PEOPLE})");
    let day = format!(
        "(20000101 + {turn} % 28 + 100 * (({turn} - {turn} % 28) / 28 % 12) + 10000 * (({turn} - {turn} % 336) / 336 % 25))"
    );
    let minute = format!("((8 + ({person} - {person} % 60) / 60) * 1000000 + {person} % 60 * 10000)");
    let mut statements: Vec<String> = (0..posts)
        .step_by(usize::try_from(BATCH)?)
        .map(|begin| {
            let numbers = numbers(begin);
            format!(
                "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at) \
                 SELECT CONCAT('p', {person}, '@example.com+kakao'), {day}, {day} * 100000000 + {minute}, 'sunny', n % 5 + 1, \
                 'as long as most', CASE WHEN n % 10 > 0 THEN 1 ELSE 0 END, '[\"sea\",\"food\"]', '[]', 0 \
                 FROM {numbers} WHERE n < {posts} ORDER BY n"
            )
        })
        .collect();
    statements.push(format!(
        "INSERT INTO category_pair (one, other, happiness, posts) SELECT CONCAT('c', n % 24), CONCAT('o', n), n % 1000 + 1, 1 \
         FROM {} WHERE n < {PAIRS}",
        numbers(0)
    ));
    if bed.kafka().is_some() {
        let pool = MySqlPool::connect(&bed.mysql_url("feed")).await?;
        for statement in statements {
            sqlx::query(AssertSqlSafe(statement)).execute(&pool).await?;
        }
        sqlx::query("ANALYZE TABLE post, category_pair")
            .fetch_all(&pool)
            .await?;
        pool.close().await;
    } else {
        let options = sqlite(bed).pragma("cache_size", FILL_CACHE);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await?;
        for statement in statements {
            sqlx::query(AssertSqlSafe(statement)).execute(&pool).await?;
        }
        sqlx::query("ANALYZE").execute(&pool).await?;
        pool.close().await;
    }
    Ok(())
}

/// Measures how often a second a statement runs alone.
async fn bare_rate(database: &Arc<Database>, bare: Bare) -> anyhow::Result<f64> {
    let began = Instant::now();
    let tasks = (0..CONNECTIONS).map(|_| {
        let database = database.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while began.elapsed() < ROUND {
                database.run(bare).await?;
                done += 1;
            }
            anyhow::Ok(done)
        })
    });
    let done: u32 = try_join_all(tasks).await?.into_iter().sum::<anyhow::Result<u32>>()?;
    Ok(f64::from(done) / began.elapsed().as_secs_f64())
}

fn headers(person: &Person) -> String {
    format!(
        "authorization: Bearer {}\r\nemail: {}\r\n",
        person.token,
        person.account.as_str()
    )
}

fn post_form(call: &str, headers: &str, form: &str) -> String {
    format!(
        "POST /feed-service/{call} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    )
}

struct Feed {
    running: Running,
    client: reqwest::Client,
    viewer: Person,
    /// The header lines of the accounts that save.
    writers: Arc<Vec<String>>,
    saved: Arc<AtomicI64>,
}

impl Feed {
    async fn start(bed: &Bed) -> anyhow::Result<Self> {
        let settings = bed.settings("feed", DEFAULTS, &[("log.level", "warn")]).await;
        let context = bed.context(SERVICE);
        context.settings.attach(&settings);
        let service = sosohappy_feed::build(settings, context, bed.bus.clone()).await;
        let running = bed.start(service).await;
        for number in 0..PEOPLE {
            let account: Account = format!("p{number}@example.com+kakao").parse().expect("a valid account");
            bed.rename(&account, &format!("p{number}")).await;
        }
        let mut writers = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let name = format!("w{number}");
            let person = bed.person(&format!("{name}@example.com+kakao"), &name).await;
            writers.push(headers(&person));
        }
        Ok(Self {
            running,
            client: sosohappy_common::tls::client(),
            viewer: bed.person("viewer@example.com+kakao", "viewer").await,
            writers: Arc::new(writers),
            saved: Arc::new(AtomicI64::new(0)),
        })
    }

    fn port(&self) -> anyhow::Result<u16> {
        let port = self.running.url.rsplit(':').next().unwrap_or_default();
        port.parse().context("the URL of the service ends with a port")
    }

    async fn page(&self, cursor: &str) -> anyhow::Result<serde_json::Value> {
        let query = [("nickname", self.viewer.nickname.as_str()), ("cursor", cursor)];
        let url = self.running.at("/feed-service/findOtherFeed");
        let response = self.viewer.sign(self.client.get(url).query(&query)).send().await?;
        Ok(response.error_for_status()?.json().await?)
    }

    async fn post(&self, call: &str, form: &[(&str, &str)]) -> anyhow::Result<String> {
        let url = self.running.at(&format!("/feed-service/{call}"));
        let response = self.viewer.sign(self.client.post(url).form(form)).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }

    /// Saves the viewer's January of 2025: a post a day, each with as many categories as it can have.
    async fn save_month(&self) -> anyhow::Result<()> {
        let categories: Vec<String> = (0..24).map(|number| format!("c{number}")).collect();
        let categories = categories.join(",");
        for day in 1..=31 {
            let date = format!("202501{day:02}12000000");
            let form = [
                ("nickname", self.viewer.nickname.as_str()),
                ("date", &date),
                ("weather", "sunny"),
                ("happiness", "5"),
                ("categoryList", &categories),
                ("text", "as long as most"),
                ("isPublic", "false"),
            ];
            self.post("saveFeed", &form).await?;
        }
        Ok(())
    }

    async fn pages_a_second(&self, cursor: &str) -> anyhow::Result<f64> {
        let path = format!(
            "/feed-service/findOtherFeed?nickname={}&cursor={cursor}",
            self.viewer.nickname
        );
        rate(self.port()?, &path, &headers(&self.viewer)).await
    }

    /// Each save is of another day, and the writers take turns.
    async fn saves_a_second(&self) -> anyhow::Result<f64> {
        let (writers, saved) = (self.writers.clone(), self.saved.clone());
        let request = move || {
            let number = saved.fetch_add(1, Ordering::Relaxed);
            let writer = usize::try_from(number).unwrap_or_default() % writers.len();
            let day = day_of(number / i64::try_from(writers.len()).unwrap_or(1));
            let form = format!(
                "nickname=w{writer}&date={day}12000000&weather=sunny&happiness=5&categoryList=sea,food&text=as+long+as+most&isPublic=false"
            );
            post_form("saveFeed", &writers[writer], &form)
        };
        rate_of(self.port()?, request).await
    }

    /// Waits until the events of the saves are published and applied, so that they do not slow what is measured next.
    async fn settle(&self, database: &Database) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let lag = self.running.metric("events_consumer_lag_records", &["topic=\"post\""]);
            if lag < 1.0 && database.unpublished().await? == 0 {
                return Ok(());
            }
            ensure!(
                began.elapsed() < SETTLES_WITHIN,
                "events of saves are not applied: {lag} of them"
            );
        }
    }

    async fn analyses_a_second(&self) -> anyhow::Result<f64> {
        let form = format!("nickname={}&date=2025010100000000", self.viewer.nickname);
        let request = post_form("analysisHappiness", &headers(&self.viewer), &form);
        rate_of(self.port()?, move || request.clone()).await
    }

    /// The time of a call that makes the recommendations of the day.
    async fn first_analysis(&self, database: &Database) -> anyhow::Result<Duration> {
        let month = [
            ("nickname", self.viewer.nickname.as_str()),
            ("date", "2025010100000000"),
        ];
        let mut samples = Vec::with_capacity(FIRST_CALLS);
        for _ in 0..FIRST_CALLS {
            database.execute("DELETE FROM recommendation").await?;
            let began = Instant::now();
            self.post("analysisHappiness", &month).await?;
            samples.push(began.elapsed());
        }
        Ok(Samples::new(samples).median())
    }
}

/// Rates of the rounds, each as it was measured.
#[derive(Debug, Default)]
struct Rates([Vec<f64>; 8]);

impl Rates {
    fn add(&mut self, round: impl Iterator<Item = f64>) {
        for (rates, rate) in self.0.iter_mut().zip(round) {
            rates.push(rate);
        }
    }

    fn medians(self) -> [f64; 8] {
        self.0.map(median)
    }
}

async fn measure(run: &mut Run, set: EngineSet, posts: u64) -> anyhow::Result<Vec<String>> {
    let engine = match set {
        EngineSet::Embedded => "SQLite",
        EngineSet::Real => "MariaDB",
    };
    let bed = Bed::with_declared_topics(set).await;
    let feed = Feed::start(&bed).await?;
    let began = Instant::now();
    fill(&bed, posts).await?;
    println!("{engine}: {posts} posts in {:.0} s", began.elapsed().as_secs_f64());
    feed.save_month().await?;
    let database = Arc::new(Database::open(&bed, &feed.viewer).await?);

    let mut page = feed.page("start").await?;
    ensure!(page["numberOfElements"] == 7, "a page has seven posts: {page}");
    let mut cursor = "start".to_owned();
    for number in 1..DEEP {
        let next = page["nextCursor"].as_str();
        next.with_context(|| format!("page {number} is the last one; more posts are needed"))?
            .clone_into(&mut cursor);
        page = feed.page(&cursor).await?;
    }
    let date = page["content"][0]["date"].as_i64().context("a deep page has posts")?;
    let first_analysis = feed.first_analysis(&database).await?;

    let mut rates = Rates::default();
    for round in 0..=ROUNDS {
        let pages = [
            feed.pages_a_second("start").await?,
            bare_rate(&database, Bare::Page { date: i64::MAX }).await?,
            feed.pages_a_second(&cursor).await?,
            bare_rate(&database, Bare::Page { date }).await?,
        ];
        let save = feed.saves_a_second().await?;
        feed.settle(&database).await?;
        let rest = [
            bare_rate(&database, Bare::Insert).await?,
            feed.analyses_a_second().await?,
            bare_rate(&database, Bare::Month).await?,
        ];
        if round > 0 {
            rates.add(pages.into_iter().chain([save]).chain(rest));
        }
    }
    run.keep(engine, serde_json::json!({"aSecond": rates.0, "posts": posts}));
    Ok(rows(engine, rates, first_analysis))
}

fn rows(engine: &str, rates: Rates, first_analysis: Duration) -> Vec<String> {
    let [page_0, bare_0, deep, bare_deep, save, insert, analysis, month] = rates.medians();
    let row = |what: &str, [measured, baseline]: [f64; 2], least: f64| {
        let share = measured / baseline;
        let verdict = verdict(share >= least);
        let row = format!("{what} | {engine} | {measured:.0}/s, {share:.2} of the baseline | {baseline:.0}/s");
        println!("{row}, at least {least}: {verdict}");
        format!("| {row} | ≥ {least} | {verdict} |\n")
    };
    let deep_cost = page_0 / deep;
    let deep_verdict = verdict(deep_cost <= 1.2);
    vec![
        row("findOtherFeed, first page : its statement", [page_0, bare_0], 0.7),
        row("findOtherFeed, page 1,000 : its statement", [deep, bare_deep], 0.7),
        format!(
            "| findOtherFeed, page 1,000 : first page | {engine} | {deep:.0}/s, {deep_cost:.2} × its cost | {page_0:.0}/s | ≤ 1.2 × | {deep_verdict} |\n"
        ),
        row("saveFeed : an insert", [save, insert], 0.6),
        format!(
            "| analysisHappiness of 31 posts with 24 categories each : the statement of the month | {engine} | {analysis:.0}/s, {:.2} of the \
             baseline | {month:.0}/s | — | |\n",
            analysis / month
        ),
        format!(
            "| the first such call of a day, with {PAIRS} pairs of categories | {engine} | {}, one after the other | — | — | |\n",
            millis(first_analysis)
        ),
    ]
}
