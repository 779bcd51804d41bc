//! Feed with very many posts: pages of `findOtherFeed` against the bare statement, `saveFeed` against a bare loop of inserts, and
//! `analysisHappiness` of a full month.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sosohappy_feed::{DEFAULTS, SERVICE};
use sosohappy_testkit::{Bed, EngineSet, Person, Running};
use sqlx::{MySqlPool, SqlitePool};

use crate::report::{Samples, millis, ratio, write_section};

/// Posts of one statement that fills the table.
const BATCH: u64 = 1000;
/// People who have written them.
const PEOPLE: u64 = 2000;
const REQUESTS: usize = 200;
/// The page that is called deep.
const DEEP: usize = 1000;

/// Measures with so many posts on every engine that is there, and writes the section.
pub async fn run(file: &Path, posts: u64) -> anyhow::Result<()> {
    let mut rows = measure(EngineSet::Embedded, posts).await?;
    if EngineSet::real_is_there() {
        rows.extend(measure(EngineSet::Real, posts).await?);
    }
    let body = format!(
        "Written by `bench feed --posts {posts}`: one client, one request after the other; the baselines run in the same process as the client, on \
         the same database.\n\n| what | engine | measured | baseline | target | |\n| --- | --- | --- | --- | --- | --- |\n{}",
        rows.concat()
    );
    write_section(file, "Feed with many posts", &body)
}

enum Database {
    Sqlite(SqlitePool),
    MySql(MySqlPool),
}

impl Database {
    async fn open(bed: &Bed) -> anyhow::Result<Self> {
        Ok(match bed.kafka() {
            None => Self::Sqlite(SqlitePool::connect(&format!("sqlite:{}/feed.db", bed.folder().display())).await?),
            Some(_) => Self::MySql(MySqlPool::connect(&bed.mysql_url("feed")).await?),
        })
    }

    async fn execute(&self, statement: String) -> anyhow::Result<()> {
        let statement = sqlx::AssertSqlSafe(statement);
        match self {
            Self::Sqlite(pool) => _ = sqlx::query(statement).execute(pool).await?,
            Self::MySql(pool) => _ = sqlx::query(statement).execute(pool).await?,
        }
        Ok(())
    }

    /// The statement without a service around it: the newest public posts before a date.
    async fn page(&self, before: i64) -> anyhow::Result<usize> {
        const PAGE: &str = "SELECT id, account, date, weather, happiness, text, categories, images FROM post \
                            WHERE public_date <= ? ORDER BY public_date DESC, id DESC LIMIT 8";
        Ok(match self {
            Self::Sqlite(pool) => sqlx::query(PAGE).bind(before).fetch_all(pool).await?.len(),
            Self::MySql(pool) => sqlx::query(PAGE).bind(before).fetch_all(pool).await?.len(),
        })
    }

    async fn insert(&self, number: i64) -> anyhow::Result<()> {
        const INSERT: &str = "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at) \
                              VALUES ('bare@example.com+kakao', ?, ?, 'sunny', 5, 'as long as most', 1, '[\"sea\"]', '[]', 0)";
        let (day, date) = (crate::noon_of(number) / 100_000_000, crate::noon_of(number));
        match self {
            Self::Sqlite(pool) => _ = sqlx::query(INSERT).bind(day).bind(date).execute(pool).await?,
            Self::MySql(pool) => _ = sqlx::query(INSERT).bind(day).bind(date).execute(pool).await?,
        }
        Ok(())
    }

    /// Posts of the years 2000 to 2024: each person has one a day at most.
    async fn fill(&self, posts: u64) -> anyhow::Result<()> {
        let mut begin = 0;
        while begin < posts {
            let end = posts.min(begin + BATCH);
            let rows: Vec<String> = (begin..end)
                .map(|number| {
                    let (person, day) = (number % PEOPLE, number / PEOPLE);
                    let (year, month, day) = (2000 + day / 336 % 25, day / 28 % 12 + 1, day % 28 + 1);
                    let day = year * 10_000 + month * 100 + day;
                    let public = u8::from(number % 10 > 0);
                    format!(
                        "('p{person}@example.com+kakao', {day}, {day}12000000, 'sunny', {}, 'as long as most', {public}, '[\"sea\",\"food\"]', '[]', 0)",
                        number % 5 + 1
                    )
                })
                .collect();
            let insert = "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at) VALUES ";
            self.execute(format!("{insert}{}", rows.join(", "))).await?;
            begin = end;
        }
        let analyze = match self {
            Self::Sqlite(_) => "ANALYZE",
            Self::MySql(_) => "ANALYZE TABLE post",
        };
        self.execute(analyze.to_owned()).await
    }
}

struct Feed {
    running: Running,
    client: reqwest::Client,
    viewer: Person,
}

impl Feed {
    async fn get(&self, call: &str, query: &[(&str, &str)]) -> anyhow::Result<String> {
        let url = self.running.at(&format!("/feed-service/{call}"));
        let response = self.viewer.sign(self.client.get(url).query(query)).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }

    async fn post(&self, call: &str, form: &[(&str, &str)]) -> anyhow::Result<String> {
        let url = self.running.at(&format!("/feed-service/{call}"));
        let response = self.viewer.sign(self.client.post(url).form(form)).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }

    async fn page(&self, cursor: &str) -> anyhow::Result<serde_json::Value> {
        let query = [("nickname", self.viewer.nickname.as_str()), ("cursor", cursor)];
        Ok(serde_json::from_str(&self.get("findOtherFeed", &query).await?)?)
    }

    async fn save(&self, number: i64) -> anyhow::Result<()> {
        let date = crate::noon_of(number).to_string();
        let form = [
            ("nickname", self.viewer.nickname.as_str()),
            ("date", &date),
            ("weather", "sunny"),
            ("happiness", "5"),
            ("categoryList", "sea,food"),
            ("text", "as long as most"),
            ("isPublic", "false"),
        ];
        self.post("saveFeed", &form).await?;
        Ok(())
    }
}

async fn timed<T>(mut once: impl AsyncFnMut(usize) -> anyhow::Result<T>) -> anyhow::Result<Duration> {
    let mut samples = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS {
        let began = Instant::now();
        once(number).await?;
        samples.push(began.elapsed());
    }
    Ok(Samples::new(samples).median())
}

async fn measure(set: EngineSet, posts: u64) -> anyhow::Result<Vec<String>> {
    let bed = Bed::new(set).await;
    let settings = bed.settings("feed", DEFAULTS, &[("log.level", "warn")]).await;
    let context = bed.context(SERVICE);
    context.settings.attach(&settings);
    let service = sosohappy_feed::build(settings, context, bed.bus.clone()).await;
    let feed = Feed {
        running: bed.start(service).await,
        client: sosohappy_common::tls::client(),
        viewer: bed.person("viewer@example.com+kakao", "viewer").await,
    };
    let database = Database::open(&bed).await?;
    database.fill(posts).await?;

    let first = feed.page("start").await?;
    ensure!(first["numberOfElements"] == 7, "a page has seven posts: {first}");
    let (mut cursor, mut deep) = ("start".to_owned(), first);
    for _ in 1..DEEP {
        let Some(next) = deep["nextCursor"].as_str() else {
            break;
        };
        next.clone_into(&mut cursor);
        deep = feed.page(&cursor).await?;
    }
    let before = deep["content"][0]["date"].as_i64().context("a deep page has posts")?;

    let page_0 = timed(async |_| feed.page("start").await).await?;
    let page_deep = timed(async |_| feed.page(&cursor).await).await?;
    let bare_0 = timed(async |_| database.page(i64::MAX).await).await?;
    let bare_deep = timed(async |_| database.page(before).await).await?;
    let save = timed(async |number| feed.save(i64::try_from(number)?).await).await?;
    let insert = timed(async |number| database.insert(i64::try_from(number)?).await).await?;
    let month = [("nickname", "viewer"), ("date", "2025010100000000")];
    let analysis = timed(async |_| feed.post("analysisHappiness", &month).await).await?;

    let engine = match set {
        EngineSet::Embedded => "SQLite",
        EngineSet::Real => "MariaDB",
    };
    let row = |what: &str, measured: Duration, baseline: Duration, target: &str, met: bool| {
        let (times, verdict) = (ratio(measured, baseline), if met { "met" } else { "**missed**" });
        format!(
            "| {what} | {engine} | {}, {times:.2} × | {} | {target} | {verdict} |\n",
            millis(measured),
            millis(baseline)
        )
    };
    let within = |one: Duration, other: Duration, most: f64| ratio(one, other) <= most;
    Ok(vec![
        row(
            "findOtherFeed, first page : bare SQL",
            page_0,
            bare_0,
            "≤ 1.43 ×",
            within(page_0, bare_0, 1.43),
        ),
        row(
            "findOtherFeed, page 1,000 : bare SQL",
            page_deep,
            bare_deep,
            "≤ 1.43 ×",
            within(page_deep, bare_deep, 1.43),
        ),
        row(
            "findOtherFeed, page 1,000 : first page",
            page_deep,
            page_0,
            "≤ 1.2 ×",
            within(page_deep, page_0, 1.2),
        ),
        row(
            "saveFeed : bare insert",
            save,
            insert,
            "≤ 1.67 ×",
            within(save, insert, 1.67),
        ),
        row(
            "analysisHappiness of a full month : first page",
            analysis,
            page_0,
            "",
            true,
        ),
    ])
}
