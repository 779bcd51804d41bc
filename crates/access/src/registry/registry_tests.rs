use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use secrecy::SecretString;
use sosohappy_bus::consume::Consumer;
use sosohappy_common::clock::ManualClock;
use sosohappy_common::settings::{Live, TokenRegistry};
use sosohappy_events::types::{AccountResigned, AccountStateChanged, Role, SessionExpired, SessionId};
use sosohappy_events::{Envelope, Event};

use super::*;
use crate::heartbeats::Heartbeats;
use crate::introspection::IntrospectRequest;
use crate::{AuthClient, Revocations};

const LIFETIME: Duration = Duration::from_hours(1);

/// A fake auth: its next answer, and the number of calls it got.
#[derive(Debug, Default)]
struct Auth {
    active: Mutex<Option<IntrospectResponse>>,
    delay: Mutex<Duration>,
    refusing: Mutex<bool>,
    asked: AtomicUsize,
}

async fn introspect(
    State(auth): State<Arc<Auth>>,
    headers: HeaderMap,
    Json(request): Json<IntrospectRequest>,
) -> Result<Json<IntrospectResponse>, StatusCode> {
    auth.asked.fetch_add(1, Ordering::SeqCst);
    let delay = *auth.delay.lock();
    tokio::time::sleep(delay).await;
    if *auth.refusing.lock()
        || headers["authorization"] != "Bearer fleet"
        || !request.token_digest.starts_with("sha256:")
    {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(Json(
        auth.active.lock().clone().unwrap_or_else(IntrospectResponse::inactive),
    ))
}

struct Bench {
    auth: Arc<Auth>,
    clock: Arc<ManualClock>,
    context: Context,
    registry: Registry,
    revocations: Revocations,
    heartbeats: Heartbeats,
    serving: tokio::task::JoinHandle<()>,
}

/// Of a call to auth, for a machine that is busy with other tests.
const ROOMY: Duration = Duration::from_secs(10);

/// As in production.
const SHORT: Duration = Duration::from_millis(300);

async fn bench() -> Bench {
    bench_with(ROOMY).await
}

async fn bench_with(introspection_timeout: Duration) -> Bench {
    let auth = Arc::new(Auth::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new()
        .route("/auth-service/introspect", post(introspect))
        .with_state(auth.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
    let mut context = Context::system("feed-service", 0);
    context.clock = clock.clone();
    let settings = Access {
        auth_url: url.parse().unwrap(),
        introspection_timeout,
        registry: TokenRegistry::Complete,
        token_lifetime: LIFETIME,
    };
    let client = AuthClient::new(&Live::new(settings), &SecretString::from("fleet"), &context).unwrap();
    let revocations = Revocations::default();
    let heartbeats = Heartbeats::new(&context);
    heartbeats.assume_current(true);
    let registry = Registry(Arc::new(Inner {
        table: Table::new(revocations.clone()),
        clock: context.clock.clone(),
        lifetime: LIFETIME,
        reads: true,
        revalidation: Revalidation {
            auth: client,
            revocations: revocations.clone(),
            heartbeats: heartbeats.clone(),
        },
        lifecycle: context.lifecycle.clone(),
        metrics: RegistryMetrics::new(&context.metrics),
    }));
    Bench {
        auth,
        clock,
        context,
        registry,
        revocations,
        heartbeats,
        serving,
    }
}

impl Bench {
    fn kim() -> Account {
        "kim@example.com+kakao".parse().unwrap()
    }

    /// A string in the form of a JWT that expires in a minute.
    fn token(&self, jti: u32) -> String {
        let exp = self.clock.now().as_second() + 60;
        let claims = format!(r#"{{"email":"kim@example.com+kakao","exp":{exp},"jti":{jti}}}"#);
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn answers(&self, session: u64) {
        let now = self.clock.now().as_millisecond();
        *self.auth.active.lock() = Some(IntrospectResponse {
            active: true,
            session: Some(format!("{session:016x}")),
            issued_at: Some(now),
            expires_at: Some(now + 60_000),
            role: Some("admin".into()),
        });
    }

    async fn check(&self, token: &str) -> Result<Caller, Denied> {
        self.registry.authenticate(&Self::kim(), token).await
    }

    async fn publish<E: Event>(&self, event: E)
    where
        Registry: Consumer<E>,
    {
        self.registry.handle(Envelope::new(event, &self.context)).await.unwrap();
    }

    async fn revoke<E: Event>(&self, event: E)
    where
        Revocations: Consumer<E>,
    {
        let envelope = Envelope::new(event, &self.context);
        self.revocations.handle(envelope).await.unwrap();
    }

    fn asked(&self) -> usize {
        self.auth.asked.load(Ordering::SeqCst)
    }
}

fn issued(token: &str, now: Timestamp) -> AccessTokenIssued {
    AccessTokenIssued {
        account: Bench::kim(),
        digest: TokenDigest::of(token),
        raw: None,
        session: SessionId(9),
        role: Role::User,
        issued_at: now,
        expires_at: Some(now + Duration::from_mins(1)),
    }
}

#[tokio::test]
async fn a_published_token_is_admitted_without_a_call() {
    let bench = bench().await;
    bench.publish(issued("opaque", bench.clock.now())).await;

    let caller = bench.check("opaque").await.unwrap();
    assert_eq!((caller.session, caller.role), (SessionId(9), Role::User));
    assert_eq!(bench.check("forged").await, Err(Denied::Refused));
    assert_eq!(
        bench
            .registry
            .authenticate(&"lee@example.com+kakao".parse().unwrap(), "opaque")
            .await,
        Err(Denied::Refused)
    );
    bench.clock.advance(Duration::from_mins(1));
    assert_eq!(bench.check("opaque").await, Err(Denied::Refused));
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn a_role_of_a_later_release_has_no_rights() {
    let bench = bench().await;
    bench.answers(5);
    if let Some(answer) = bench.auth.active.lock().as_mut() {
        answer.role = Some("auditor".into());
    }
    let caller = bench.check(&bench.token(1)).await.unwrap();
    assert_eq!((caller.session, caller.role), (SessionId(5), Role::User));
}

#[tokio::test]
async fn an_unknown_token_is_introspected_once() {
    let bench = bench().await;
    bench.answers(5);
    *bench.auth.delay.lock() = Duration::from_millis(50);
    let token = bench.token(1);

    let all = futures::future::join_all((0..20).map(|_| bench.check(&token))).await;
    for caller in all {
        assert_eq!(
            caller.map(|caller| (caller.session, caller.role)),
            Ok((SessionId(5), Role::Admin))
        );
    }
    bench.check(&token).await.unwrap();
    assert_eq!(bench.asked(), 1);

    bench.clock.advance(Duration::from_millis(1));
    bench
        .revoke(SessionExpired {
            account: Bench::kim(),
            session: Some(SessionId(5)),
        })
        .await;
    assert_eq!(bench.check(&token).await, Err(Denied::Refused));
    assert_eq!(bench.asked(), 1, "a known tombstone needs no call");
}

#[tokio::test]
async fn a_negative_answer_is_cached_for_a_second() {
    let bench = bench().await;
    let token = bench.token(1);
    assert_eq!(bench.check(&token).await, Err(Denied::Refused));
    assert_eq!(bench.check(&token).await, Err(Denied::Refused));
    assert_eq!(bench.asked(), 1);

    bench.answers(5);
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert!(bench.check(&token).await.is_ok());
}

#[tokio::test]
async fn a_session_closed_while_auth_was_asked_stays_closed() {
    let bench = bench().await;
    bench.answers(5);
    *bench.auth.delay.lock() = Duration::from_millis(500);
    let token = bench.token(1);
    let (verdict, ()) = tokio::join!(bench.check(&token), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        bench
            .revoke(SessionExpired {
                account: Bench::kim(),
                session: Some(SessionId(5)),
            })
            .await;
    });
    assert_eq!(verdict, Err(Denied::Refused));
}

#[tokio::test]
async fn while_auth_is_unavailable_known_tokens_are_admitted_and_others_are_503() {
    let bench = bench_with(SHORT).await;
    bench.publish(issued("opaque", bench.clock.now())).await;
    bench.serving.abort();
    *bench.auth.delay.lock() = Duration::from_secs(5);

    for jti in 0..5 {
        assert_eq!(bench.check(&bench.token(jti)).await, Err(Denied::Unavailable));
    }
    // Calls that wait for their timeout would take six seconds. The best of three: a machine that is busy with other tests stalls one.
    let mut took = Vec::new();
    for round in 0..3 {
        let begun = std::time::Instant::now();
        for jti in 5..25 {
            let token = bench.token(round * 100 + jti);
            assert_eq!(bench.check(&token).await, Err(Denied::Unavailable));
        }
        took.push(begun.elapsed());
    }
    let best = took.iter().min();
    assert!(
        best.is_some_and(|best| *best < Duration::from_secs(3)),
        "an open breaker answers at once, not after {took:?}"
    );
    assert!(bench.check("opaque").await.is_ok());
}

#[tokio::test]
async fn a_slow_auth_times_out() {
    let bench = bench_with(SHORT).await;
    *bench.auth.delay.lock() = Duration::from_secs(5);
    // The best of three: a machine that is busy with other tests stalls one.
    let mut took = Vec::new();
    for jti in 0..3 {
        let begun = std::time::Instant::now();
        assert_eq!(bench.check(&bench.token(jti)).await, Err(Denied::Unavailable));
        took.push(begun.elapsed());
    }
    assert!(took.iter().all(|took| *took >= SHORT), "{took:?}");
    let best = took.iter().min();
    assert!(best.is_some_and(|best| *best < Duration::from_secs(2)), "{took:?}");
}

/// The JWT filter of the legacy auth service refuses tokens without an account.
#[tokio::test]
async fn without_introspection_only_published_tokens_are_admitted() {
    let bench = bench().await;
    bench.publish(issued("opaque", bench.clock.now())).await;
    *bench.auth.refusing.lock() = true;
    for jti in 0..20 {
        assert_eq!(bench.check(&bench.token(jti)).await, Err(Denied::Refused), "{jti}");
    }
    assert_eq!(bench.asked(), 20, "an answer keeps the breaker closed");
    assert!(bench.check("opaque").await.is_ok());
}

#[tokio::test]
async fn a_late_expired_of_an_older_token_leaves_the_newer_one() {
    let bench = bench().await;
    let old = SessionExpired {
        account: Bench::kim(),
        session: Some(SessionId(9)),
    };
    let closing = Envelope::new(old, &bench.context);
    bench.clock.advance(Duration::from_millis(1));
    bench.publish(issued("newer", bench.clock.now())).await;
    bench.revocations.handle(closing).await.unwrap();
    assert!(bench.check("newer").await.is_ok());

    bench
        .revoke(SessionExpired {
            account: Bench::kim(),
            session: None,
        })
        .await;
    assert!(
        bench.check("newer").await.is_ok(),
        "a Spring service names no session and closes nothing"
    );
}

#[tokio::test]
async fn a_suspended_account_is_refused_until_it_is_restored() {
    let bench = bench().await;
    bench.publish(issued("opaque", bench.clock.now())).await;
    bench
        .revoke(AccountStateChanged {
            account: Bench::kim(),
            state: sosohappy_events::types::State::Suspended,
        })
        .await;
    assert_eq!(bench.check("opaque").await, Err(Denied::Refused));
    bench.clock.advance(Duration::from_millis(1));
    bench
        .revoke(AccountStateChanged {
            account: Bench::kim(),
            state: sosohappy_events::types::State::Restored,
        })
        .await;
    assert!(bench.check("opaque").await.is_ok());

    bench
        .revoke(AccountResigned {
            account: Bench::kim(),
            nickname: "kim".into(),
        })
        .await;
    assert_eq!(bench.check("opaque").await, Err(Denied::Refused));
}

#[tokio::test]
async fn expired_tokens_are_swept_and_counted() {
    let bench = bench().await;
    bench.publish(issued("one", bench.clock.now())).await;
    bench.publish(issued("one", bench.clock.now())).await;
    bench.publish(issued("two", bench.clock.now())).await;
    assert_eq!(bench.registry.0.metrics.tokens.get(), 2);
    bench.clock.advance(Duration::from_secs(61));
    bench.registry.0.sweep();
    assert_eq!(bench.registry.0.metrics.tokens.get(), 0);
}

#[tokio::test]
async fn a_known_token_is_asked_about_once_a_second_while_heartbeats_are_missing() {
    let bench = bench().await;
    bench.publish(issued("opaque", bench.clock.now())).await;
    bench.answers(9);
    assert!(bench.check("opaque").await.is_ok());
    assert_eq!(bench.asked(), 0, "heartbeats arrive");

    bench.heartbeats.assume_current(false);
    *bench.auth.delay.lock() = Duration::from_millis(20);
    let all = futures::future::join_all((0..20).map(|_| bench.check("opaque"))).await;
    assert!(all.iter().all(Result::is_ok));
    assert!(bench.check("opaque").await.is_ok());
    assert_eq!(bench.asked(), 1);

    *bench.auth.active.lock() = None;
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(bench.check("opaque").await, Err(Denied::Refused), "revoked");
    assert_eq!(bench.asked(), 2);
    bench.heartbeats.assume_current(true);
    assert_eq!(
        bench.check("opaque").await,
        Err(Denied::Refused),
        "the revocation is kept"
    );
    bench.clock.advance(Duration::from_millis(1));
    bench.publish(issued("re-issued", bench.clock.now())).await;
    assert!(bench.check("re-issued").await.is_ok(), "a later token of the session");
    assert_eq!(bench.asked(), 2);
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_two_seconds_of_auths_return() {
    // The best of three: a machine that is busy with other tests stalls one.
    let mut took = Vec::new();
    while took.len() < 3 {
        took.push(refused_after_auths_return().await);
        if took.last().is_some_and(|took| *took < Duration::from_secs(2)) {
            return;
        }
    }
    panic!("still admitted: {took:?}");
}

async fn refused_after_auths_return() -> Duration {
    let bench = bench_with(SHORT).await;
    bench.publish(issued("opaque", bench.clock.now())).await;
    bench.heartbeats.assume_current(false);
    *bench.auth.delay.lock() = Duration::from_secs(5);
    for jti in 0..5 {
        assert_eq!(bench.check(&bench.token(jti)).await, Err(Denied::Unavailable));
    }
    assert!(bench.check("opaque").await.is_ok());

    *bench.auth.delay.lock() = Duration::ZERO;
    let back = std::time::Instant::now();
    while bench.check("opaque").await.is_ok() && back.elapsed() < Duration::from_mins(1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    back.elapsed()
}

#[tokio::test]
async fn an_auth_without_introspection_is_asked_once_about_known_tokens() {
    let bench = bench().await;
    bench.heartbeats.assume_current(false);
    *bench.auth.refusing.lock() = true;
    for token in ["one", "two", "three"] {
        bench.publish(issued(token, bench.clock.now())).await;
        assert!(bench.check(token).await.is_ok());
    }
    assert_eq!(bench.asked(), 1);
}
