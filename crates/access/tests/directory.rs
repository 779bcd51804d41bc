//! Names over a real directory, and a fake auth that a test can change, slow down or stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use parking_lot::Mutex;
use secrecy::SecretString;
use sosohappy_access::introspection::{LookupRequest, LookupResponse};
use sosohappy_access::{AuthClient, Denied, DirectoryNames, Names};
use sosohappy_common::lifecycle::{Gate, Lifecycle};
use sosohappy_common::settings::{Access, Live, TokenRegistry};
use sosohappy_common::{Account, Context, Service};
use sosohappy_events::{Mixed, mixed};
use sosohappy_store::{Directory, sqlite};

#[derive(Debug, Default)]
struct Auth {
    /// Account to nickname.
    people: Mutex<HashMap<String, String>>,
    /// A Spring auth has no such call.
    is_spring: Mutex<bool>,
    /// An auth of an earlier release does not know a field of the request.
    is_earlier: Mutex<bool>,
    /// How long an answer takes.
    takes: Mutex<Duration>,
    asked: AtomicUsize,
    /// Opened by the next call.
    gate: Mutex<Option<Gate>>,
}

async fn lookup(
    State(auth): State<Arc<Auth>>,
    Json(request): Json<LookupRequest>,
) -> Result<Json<LookupResponse>, StatusCode> {
    auth.asked.fetch_add(1, Ordering::SeqCst);
    if let Some(gate) = auth.gate.lock().take() {
        gate.open();
    }
    let takes = *auth.takes.lock();
    tokio::time::sleep(takes).await;
    if *auth.is_spring.lock() {
        return Err(StatusCode::FORBIDDEN);
    }
    if *auth.is_earlier.lock() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let people = auth.people.lock();
    let found = people.iter().find(|(account, nickname)| {
        request.account.as_ref() == Some(account) || request.nickname.as_ref() == Some(nickname)
    });
    Ok(Json(LookupResponse {
        account: found.map(|(account, _)| account.clone()),
        nickname: found.map(|(_, name)| name.clone()),
        introduction: None,
        is_blocked: None,
    }))
}

struct Bench {
    auth: Arc<Auth>,
    directory: Arc<dyn Directory>,
    names: DirectoryNames,
    serving: tokio::task::JoinHandle<()>,
    lifecycle: Lifecycle,
    _folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    bench_in(&Mixed::none()).await
}

/// Makes the bench of a fleet in which auth may be a Spring service.
async fn bench_in(mixed: &Mixed) -> Bench {
    // For a machine that is busy with other tests.
    bench_with(mixed, Duration::from_secs(10)).await
}

async fn bench_with(mixed: &Mixed, introspection_timeout: Duration) -> Bench {
    let auth = Arc::new(Auth::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let url = format!(
        "http://{}",
        listener.local_addr().expect("a bound listener has an address")
    );
    let routes = Router::new()
        .route("/auth-service/lookup", post(lookup))
        .with_state(auth.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });

    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let context = Context::system("feed-service", 0);
    let file = format!("sqlite:{}/names.db", folder.path().display());
    let database = sqlite::Database::open(&file.as_str().into(), 2, &sqlx::migrate::Migrator::DEFAULT, &context).await;
    let directory = database.expect("the database opens").directory();
    let settings = Access {
        auth_url: url.parse().expect("a valid URL"),
        introspection_timeout,
        registry: TokenRegistry::Complete,
        token_lifetime: Duration::from_hours(1),
    };
    let client = AuthClient::in_fleet(&Live::new(settings), &SecretString::from("fleet"), &context, mixed);
    let client = client.expect("a client");
    let names = DirectoryNames::new(directory.clone(), client, context.lifecycle.clone());
    Bench {
        auth,
        directory,
        names,
        serving,
        lifecycle: context.lifecycle,
        _folder: folder,
    }
}

impl Bench {
    async fn set(&self, who: &str, nickname: Option<&str>, second: i64) {
        let at = Timestamp::from_second(second).expect("a valid time");
        self.directory
            .set_nickname(&account(who), nickname, at)
            .await
            .expect("the directory takes names");
    }

    fn at_auth(&self, who: &str, nickname: &str) {
        self.auth
            .people
            .lock()
            .insert(account(who).as_str().to_owned(), nickname.to_owned());
    }

    fn asked(&self) -> usize {
        self.auth.asked.load(Ordering::SeqCst)
    }
}

fn account(name: &str) -> Account {
    format!("{name}@example.com+kakao")
        .parse()
        .expect("a test account is valid")
}

#[tokio::test]
async fn names_in_the_directory_need_no_call() {
    let bench = bench().await;
    bench.set("kim", Some("kimchi"), 1).await;
    assert_eq!(bench.names.account_of("kimchi").await, Ok(Some(account("kim"))));
    assert_eq!(
        bench.names.nicknames_of(&[account("kim")]).await,
        Ok(vec![Some("kimchi".to_owned())])
    );
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn an_unknown_name_is_unavailable_until_the_names_are_read() {
    let bench = bench().await;
    *bench.auth.is_spring.lock() = true;
    bench.set("kim", Some("kimchi"), 1).await;
    let gate = bench.lifecycle.gate("consumer-emailAndNickname");
    assert_eq!(bench.names.account_of("kimchi").await, Ok(Some(account("kim"))));
    assert_eq!(bench.names.account_of("new").await, Err(Denied::Unavailable));
    gate.open();
    assert_eq!(bench.names.account_of("new").await, Ok(None));
}

#[tokio::test]
async fn unknown_names_are_looked_up_and_negative_answers_cached_for_a_second() {
    let bench = bench().await;
    assert_eq!(bench.names.account_of("new").await, Ok(None));
    assert_eq!(bench.names.account_of("new").await, Ok(None));
    assert_eq!(bench.asked(), 1);

    bench.at_auth("kim", "new");
    assert_eq!(
        bench.names.account_of_fresh("new").await,
        Ok(Some(account("kim"))),
        "asked again at once"
    );
    assert_eq!(bench.names.account_of("new").await, Ok(Some(account("kim"))));
    assert_eq!(bench.asked(), 2);

    assert_eq!(bench.names.account_of("newer").await, Ok(None));
    bench.at_auth("lee", "newer");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(bench.names.account_of("newer").await, Ok(Some(account("lee"))));
}

#[tokio::test]
async fn a_list_of_names_keeps_its_order_and_its_gaps() {
    let bench = bench().await;
    bench.set("kim", Some("kimchi"), 1).await;
    bench.set("gone", Some("was here"), 1).await;
    bench.set("gone", None, 2).await;
    bench.at_auth("lee", "lee the first");
    let asked = ["lee", "gone", "kim", "lee", "nobody"].map(account);
    let names = bench.names.nicknames_of(&asked).await.expect("names can be told");
    let expected = [Some("lee the first"), None, Some("kimchi"), Some("lee the first"), None];
    assert_eq!(names, expected.map(|name| name.map(str::to_owned)));
    let calls = bench.asked();
    assert_eq!(calls, 3, "one for each that the directory does not know");
    bench.names.nicknames_of(&asked).await.expect("names can be told");
    assert_eq!(bench.asked(), calls);
}

#[tokio::test]
async fn a_rename_is_seen_when_the_cache_expires() {
    let bench = bench().await;
    bench.set("kim", Some("before"), 1).await;
    assert_eq!(
        bench.names.nicknames_of(&[account("kim")]).await,
        Ok(vec![Some("before".to_owned())])
    );
    bench.set("kim", Some("after"), 2).await;
    tokio::time::sleep(Duration::from_millis(2_050)).await;
    assert_eq!(
        bench.names.nicknames_of(&[account("kim")]).await,
        Ok(vec![Some("after".to_owned())])
    );
    assert_eq!(bench.names.account_of("after").await, Ok(Some(account("kim"))));
}

#[tokio::test]
async fn the_directory_answers_while_auth_is_unavailable() {
    let bench = bench().await;
    bench.set("kim", Some("kimchi"), 1).await;
    bench.serving.abort();
    assert_eq!(bench.names.account_of("kimchi").await, Ok(Some(account("kim"))));
    assert_eq!(bench.names.account_of("unknown").await, Err(Denied::Unavailable));
    let names = bench.names.nicknames_of(&[account("kim"), account("lee")]).await;
    assert_eq!(
        names,
        Ok(vec![Some("kimchi".to_owned()), None]),
        "a list with a gap is better than none"
    );
}

/// An auth under load takes longer than a check of a token may.
#[tokio::test]
async fn an_unknown_name_is_waited_for() {
    let bench = bench_with(&Mixed::none(), Duration::from_millis(10)).await;
    *bench.auth.takes.lock() = Duration::from_millis(300);
    bench.at_auth("kim", "kimchi");
    assert_eq!(
        bench.names.profile_of(&account("kim")).await,
        Err(Denied::Unavailable),
        "the timeout of other calls"
    );
    assert_eq!(bench.names.account_of("unknown").await, Ok(None));
    assert_eq!(bench.names.account_of_fresh("unknown").await, Ok(None));
    assert_eq!(bench.names.account_of("kimchi").await, Ok(Some(account("kim"))));
}

#[tokio::test]
async fn beside_a_spring_auth_only_published_names_are_known() {
    let bench = bench().await;
    *bench.auth.is_spring.lock() = true;
    bench.set("kim", Some("kimchi"), 1).await;
    assert_eq!(bench.names.account_of("kimchi").await, Ok(Some(account("kim"))));
    assert_eq!(bench.names.account_of("unknown").await, Ok(None));
}

/// A Spring auth under load would not answer in time, and the name would be unavailable instead of unknown.
#[tokio::test]
async fn a_spring_auth_is_not_asked_for_names() {
    let bench = bench_in(&Mixed::new(Live::new(mixed::spring(&[Service::Auth])))).await;
    bench.at_auth("kim", "kimchi");
    assert_eq!(bench.names.account_of("kimchi").await, Ok(None));
    assert_eq!(bench.asked(), 0);
}

/// One that is rolled out after the service that asks. Its other answers are still needed.
#[tokio::test]
async fn an_auth_that_does_not_know_a_field_is_not_unavailable() {
    let bench = bench().await;
    *bench.auth.is_earlier.lock() = true;
    for _ in 0..10 {
        assert_eq!(bench.names.account_of("kimchi").await, Err(Denied::Unavailable));
    }
    assert_eq!(bench.asked(), 10);
    *bench.auth.is_earlier.lock() = false;
    assert_eq!(bench.names.account_of("kimchi").await, Ok(None));
}

#[tokio::test]
async fn a_name_is_not_unknown_when_the_last_names_are_read_meanwhile() {
    let bench = bench().await;
    *bench.auth.gate.lock() = Some(bench.lifecycle.gate("consumer-emailAndNickname"));
    assert_eq!(bench.names.account_of("kimchi").await, Err(Denied::Unavailable));
    assert_eq!(bench.names.account_of("kimchi").await, Ok(None));
}

#[tokio::test]
async fn invalid_nicknames_are_unknown() {
    let bench = bench().await;
    assert_eq!(bench.names.account_of("").await, Ok(None));
    assert_eq!(bench.names.account_of(&"가".repeat(134)).await, Ok(None));
    assert_eq!(bench.asked(), 0);
}
