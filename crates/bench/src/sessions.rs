//! Rates of sign-in, password log-in and re-issue, compared with a bare transaction of the same number of statements.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use sosohappy_common::settings::Live;
use sosohappy_fleet::app::Phone;
use sosohappy_testkit::{Bed, Cluster, EngineSet, FakeSmtp};
use sqlx::migrate::MigrateDatabase as _;
use sqlx::{MySqlPool, SqlitePool};

use crate::addresses;
use crate::report::{Samples, millis};
use crate::run::Run;

/// Clients at one time.
const CLIENTS: usize = 8;

const PASSWORD: &str = "plain battery horse moon";

/// Statements of a request; `statements_of_a_sign_in_and_a_reissue_are_counted` and `statements_of_a_password_log_in_are_counted` assert them.
struct Statements {
    reads: usize,
    writes: usize,
}

const SIGN_IN: Statements = Statements { reads: 6, writes: 10 };
const LOG_IN: Statements = Statements { reads: 7, writes: 9 };
const REISSUE: Statements = Statements { reads: 4, writes: 3 };
/// What a re-issue would cost if one of its rows were not written: measured bare.
const REISSUE_OF_TWO_WRITES: Statements = Statements { reads: 4, writes: 2 };

/// Measures and writes the section.
pub async fn run(run: &mut Run, calls: u32) -> anyhow::Result<()> {
    let binaries = run.binaries();
    let mut body = format!(
        "Written by `make bench`, alone by `make bench ARGS=sessions`: {CLIENTS} clients, {calls} calls of each. The baseline is a bare transaction of the same number of reads and \
         writes by key on the same engine, in one process, without the requests.\n\n\
         | engines | call | a second | p50, p99 | bare transactions a second | statements (reads, writes) |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    let mut sets = vec![EngineSet::Embedded];
    if EngineSet::real_is_there() {
        sets.push(EngineSet::Real);
    }
    for set in sets {
        body += &measure(&binaries, set, calls).await?;
    }
    body += "\nThe bare transactions are made by as many clients at one time. A sign-in is two requests, of which the first one reads and writes nothing. A password log-in is bound by argon2id (`passwords.cost`), of \
             which `passwords.at-once` run at one time.\n";
    run.write_section("Sign-in rates", &body)
}

async fn measure(binaries: &Path, set: EngineSet, calls: u32) -> anyhow::Result<String> {
    let smtp = FakeSmtp::start().await;
    let settings = [("SOSOHAPPY_AUTH__MAIL__URL", smtp.url())];
    let (fleet, engines) = match set {
        EngineSet::Embedded => (Cluster::embedded_with(binaries, &settings).await, "embedded"),
        EngineSet::Real => (Cluster::real_with(binaries, &settings).await, "Kafka, MariaDB"),
    };
    let addresses = addresses(fleet.replicas[0]);
    let bare = Bare::new(set).await?;
    let mut rows = String::new();
    let mut row = |call: &str, rates: &Rates, bare: &Rates, of: &Statements| {
        let written = writeln!(
            rows,
            "| {engines} | {call} | {:.0} | {}, {} | {:.0} | {}, {} |",
            rates.a_second,
            millis(rates.times.median()),
            millis(rates.times.quantile(990)),
            bare.a_second,
            of.reads,
            of.writes
        );
        written.expect("text can be written to a string");
    };

    let mut phones = Vec::new();
    for client in 0..CLIENTS {
        let mut phone = Phone::new(addresses.clone(), &format!("bench{client}@example.com"), "kakao")?;
        phone.sign_in().await?;
        phones.push(phone);
    }
    let signed_in = timed(calls, &mut phones, async |phone: &mut Phone| {
        phone.sign_in().await.map(|_| ())
    })
    .await?;
    row("sign-in", &signed_in, &bare.rates(calls, &SIGN_IN).await?, &SIGN_IN);
    let reissued = timed(calls, &mut phones, async |phone: &mut Phone| {
        phone.re_issue().await.map(|_| ())
    })
    .await?;
    row("re-issue", &reissued, &bare.rates(calls, &REISSUE).await?, &REISSUE);

    let mut people = Vec::new();
    for client in 0..CLIENTS {
        people.push(EmailAccount::sign_up(&addresses.auth, &smtp, client).await?);
    }
    let logged_in = timed(calls, &mut people, async |person: &mut EmailAccount| {
        person.sign_in().await
    })
    .await?;
    row(
        "password log-in",
        &logged_in,
        &bare.rates(calls, &LOG_IN).await?,
        &LOG_IN,
    );

    let Statements { reads, writes } = REISSUE_OF_TWO_WRITES;
    let fewer = bare.rates(calls, &REISSUE_OF_TWO_WRITES).await?.a_second;
    writeln!(
        rows,
        "| {engines} | a re-issue of two writes, bare only | | | {fewer:.0} | {reads}, {writes} |"
    )?;
    Ok(rows)
}

/// The rate of calls, and how long each took.
struct Rates {
    a_second: f64,
    times: Samples,
}

/// Makes the calls of all clients at one time.
async fn timed<C, F>(calls: u32, clients: &mut [C], call: F) -> anyhow::Result<Rates>
where
    F: AsyncFn(&mut C) -> anyhow::Result<()>,
{
    let began = Instant::now();
    let call = &call;
    let times = try_join_all(clients.iter_mut().map(|client| async move {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..calls {
            let began = Instant::now();
            call(client).await?;
            times.push(began.elapsed());
        }
        anyhow::Ok(times)
    }))
    .await?;
    let times: Vec<Duration> = times.into_iter().flatten().collect();
    Ok(Rates {
        a_second: rate(times.len(), began.elapsed()),
        times: Samples::new(times),
    })
}

fn rate(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

/// An account with an e-mail address.
struct EmailAccount {
    http: reqwest::Client,
    url: String,
    email: String,
}

impl EmailAccount {
    async fn sign_up(auth: &str, smtp: &FakeSmtp, number: usize) -> anyhow::Result<Self> {
        let person = Self {
            http: sosohappy_common::tls::client(),
            url: format!("{auth}/auth-service"),
            email: format!("bench{number}@example.com"),
        };
        person.post("requestEmailCode", &[]).await?;
        let code = smtp.mail_to(&person.email, 1).await.code();
        person
            .post("signUp", &[("code", code.as_str()), ("password", PASSWORD)])
            .await?;
        Ok(person)
    }

    async fn sign_in(&self) -> anyhow::Result<()> {
        let fields = [
            ("provider", "email"),
            ("password", PASSWORD),
            ("deviceToken", "a-push-token"),
        ];
        self.post("signIn", &fields).await
    }

    async fn post(&self, call: &str, fields: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut form = fields.to_vec();
        form.push(("email", &self.email));
        let answer = self
            .http
            .post(format!("{}/{call}", self.url))
            .form(&form)
            .send()
            .await?;
        let status = answer.status();
        ensure!(status.is_success(), "{call} returned {status}");
        Ok(())
    }
}

/// A bare database of the same engine.
struct Bare {
    pool: Pool,
    // Held for its drop: it deletes the database.
    _bed: Bed,
}

#[derive(Clone)]
enum Pool {
    Sqlite(SqlitePool),
    MySql(MySqlPool),
}

/// One transaction of so many statements by key.
macro_rules! transaction {
    ($pool:expr, $of:expr, $key:expr) => {{
        let mut tx = $pool.begin().await?;
        for read in 0..$of.reads {
            sqlx::query("SELECT text FROM bare WHERE id = ?")
                .bind(i64::try_from(read)?)
                .fetch_optional(&mut *tx)
                .await?;
        }
        for write in 0..$of.writes {
            sqlx::query("REPLACE INTO bare (id, text) VALUES (?, ?)")
                .bind($key + i64::try_from(write)?)
                .bind("a text of the length of a small row, so that the page is not empty")
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
    }};
}

impl Bare {
    async fn new(set: EngineSet) -> anyhow::Result<Self> {
        let bed = Bed::with_declared_topics(set).await;
        let settings: Live<sosohappy_auth::Settings> = bed.settings("auth", sosohappy_auth::DEFAULTS, &[]).await;
        let url = settings.get().database.url.expose().to_owned();
        let table = "CREATE TABLE bare (id BIGINT NOT NULL PRIMARY KEY, text VARCHAR(200) NOT NULL)";
        let pool = if let Some(file) = url.strip_prefix("sqlite:") {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(file)
                .create_if_missing(true)
                .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
            // One writer at a time, as in the services.
            let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
            let pool = pool.connect_with(options).await?;
            sqlx::query(table).execute(&pool).await?;
            Pool::Sqlite(pool)
        } else {
            sqlx::MySql::create_database(&url).await?;
            let pool = MySqlPool::connect(&url).await.context("the database is available")?;
            sqlx::query(table).execute(&pool).await?;
            Pool::MySql(pool)
        };
        Ok(Self { pool, _bed: bed })
    }

    async fn rates(&self, calls: u32, of: &Statements) -> anyhow::Result<Rates> {
        let mut clients: Vec<i64> = (1..).map(|client| client * 1000).take(CLIENTS).collect();
        timed(calls, &mut clients, async |key: &mut i64| self.once(of, *key).await).await
    }

    async fn once(&self, of: &Statements, key: i64) -> anyhow::Result<()> {
        match &self.pool {
            Pool::Sqlite(pool) => transaction!(pool, of, key),
            Pool::MySql(pool) => transaction!(pool, of, key),
        }
        Ok(())
    }
}
