//! The legacy databases as its services make them, and the command that reads them.

use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::Duration;

use serde_json::Value;
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_testkit::spring::tables;
use sosohappy_testkit::{Bed, eventually};
use sqlx::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};

/// The HS512 secret of the legacy auth.
pub const SECRET: &str = "spring-secret";

/// A picture of one pixel.
pub const PNG: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\xdac\xfc\xcf\xc0\
P\x0f\0\x04\x85\x01\x80\x84\xa9\x8c!\0\0\0\0IEND\xaeB`\x82";

/// A picture of that shade with data behind its end, so many bytes in all.
pub fn picture(shade: u8, bytes: usize) -> Vec<u8> {
    let mut picture = sosohappy_fleet::demo::picture(shade);
    picture.resize(bytes.max(picture.len()), b'.');
    picture
}

/// What [`photo`] says in its metadata, and behind its end.
const PLACE: &[u8] = b"37.5N 127.0E";

/// A JPEG with a place in its EXIF data.
pub fn photo() -> Vec<u8> {
    let mut jpeg = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(8, 8, image::Rgb([10, 120, 200]))
        .write_to(&mut jpeg, image::ImageFormat::Jpeg)
        .expect("it can be encoded");
    let mut jpeg = jpeg.into_inner();
    let exif = [b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0", PLACE].concat();
    let length = u16::try_from(exif.len() + 2).expect("short").to_be_bytes();
    // Behind the marker of the beginning.
    jpeg.splice(2..2, [&[0xff, 0xe1], &length[..], &exif].concat());
    jpeg.extend_from_slice(PLACE);
    jpeg
}

/// Whether the place of [`photo`] is in the bytes.
pub fn has_place(bytes: &[u8]) -> bool {
    bytes.windows(PLACE.len()).any(|part| part == PLACE)
}

/// A token as the legacy auth signs it.
pub fn token(subject: &str, email: &str, exp: i64) -> String {
    let claims = serde_json::json!({ "sub": subject, "email": email, "exp": exp });
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512);
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&header, &claims, &key).expect("plain claims")
}

/// The legacy databases of one test. They go with it.
pub struct Legacy {
    server: String,
    prefix: String,
    pub auth: MySqlPool,
    pub feed: MySqlPool,
}

fn server() -> String {
    std::env::var("SOSOHAPPY_TEST_MYSQL").expect("the engines are there")
}

impl Legacy {
    pub async fn new() -> Self {
        let entropy: &dyn Entropy = &SystemEntropy;
        let prefix = format!("test_{}_spring_", entropy.hex(6));
        let server = server();
        let mut connection = MySqlConnection::connect(&server).await.expect("MariaDB answers");
        for service in ["auth", "feed"] {
            let create =
                format!("CREATE DATABASE `{prefix}{service}` CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
            run(&mut connection, &create).await;
        }
        let open = async |service, made| {
            let url = database(&server, &prefix, service);
            tables::open(&url, made).await.expect("it opens")
        };
        let (auth, feed) = (open("auth", tables::AUTH).await, open("feed", tables::FEED).await);
        Self {
            server,
            prefix,
            auth,
            feed,
        }
    }

    pub fn url(&self, service: &str) -> String {
        database(&self.server, &self.prefix, service)
    }

    /// Makes a row of `user`; further columns are set by [`Legacy::set`].
    pub async fn user(&self, email: &str, nickname: &str) -> i64 {
        let provider = email.rsplit_once('+').map(|(_, provider)| provider);
        let insert = sqlx::query(
            "INSERT INTO `user` (apple_refresh_token, email, nickname, provider, provider_id) VALUES ('-', ?, ?, ?, ?)",
        )
        .bind(email)
        .bind(nickname)
        .bind(provider)
        .bind(format!("subject of {email}"));
        let inserted = insert.execute(&self.auth).await.expect("inserted");
        i64::try_from(inserted.last_insert_id()).expect("small")
    }

    /// Runs a statement on the database of feed, and returns the id of the row it inserted.
    pub async fn run(&self, statement: impl Into<String>) -> i64 {
        let statement = sqlx::query(AssertSqlSafe(statement.into()));
        let done = statement.execute(&self.feed).await.expect("the statement is right");
        i64::try_from(done.last_insert_id()).expect("small")
    }

    /// Runs a statement on the database of auth.
    pub async fn run_at_auth(&self, statement: &str) {
        let statement = sqlx::query(AssertSqlSafe(statement.to_owned()));
        statement.execute(&self.auth).await.expect("the statement is right");
    }

    /// A text that a query on the database of feed, or of auth, gives.
    pub async fn text(&self, query: &str, of_auth: bool) -> String {
        let pool = if of_auth { &self.auth } else { &self.feed };
        let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
        query.fetch_one(pool).await.expect("the query is right")
    }

    /// Makes a public post with nothing else.
    pub async fn post(&self, nickname: &str, date: i64, happiness: i32) -> i64 {
        self.run(format!(
            "INSERT INTO feed (date, happiness, is_public, nickname, weather, text) \
             VALUES ({date}, {happiness}, b'1', '{nickname}', 'sunny', 'a day')"
        ))
        .await
    }

    pub async fn image(&self, post: i64, bytes: &[u8]) -> i64 {
        let image = hex::encode(bytes);
        self.run(format!(
            "INSERT INTO feed_image (image, feed_id) VALUES (x'{image}', {post})"
        ))
        .await
    }

    pub async fn like(&self, post: i64, nickname: &str) -> i64 {
        self.run(format!(
            "INSERT INTO feed_like_nickname (nickname, feed_id) VALUES ('{nickname}', {post})"
        ))
        .await
    }

    pub async fn set(&self, user: i64, column: &str, value: impl Into<Vec<u8>>) {
        let update = format!("UPDATE `user` SET {column} = ? WHERE user_id = ?");
        let update = sqlx::query(AssertSqlSafe(update)).bind(value.into()).bind(user);
        update.execute(&self.auth).await.expect("updated");
    }

    pub async fn clear(&self, user: i64, column: &str) {
        let update = format!("UPDATE `user` SET {column} = NULL WHERE user_id = ?");
        let update = sqlx::query(AssertSqlSafe(update)).bind(user);
        update.execute(&self.auth).await.expect("updated");
    }
}

async fn run(connection: &mut MySqlConnection, statement: &str) {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    statement.execute(connection).await.expect("the statement is right");
}

fn database(server: &str, prefix: &str, service: &str) -> String {
    let (base, _) = server.rsplit_once('/').expect("a URL with a path");
    format!("{base}/{prefix}{service}")
}

impl Drop for Legacy {
    fn drop(&mut self) {
        let (server, prefix) = (self.server.clone(), self.prefix.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let mut connection = MySqlConnection::connect(&server).await.expect("MariaDB answers");
                for service in ["auth", "feed"] {
                    run(&mut connection, &format!("DROP DATABASE IF EXISTS `{prefix}{service}`")).await;
                }
            });
        });
        if dropped.join().is_err() {
            eprintln!("a test's legacy databases stay behind");
        }
    }
}

/// Where an import writes: the databases of a bed.
pub struct Target {
    auth: String,
    feed: String,
    dm: String,
    environment: Vec<(&'static str, String)>,
    report: PathBuf,
    data: PathBuf,
}

impl Target {
    pub async fn of(bed: &Bed) -> Self {
        let auth = bed
            .settings::<sosohappy_auth::Settings>("auth", sosohappy_auth::DEFAULTS, &[])
            .await;
        let auth = auth.get();
        let feed = bed
            .settings::<sosohappy_feed::Settings>("feed", sosohappy_feed::DEFAULTS, &[])
            .await;
        let feed = feed.get();
        let dm = bed
            .settings::<sosohappy_dm::Settings>("dm", sosohappy_dm::DEFAULTS, &[])
            .await;
        Self {
            auth: auth.database.url.expose().to_owned(),
            feed: feed.database.url.expose().to_owned(),
            dm: dm.get().messages.url.expose().to_owned(),
            environment: vec![
                ("SOSOHAPPY_AUTH__DATABASE__URL", auth.database.url.expose().to_owned()),
                ("SOSOHAPPY_AUTH__IMAGES__URL", auth.images.url.expose().to_owned()),
                ("SOSOHAPPY_AUTH__TOKENS__LEGACY_KEY", SECRET.to_owned()),
                ("SOSOHAPPY_FEED__DATABASE__URL", feed.database.url.expose().to_owned()),
                ("SOSOHAPPY_FEED__IMAGES__URL", feed.images.url.expose().to_owned()),
                ("SOSOHAPPY_DM__MESSAGES__URL", dm.get().messages.url.expose().to_owned()),
            ],
            report: bed.folder().join("report.jsonl"),
            data: bed.folder().join("data"),
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
        command.args(["import", "spring", "--report"]).arg(&self.report);
        command.arg("--data").arg(&self.data).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn export_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
        command.args(["export", "spring", "--report"]).arg(&self.report);
        command.arg("--data").arg(&self.data).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the export, and returns what it printed.
    pub fn export(&self, arguments: &[&str]) -> String {
        let output = self.export_command(arguments).output().expect("the binary runs");
        printed(&output)
    }

    /// Runs the import, and returns what it printed.
    pub fn import(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the binary runs");
        printed(&output)
    }

    /// Runs the import, which has to fail, and returns its errors.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the binary runs");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Builds feed's post view anew, and returns what was printed.
    pub fn rebuild_views(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
        command.arg("rebuild-views").arg("--data").arg(&self.data);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        printed(&command.output().expect("the binary runs"))
    }

    /// A number that a query on feed's database gives; none while there is no such table.
    pub async fn number(&self, query: &'static str) -> Option<i64> {
        number(&self.feed, query).await
    }

    /// As [`Target::number`], on auth's database.
    pub async fn number_at_auth(&self, query: &'static str) -> Option<i64> {
        number(&self.auth, query).await
    }

    /// The number of dm's messages on the embedded engines; none while there is no such table.
    pub async fn messages(&self) -> Option<i64> {
        let pool = sqlx::SqlitePool::connect(&self.dm).await.ok()?;
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM message");
        count.fetch_one(&pool).await.ok()
    }

    /// Numbers that a query on feed's database gives.
    pub async fn numbers(&self, query: &'static str) -> Vec<i64> {
        let numbers = if self.feed.starts_with("sqlite:") {
            let pool = sqlx::SqlitePool::connect(&self.feed).await.expect("it opens");
            sqlx::query_scalar(query).fetch_all(&pool).await
        } else {
            let pool = MySqlPool::connect(&self.feed).await.expect("it opens");
            sqlx::query_scalar(query).fetch_all(&pool).await
        };
        numbers.expect("the query is right")
    }

    /// The lines of the last report: the row, the column, the outcome with its reason.
    pub fn report(&self) -> Vec<(String, String, String)> {
        let report = std::fs::read_to_string(&self.report).expect("a report");
        let lines = report.lines().map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (
                format!("{} {}", text("table"), text("id")),
                text("column"),
                format!("{}: {}", text("outcome"), text("reason")),
            )
        });
        lines.collect()
    }
}

async fn number(database: &str, query: &'static str) -> Option<i64> {
    if database.starts_with("sqlite:") {
        let pool = sqlx::SqlitePool::connect(database).await.ok()?;
        sqlx::query_scalar(query).fetch_one(&pool).await.ok()
    } else {
        let pool = MySqlPool::connect(database).await.ok()?;
        sqlx::query_scalar(query).fetch_one(&pool).await.ok()
    }
}

/// Waits until a command has written something.
async fn begun(child: &mut Child, written: impl AsyncFn() -> Option<i64>) {
    while written().await.unwrap_or(0) == 0 {
        let ended = child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "ended before it has written anything: {ended:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Kills a command when it has written some rows and not all. Returns their number.
pub async fn killed(mut child: Child, written: impl AsyncFn() -> Option<i64>, all: i64) -> i64 {
    begun(&mut child, &written).await;
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
    // Statements that were sent before the kill may still be committed.
    let there = eventually("nothing is committed any more", async || {
        let before = written().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        (written().await? == before).then_some(before)
    })
    .await;
    assert!((1..all).contains(&there), "killed in the middle: {there} of {all}");
    there
}

/// Waits until a command has written something, and stops it there while `work` runs. It must not have written all of it.
pub async fn paused(
    child: &mut Child,
    written: impl AsyncFn() -> Option<i64>,
    all: i64,
    work: impl Future<Output = ()>,
) {
    begun(child, &written).await;
    signal(child, "-STOP");
    let there = written().await;
    assert!(
        there.is_some_and(|there| (1..all).contains(&there)),
        "stopped in the middle: {there:?} of {all}"
    );
    work.await;
    signal(child, "-CONT");
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
    assert!(sent.expect("kill runs").success(), "kill {signal}");
}

pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The number in front of a word in the summary; 0 when it is not there.
pub fn count(summary: &str, table: &str, outcome: &str) -> u64 {
    let section = summary
        .lines()
        .skip_while(|line| !line.starts_with(&format!("{table}: ")))
        .skip(1);
    let mut lines = section.take_while(|line| line.starts_with(' ')).map(str::trim);
    let found = lines.find_map(|line| line.strip_suffix(outcome)?.trim().parse().ok());
    found.unwrap_or(0)
}
