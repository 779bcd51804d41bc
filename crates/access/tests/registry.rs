//! The registry over a bus: events published before a replica starts, and while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use secrecy::SecretString;
use sosohappy_access::introspection::{IntrospectRequest, IntrospectResponse};
use sosohappy_access::{AuthClient, Authenticator, Denied, Registry, Revalidation, Revocations};
use sosohappy_bus::Bus;
use sosohappy_common::clock::{Clock as _, ManualClock, SystemClock, SystemEntropy};
use sosohappy_common::settings::{Access, Events, Live, TokenRegistry};
use sosohappy_common::{Account, Context, Service};
use sosohappy_events::types::{
    AccessTokenIssued, AccountResigned, AccountStateChanged, Role, SessionExpired, SessionId, State, TokenDigest,
};
use sosohappy_events::{Envelope, Event, Mixed, Topic, mixed};

struct Bench {
    bus: Arc<dyn Bus>,
    context: Context,
    _folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    bench_with(Context::system("test", 0)).await
}

async fn bench_with(context: Context) -> Bench {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let events = Events::new(&format!("journal:{}/events.db", folder.path().display()), "");
    let bus = sosohappy_bus::open(&events, &context).await.expect("the journal opens");
    bus.create_topics(&Topic::ALL).await.expect("topics can be made");
    Bench {
        bus,
        context,
        _folder: folder,
    }
}

/// An auth that cannot be reached: no process listens on the discard port.
const UNREACHABLE: &str = "http://127.0.0.1:9";

fn kim() -> Account {
    "kim@example.com+kakao".parse().expect("a test account is valid")
}

impl Bench {
    async fn publish<E: Event>(&self, event: E) {
        let envelope = Envelope::new(event, &self.context);
        self.bus
            .publish(&[envelope.to_outgoing()])
            .await
            .expect("the journal takes events");
    }

    async fn issue(&self, token: &str, session: u64, issued_at: Timestamp, life: Duration) {
        let event = AccessTokenIssued {
            account: kim(),
            digest: TokenDigest::of(token),
            raw: None,
            session: SessionId(session),
            role: Role::User,
            issued_at,
            expires_at: Some(issued_at + life),
        };
        self.publish(event).await;
    }

    /// Starts a replica that cannot reach auth, and waits until it is ready.
    async fn replica(&self) -> Registry {
        self.replica_in(&Mixed::none()).await
    }

    /// Starts one with a registry on demand.
    async fn replica_on_demand(&self, mixed: &Mixed, auth_url: &str) -> Registry {
        self.replica_with(mixed, TokenRegistry::OnDemand, auth_url).await
    }

    /// Starts one in a fleet in which auth may be a Spring service.
    async fn replica_in(&self, mixed: &Mixed) -> Registry {
        self.replica_with(mixed, TokenRegistry::Complete, UNREACHABLE).await
    }

    async fn replica_with(&self, mixed: &Mixed, registry: TokenRegistry, auth_url: &str) -> Registry {
        let context = Context::system("feed-service", 0);
        let settings = Access {
            auth_url: auth_url.parse().expect("a valid URL"),
            introspection_timeout: Duration::from_millis(300),
            registry,
            token_lifetime: Duration::from_hours(1),
        };
        let token = SecretString::from("fleet");
        let auth = AuthClient::in_fleet(&Live::new(settings.clone()), &token, &context, mixed).expect("a client");
        let revocations = Revocations::start(&context, settings.token_lifetime, &self.bus);
        let revalidation = Revalidation::start(&context, &self.bus, auth, revocations);
        let registry = Registry::start(&context, &settings, &self.bus, revalidation);
        let ready = tokio::time::timeout(Duration::from_mins(1), context.lifecycle.ready()).await;
        assert!(ready.is_ok(), "not ready: {:?}", context.lifecycle.readiness());
        registry
    }

    fn now(&self) -> Timestamp {
        self.context.clock.now()
    }
}

async fn is_admitted(registry: &Registry, token: &str) -> bool {
    registry.authenticate(&kim(), token).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ready_replica_knows_all_earlier_events() {
    let bench = bench().await;
    let (now, hour) = (bench.now(), Duration::from_mins(50));
    bench.issue("alive", 1, now, hour).await;
    bench.issue("closed", 2, now, hour).await;
    bench
        .issue("expired", 3, now - Duration::from_secs(100), Duration::from_secs(99))
        .await;
    bench
        .publish(SessionExpired {
            account: kim(),
            session: Some(SessionId(2)),
        })
        .await;

    // Every replica reads all of them.
    for _ in 0..2 {
        let registry = bench.replica().await;
        assert!(is_admitted(&registry, "alive").await);
        for token in ["closed", "expired", "never issued"] {
            assert_eq!(
                registry.authenticate(&kim(), token).await,
                Err(Denied::Refused),
                "{token}"
            );
        }
    }
}

/// `{"sub":"AccessToken","email":"kim@example.com+kakao","exp":4102444800}`
const JWT: &str =
    "e30.eyJzdWIiOiJBY2Nlc3NUb2tlbiIsImVtYWlsIjoia2ltQGV4YW1wbGUuY29tK2tha2FvIiwiZXhwIjo0MTAyNDQ0ODAwfQ.c2lnbmF0dXJl";

/// Serves introspection of one active token, of session 7, until it is unavailable.
async fn serve_auth(issued_at: Timestamp) -> (String, Arc<AtomicBool>) {
    let unavailable = Arc::new(AtomicBool::new(false));
    let is_unavailable = unavailable.clone();
    let introspect = async move |Json(request): Json<IntrospectRequest>| {
        if is_unavailable.load(Ordering::SeqCst) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        if request.token_digest != TokenDigest::of(JWT).to_string() {
            return Ok(Json(IntrospectResponse::inactive()));
        }
        Ok(Json(IntrospectResponse {
            active: true,
            session: Some(format!("{:016x}", 7)),
            issued_at: Some(issued_at.as_millisecond()),
            expires_at: Some((issued_at + Duration::from_mins(50)).as_millisecond()),
            role: Some("user".to_owned()),
        }))
    };
    let routes = Router::new().route("/auth-service/introspect", post(introspect));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, unavailable)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_on_demand_holds_the_tokens_that_auth_was_asked_about() {
    let bench = bench().await;
    bench.issue("published", 1, bench.now(), Duration::from_mins(50)).await;
    let (auth_url, unavailable) = serve_auth(bench.now()).await;
    let registry = bench.replica_on_demand(&Mixed::none(), &auth_url).await;
    // It is no JWT, so that auth is not asked about it.
    assert!(!is_admitted(&registry, "published").await, "a token of the topic");

    assert!(is_admitted(&registry, JWT).await);
    unavailable.store(true, Ordering::SeqCst);
    assert!(is_admitted(&registry, JWT).await, "it is known now");
    let other = JWT.replace("c2lnbmF0dXJl", "b3RoZXI");
    assert_eq!(
        registry.authenticate(&kim(), &other).await,
        Err(Denied::Unavailable),
        "it is not known, and auth cannot be asked"
    );
    bench
        .publish(SessionExpired {
            account: kim(),
            session: Some(SessionId(7)),
        })
        .await;
    until(async || registry.authenticate(&kim(), JWT).await == Err(Denied::Refused)).await;
}

/// It cannot be asked: a registry on demand reads all tokens where it is a Spring service at the start of the replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_on_demand_reads_the_tokens_of_a_spring_auth() {
    let bench = bench().await;
    bench.issue("alive", 1, bench.now(), Duration::from_mins(50)).await;
    let settings = Live::new(mixed::spring(&[Service::Auth]));
    let registry = bench.replica_on_demand(&Mixed::new(settings), UNREACHABLE).await;
    assert!(is_admitted(&registry, "alive").await);
}

/// A Spring auth has no introspection, and may take longer than `access.introspection-timeout` to say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spring_auth_is_not_asked_about_tokens() {
    let bench = bench().await;
    let registry = bench.replica().await;
    assert_eq!(
        registry.authenticate(&kim(), JWT).await,
        Err(Denied::Unavailable),
        "auth of this fleet cannot be reached"
    );
    let spring = Mixed::new(Live::new(mixed::spring(&[Service::Auth])));
    let registry = bench.replica_in(&spring).await;
    assert_eq!(registry.authenticate(&kim(), JWT).await, Err(Denied::Refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_late_knows_suspended_accounts() {
    // The state was published before any token that can still be valid: only a reader from the beginning of the topic sees it.
    let age = Duration::from_hours(72);
    let clock = ManualClock::at(SystemClock.now() - age);
    let bench = bench_with(Context::with("test", 0, clock.clone(), Arc::new(SystemEntropy))).await;
    let state = |state| AccountStateChanged { account: kim(), state };
    bench.publish(state(State::Restored)).await;
    clock.advance(Duration::from_secs(1));
    bench.publish(state(State::Suspended)).await;
    clock.advance(age);
    bench.issue("valid", 1, bench.now(), Duration::from_mins(50)).await;

    let registry = bench.replica().await;
    assert_eq!(registry.authenticate(&kim(), "valid").await, Err(Denied::Refused));
    bench.publish(state(State::Restored)).await;
    until(async || is_admitted(&registry, "valid").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_reach_a_running_replica() {
    let bench = bench().await;
    let registry = bench.replica().await;
    bench.issue("first", 1, bench.now(), Duration::from_mins(1)).await;
    until(async || is_admitted(&registry, "first").await).await;
    bench
        .publish(AccountResigned {
            account: kim(),
            nickname: "kim".to_owned(),
        })
        .await;
    until(async || !is_admitted(&registry, "first").await).await;

    tokio::time::sleep(Duration::from_millis(5)).await;
    bench
        .issue("signed up again", 2, bench.now(), Duration::from_mins(1))
        .await;
    until(async || is_admitted(&registry, "signed up again").await).await;
    assert!(!is_admitted(&registry, "first").await);
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition was not met in time");
}
