//! Replicas of auth on one bed, people signing in, and the events they cause.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha512};
use sosohappy_bus::{Reader, Start};
use sosohappy_common::Context;
use sosohappy_common::clock::{Clock as _, ManualClock, SystemClock};
use sosohappy_common::settings::Live;
use sosohappy_events::{Envelope, Event, EventId, Record};
use sosohappy_testkit::{Bed, PATIENCE, Running, eventually};

pub const KIM: (&str, &str, &str) = ("kim@example.com", "kakao", "kim-at-kakao");
pub const LEE: (&str, &str, &str) = ("lee@example.com", "google", "lee-at-google");

/// A bed, and a clock that all replicas on it share and that stands still.
pub struct Ground {
    pub bed: Bed,
    pub clock: Arc<ManualClock>,
}

impl Ground {
    pub fn new(bed: Bed) -> Self {
        Self {
            bed,
            clock: ManualClock::at(SystemClock.now()),
        }
    }

    pub async fn build(&self, more: &[(&str, &str)]) -> anyhow::Result<sosohappy_common::http::serve::Service> {
        self.build_at(self.clock.clone(), more).await
    }

    async fn build_at(
        &self,
        clock: Arc<ManualClock>,
        more: &[(&str, &str)],
    ) -> anyhow::Result<sosohappy_common::http::serve::Service> {
        let settings = self.bed.settings("auth", sosohappy_auth::DEFAULTS, more).await;
        let context = Context {
            clock,
            ..self.bed.context(sosohappy_auth::SERVICE)
        };
        context.settings.attach(&settings);
        sosohappy_auth::build(settings, context, self.bed.bus.clone()).await
    }

    pub async fn auth(&self) -> Auth {
        self.auth_with(&[]).await
    }

    /// A replica whose clock is ahead of the others'.
    pub async fn auth_ahead(&self, by: Duration) -> Auth {
        let clock = ManualClock::at(self.clock.now() + by);
        Auth {
            running: self.bed.start(self.build_at(clock, &[]).await).await,
            client: sosohappy_common::tls::client(),
        }
    }

    pub async fn auth_with(&self, more: &[(&str, &str)]) -> Auth {
        let running = self.bed.start(self.build(more).await).await;
        Auth {
            running,
            client: sosohappy_common::tls::client(),
        }
    }

    /// In milliseconds, as answers have it.
    pub fn clock_now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.clock.now().as_millisecond()).expect("a time of today")
    }

    /// Runs a statement on auth's database.
    pub async fn execute(&self, statement: &'static str) {
        let settings: Live<sosohappy_auth::Settings> = self.bed.settings("auth", sosohappy_auth::DEFAULTS, &[]).await;
        let url = settings.get().database.url.expose().to_owned();
        let executed = if url.starts_with("sqlite:") {
            let pool = sqlx::SqlitePool::connect(&url).await.expect("the database opens");
            sqlx::query(statement).execute(&pool).await.map(|_| ())
        } else {
            let pool = sqlx::MySqlPool::connect(&url).await.expect("the database opens");
            sqlx::query(statement).execute(&pool).await.map(|_| ())
        };
        executed.expect("the statement is valid");
    }

    /// How many rows a table has.
    pub async fn rows(&self, table: &str) -> i64 {
        self.count(&format!("SELECT COUNT(*) FROM {table}")).await
    }

    /// Returns the result of a statement that counts.
    pub async fn count(&self, statement: &str) -> i64 {
        let settings: Live<sosohappy_auth::Settings> = self.bed.settings("auth", sosohappy_auth::DEFAULTS, &[]).await;
        let url = settings.get().database.url.expose().to_owned();
        let count = sqlx::AssertSqlSafe(statement.to_owned());
        let counted = if url.starts_with("sqlite:") {
            let pool = sqlx::SqlitePool::connect(&url).await.expect("the database opens");
            sqlx::query_scalar(count).fetch_one(&pool).await
        } else {
            let pool = sqlx::MySqlPool::connect(&url).await.expect("the database opens");
            sqlx::query_scalar(count).fetch_one(&pool).await
        };
        counted.expect("the statement is valid")
    }

    /// Every event of a kind from the beginning.
    pub async fn watch<E: Event>(&self) -> Watch<E> {
        // A topic that was just made may have no leader yet.
        let reader = eventually("the topic can be read", async || {
            self.bed.bus.read(&[E::TOPIC], Start::Earliest).await.ok()
        })
        .await;
        Watch {
            reader,
            seen: HashSet::new(),
            kind: PhantomData,
        }
    }
}

/// A topic, and which events of it were seen: one may be published twice, as when a clock that jumps gives the outbox to another replica.
pub struct Watch<E> {
    reader: Box<dyn Reader>,
    seen: HashSet<EventId>,
    kind: PhantomData<E>,
}

impl<E: Event> Watch<E> {
    /// The next record of an event that was not seen before.
    pub async fn record(&mut self) -> Record {
        let next = async {
            loop {
                if let (record, true) = self.read().await {
                    return record;
                }
            }
        };
        let next = tokio::time::timeout(PATIENCE, next).await;
        next.unwrap_or_else(|_| panic!("no {} came", E::TYPE))
    }

    /// A record, and whether its event is a new one.
    async fn read(&mut self) -> (Record, bool) {
        let record = self.reader.next().await.expect("the bus can be read");
        let event = Envelope::<E>::decode(&record).expect("auth writes what it means");
        let new = self.seen.insert(event.meta.id);
        (record, new)
    }

    pub async fn next(&mut self) -> Envelope<E> {
        Envelope::decode(&self.record().await).expect("auth writes what it means")
    }

    /// The next event, or one that is published again, if it comes within that time.
    pub async fn next_within(&mut self, time: Duration) -> Option<Envelope<E>> {
        let (record, _) = tokio::time::timeout(time, self.read()).await.ok()?;
        Some(Envelope::decode(&record).expect("auth writes what it means"))
    }

    /// Nothing new comes for longer than two rounds of the timers take.
    pub async fn expect_silence(&mut self) {
        let news = async { while !self.read().await.1 {} };
        let next = tokio::time::timeout(Duration::from_millis(1500), news).await;
        assert!(next.is_err(), "an unexpected {}", E::TYPE);
    }
}

/// One replica.
pub struct Auth {
    pub running: Running,
    pub client: reqwest::Client,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    /// Null when there is none.
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}: {self:?}"))
            .to_str()
            .expect("ASCII")
    }

    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub fn code(&self) -> &str {
        self.body["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no problem: {self:?}"))
    }
}

/// A person who is signed in.
#[derive(Debug, Clone)]
pub struct Person {
    pub account: String,
    pub access: String,
    pub refresh: String,
    pub nickname: String,
}

impl Person {
    pub fn of(answer: &Answer) -> Self {
        let bearer = |name| {
            answer
                .header(name)
                .strip_prefix("Bearer ")
                .expect("a bearer token")
                .to_owned()
        };
        Self {
            account: answer.header("email").to_owned(),
            access: bearer("authorization"),
            refresh: bearer("authorization-refresh"),
            nickname: answer.body["nickname"].as_str().unwrap_or_default().to_owned(),
        }
    }

    pub fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.access).header("Email", &self.account)
    }
}

pub async fn send(request: RequestBuilder) -> Answer {
    answer_of(request.send().await.expect("auth answers")).await
}

pub async fn answer_of(response: reqwest::Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("a whole body");
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).expect("JSON")
    };
    Answer { status, headers, body }
}

pub fn sha512(text: &str) -> String {
    hex::encode(Sha512::digest(text))
}

impl Auth {
    pub fn post(&self, call: &str) -> RequestBuilder {
        self.client.post(self.running.at(&format!("/auth-service/{call}")))
    }

    pub fn get(&self, call: &str) -> RequestBuilder {
        self.client.get(self.running.at(&format!("/auth-service/{call}")))
    }

    /// A code for that verifier.
    pub async fn code(&self, verifier: &str) -> String {
        let asked = send(
            self.post("getAuthorizeCode")
                .form(&[("codeChallenge", sha512(verifier))]),
        )
        .await
        .expect(200);
        asked.body["authorizeCode"].as_str().expect("a code").to_owned()
    }

    pub async fn sign_in_with(&self, who: (&str, &str, &str), code: &str, verifier: &str) -> Answer {
        let (email, provider, subject) = who;
        let fields = [
            ("email", email),
            ("provider", provider),
            ("providerId", subject),
            ("codeVerifier", verifier),
            ("authorizeCode", code),
            ("authorizationCode", ""),
            ("deviceToken", "a-push-token"),
        ];
        let form = fields
            .into_iter()
            .fold(reqwest::multipart::Form::new(), |form, (name, value)| {
                form.text(name.to_owned(), value.to_owned())
            });
        send(self.post("signIn").multipart(form)).await
    }

    pub async fn try_sign_in(&self, who: (&str, &str, &str)) -> Answer {
        let code = self.code("abcdefghijklmnopqrst").await;
        self.sign_in_with(who, &code, "abcdefghijklmnopqrst").await
    }

    pub async fn sign_in(&self, who: (&str, &str, &str)) -> Person {
        Person::of(&self.try_sign_in(who).await.expect(200))
    }

    /// Signed in, under a nickname of their own.
    pub async fn person(&self, who: (&str, &str, &str), nickname: &str) -> Person {
        let person = self.sign_in(who).await;
        self.set_nickname(&person, nickname).await;
        Person {
            nickname: nickname.to_owned(),
            ..person
        }
    }

    /// Whether it was free.
    pub async fn set_nickname(&self, person: &Person, nickname: &str) -> bool {
        let fields = [("email", person.account.as_str()), ("nickname", nickname)];
        let answer = send(person.sign(self.post("setProfile").form(&fields)))
            .await
            .expect(200);
        assert_eq!(answer.body["email"], person.account);
        answer.body["success"].as_bool().expect("a truth value")
    }

    /// Returns the sum of a metric's series that have all these labels (`kind="mail"`).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.client.get(self.running.at("/actuator/prometheus"));
        let metrics = metrics.send().await.unwrap().text().await.unwrap();
        let series = metrics.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        let values = series.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>());
        values.sum::<Result<f64, _>>().expect("numbers")
    }

    pub async fn try_reissue(&self, account: &str, refresh: &str) -> Answer {
        let request = self.get("reIssueToken").header("email", account);
        send(request.header("Authorization-refresh", format!("Bearer {refresh}"))).await
    }

    pub async fn reissue(&self, person: &Person) -> Person {
        let answer = self.try_reissue(&person.account, &person.refresh).await.expect(200);
        Person {
            nickname: person.nickname.clone(),
            ..Person::of(&answer)
        }
    }

    /// Whether the person's access token lets them in.
    pub async fn admits(&self, person: &Person) -> bool {
        let request = self.get("checkDuplicateNickname").query(&[("nickname", "nobody")]);
        let answer = send(person.sign(request)).await;
        assert!(answer.status == 200 || answer.code() == "access-denied", "{answer:?}");
        answer.status == 200
    }

    pub async fn resign(&self, person: &Person) -> Answer {
        send(person.sign(self.post("resign").form(&[("email", &person.account)]))).await
    }
}
