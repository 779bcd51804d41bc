use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::routing::get;
use futures::future::join_all;
use http::header;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::*;
use crate::clock::{ManualClock, SystemEntropy};
use crate::http::serve::Service;
use crate::http::testing::{credentials, test_settings};
use crate::lenient;

#[utoipa::path(get, path = "/test-service/read", security(("accessToken" = [])), responses((status = 200)))]
async fn read() {}

#[utoipa::path(post, path = "/test-service/write", security(("accessToken" = [])), responses((status = 200)))]
async fn write() {}

#[utoipa::path(post, path = "/test-service/signIn", responses((status = 200)))]
async fn sign_in() {}

#[utoipa::path(post, path = "/test-service/code", responses((status = 200)))]
async fn code() {}

#[utoipa::path(get, path = "/test-service/connect", security(("accessToken" = [])), responses((status = 101)))]
async fn connect() {}

/// A service whose clock stands still.
fn service(limits: &Live<RateLimits>) -> (Service, Arc<ManualClock>) {
    let routes = OpenApiRouter::new()
        .routes(routes!(read))
        .routes(routes!(write))
        .routes(Class::SignIn.of(routes!(sign_in)))
        .routes(routes!(code))
        .routes(Class::Connect.of(routes!(connect)))
        .route("/test-service/undocumented", get(|| async {}));
    let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
    let context = Context::with("test-service", 0, clock.clone(), Arc::new(SystemEntropy));
    let service = Service::new(context, Live::new(test_settings()), limits, &credentials(), routes);
    (service, clock)
}

/// A limit of each class, all of them different.
fn limits() -> RateLimits {
    let mut limits = RateLimits::off();
    limits.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    limits.per_address.anonymous = Rate::per_minute(3);
    limits.per_address.sign_in = Rate::per_minute(4);
    limits.per_address.read = Rate::per_minute(50);
    limits.per_address.write = Rate::per_minute(5);
    limits.per_address.connect = Rate::per_minute(6);
    limits
}

fn request(method: Method, path: &str, peer: &str) -> Request {
    let peer: SocketAddr = (peer.parse::<IpAddr>().expect("an address"), 4711).into();
    let request = http::Request::builder().method(method).uri(path);
    request
        .extension(ConnectInfo(peer))
        .body(Body::empty())
        .expect("a request")
}

async fn ask(service: &Service, request: Request) -> Response {
    let asked = service.router.clone().oneshot(request).await;
    asked.expect("a router always answers")
}

/// How many of so many calls pass.
async fn passed(service: &Service, calls: usize, method: Method, path: &str, peer: &str) -> usize {
    let calls = (0..calls).map(|_| ask(service, request(method.clone(), path, peer)));
    let statuses = join_all(calls).await.into_iter().map(|response| response.status());
    statuses
        .filter(|status| {
            assert!(
                [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::TOO_MANY_REQUESTS].contains(status),
                "{status}"
            );
            *status != StatusCode::TOO_MANY_REQUESTS
        })
        .count()
}

#[tokio::test]
async fn exactly_the_quota_passes_however_many_call_at_once() {
    let (service, clock) = service(&Live::new(limits()));
    let read = async |calls, peer| passed(&service, calls, Method::GET, "/test-service/read", peer).await;
    assert_eq!(read(500, "192.0.2.1").await, 50);
    assert_eq!(read(500, "192.0.2.1").await, 0);
    assert_eq!(read(500, "192.0.2.2").await, 50, "each address has its own quota");
    clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(
        read(500, "192.0.2.1").await,
        5,
        "a tenth of a minute gives a tenth of the quota back"
    );
    clock.advance(std::time::Duration::from_mins(5));
    assert_eq!(read(500, "192.0.2.1").await, 50, "and never more than the quota");
    assert_eq!(read(60, "2001:db8::1").await, 50);
    assert_eq!(read(60, "2001:db8::2").await, 0, "one network of 64 bits is one client");
}

#[tokio::test]
async fn classes_have_quotas_of_their_own() {
    let (service, _) = service(&Live::new(limits()));
    for (method, path, quota) in [
        (Method::POST, "/test-service/signIn", 4),
        (Method::POST, "/test-service/write", 5),
        (Method::HEAD, "/test-service/read", 50),
        (Method::GET, "/test-service/connect", 6),
        // Anonymous together.
        (Method::POST, "/test-service/code", 3),
        (Method::GET, "/test-service/undocumented", 0),
        (Method::GET, "/nothing/here", 0),
    ] {
        assert_eq!(passed(&service, 60, method, path, "192.0.2.1").await, quota, "{path}");
    }
    let text = service.context.metrics.render();
    for line in [
        r#"http_rate_limited_requests_total{by="address",class="sign-in",application="test-service"} 56"#,
        r#"http_rate_limited_requests_total{by="address",class="connect",application="test-service"} 54"#,
        r#"http_rate_limited_requests_total{by="account",class="upload",application="test-service"} 0"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn the_answer_says_when_to_come_back() {
    let (service, clock) = service(&Live::new(limits()));
    let call = || request(Method::POST, "/test-service/signIn", "192.0.2.1");
    for _ in 0..4 {
        assert_eq!(ask(&service, call()).await.status(), 200);
    }
    let refused = ask(&service, call()).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "15");
    assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/problem+json");
    let body = axum::body::to_bytes(refused.into_body(), 1024).await.expect("a body");
    let problem: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(problem["code"], "rate-limited");
    clock.advance(std::time::Duration::from_secs(15));
    assert_eq!(ask(&service, call()).await.status(), 200);
}

#[tokio::test]
async fn management_and_services_are_not_limited() {
    let (service, _) = service(&Live::new(limits()));
    assert_eq!(
        passed(&service, 100, Method::GET, "/actuator/info", "192.0.2.1").await,
        100
    );
    let mut with = credentials();
    for credential in [with.service_token.clone(), with.operator_token.clone()] {
        for _ in 0..100 {
            let mut call = request(Method::POST, "/test-service/write", "192.0.2.1");
            let bearer = format!("Bearer {}", credential.expose_secret());
            call.headers_mut()
                .insert(header::AUTHORIZATION, bearer.parse().expect("a header"));
            assert_eq!(ask(&service, call).await.status(), 200);
        }
    }
    with.service_token = "another-token-of-a-test".into();
    let mut refused = 0;
    for _ in 0..100 {
        let mut call = request(Method::POST, "/test-service/write", "192.0.2.1");
        let bearer = format!("Bearer {}", with.service_token.expose_secret());
        call.headers_mut()
            .insert(header::AUTHORIZATION, bearer.parse().expect("a header"));
        refused += usize::from(ask(&service, call).await.status() == 429);
    }
    assert_eq!(refused, 95, "a wrong credential exempts from nothing");
}

#[tokio::test]
async fn a_changed_limit_counts_from_the_next_call_on() {
    let settings = Live::new(limits());
    let (service, _) = service(&settings);
    let read = async |calls| passed(&service, calls, Method::GET, "/test-service/read", "192.0.2.1").await;
    assert_eq!(read(60).await, 50);
    let mut changed = limits();
    changed.per_address.read = Rate::per_minute(7);
    settings.replace(changed.clone());
    assert_eq!(read(60).await, 7);
    changed.per_address.write = Rate::Off;
    settings.replace(changed.clone());
    assert_eq!(read(60).await, 0, "a change of another limit forgives nothing");
    changed.per_address.read = Rate::Off;
    settings.replace(changed);
    assert_eq!(read(600).await, 600);
}

#[tokio::test]
async fn a_client_on_a_connection_cannot_pretend_to_be_another() {
    let settings = Live::new(limits());
    let (service, _) = service(&settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let _serving = tokio::spawn(service.serve(listener));
    let http = crate::tls::client();
    let call = async |forwarded: String| {
        let call = http.post(format!("http://{address}/test-service/signIn"));
        let answer = call.header("x-forwarded-for", forwarded).send().await;
        answer.expect("an answer").status().as_u16()
    };
    // Through a proxy on this machine, which appends the client it sees.
    for attempt in 0..4 {
        assert_eq!(call(format!("203.0.113.{attempt}, 198.51.100.7")).await, 200);
    }
    assert_eq!(call("203.0.113.9, 198.51.100.7".to_owned()).await, 429);
    assert_eq!(
        call("198.51.100.8".to_owned()).await,
        200,
        "another client behind the same proxy"
    );

    // The peer is no proxy any more: its forwarded-for header is ignored.
    let mut changed = limits();
    changed.trusted_proxies.clear();
    settings.replace(changed);
    let mut statuses = Vec::new();
    for attempt in 0..5 {
        statuses.push(call(format!("203.0.113.{attempt}")).await);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
}

#[tokio::test]
async fn documents_name_class_and_answer() {
    let (service, _) = service(&Live::new(limits()));
    let document = ask(
        &service,
        request(Method::GET, "/test-service/openapi.json", "192.0.2.1"),
    )
    .await;
    let body = axum::body::to_bytes(document.into_body(), usize::MAX)
        .await
        .expect("a body");
    let document: Value = serde_json::from_slice(&body).expect("JSON");
    for (path, method, class) in [
        ("/test-service/read", "get", "read"),
        ("/test-service/write", "post", "write"),
        ("/test-service/signIn", "post", "sign-in"),
        ("/test-service/code", "post", "anonymous"),
        ("/test-service/connect", "get", "connect"),
    ] {
        let operation = &document["paths"][path][method];
        assert_eq!(operation[EXTENSION], class, "{path}");
        let refused = &operation["responses"]["429"];
        assert_eq!(refused["headers"]["Retry-After"]["schema"]["type"], "integer");
        let schema = &refused["content"]["application/problem+json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/Problem", "{path}");
    }
}

#[test]
fn an_upload_counts_until_it_is_dropped() {
    let (uploads, two) = (Uploads::default(), NonZeroU32::new(2).expect("not 0"));
    let [kim, lee]: [Account; 2] =
        ["kim@example.com+kakao", "lee@example.com+kakao"].map(|text| text.parse().expect("an account"));
    let first = uploads.begin(&kim, two).expect("the first");
    let _second = uploads.begin(&kim, two).expect("the second");
    assert!(uploads.begin(&kim, two).is_none(), "two are in progress");
    assert!(uploads.begin(&lee, two).is_some(), "another account");
    drop(first);
    let _third = uploads.begin(&kim, two).expect("one has ended");
    assert_eq!(uploads.0.lock().len(), 1, "accounts without an upload have no entry");
}

/// Seconds of a replay.
const REPLAYED: u64 = 120;

/// The limits that every service has by default.
fn default_limits() -> RateLimits {
    let shared: Value = toml::from_str(include_str!("../settings/shared.toml")).expect("TOML");
    let (limits, unknown) = lenient::from_settings(&shared["rate-limits"]);
    assert_eq!(unknown, Vec::<String>::new());
    limits.expect("the defaults are valid")
}

/// Replays calls under the default limits: so many of a class at once, every so many seconds. Returns the number of refused calls by class.
fn refusals(
    calls: &[(Class, usize, u64)],
    check: impl Fn(&Limiters, Class) -> Result<(), Limited>,
) -> [usize; Class::ALL.len()] {
    let manual = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
    let clock: Arc<dyn Clock> = manual.clone();
    let limiters = Limiters::new(&default_limits(), None, &clock);
    let mut refused = [0; Class::ALL.len()];
    for second in 0..REPLAYED {
        for (class, at_once, every) in calls {
            if second.is_multiple_of(*every) {
                let attempts = (0..*at_once).filter(|_| check(&limiters, *class).is_err());
                refused[*class as usize] += attempts.count();
            }
        }
        manual.advance(Duration::from_secs(1));
    }
    refused
}

#[test]
fn a_busy_person_meets_no_default_limit() {
    let kim: Account = "kim@example.com+kakao".parse().expect("an account");
    let of_kim = |limiters: &Limiters, class: Class| limiters.by_account[class as usize].check(&kim);
    // All of it at one service: scrolls through feeds with pictures without a pause, likes a post each second and comments on it, posts
    // pictures, and has a network that breaks every five seconds.
    let busy = [
        (Class::Read, 10, 1),
        (Class::Write, 2, 1),
        (Class::Upload, 3, 10),
        (Class::Connect, 2, 5),
        // A page of pictures, none of which is cached.
        (Class::Read, 300, 60),
    ];
    assert_eq!(refusals(&busy, of_kim), [0; Class::ALL.len()]);
    let script = busy.map(|(class, at_once, every)| (class, 10 * at_once, every));
    let refused = refusals(&script, of_kim);
    for (class, ..) in script {
        assert!(refused[class as usize] > 0, "{class:?}: {refused:?}");
    }
}

#[test]
fn a_thousand_people_behind_one_address_meet_no_default_limit() {
    let carrier = ClientAddress::of(IpAddr::from([192, 0, 2, 1]));
    let of_carrier = |limiters: &Limiters, class: Class| limiters.by_address[class as usize].check(&carrier);
    let people = [
        // Four new people a second, each with an authorize code, and a re-issued token a second.
        (Class::SignIn, 4, 1),
        (Class::Anonymous, 5, 1),
        // One in five scrolls through pictures.
        (Class::Read, 800, 1),
        (Class::Write, 200, 1),
        (Class::Upload, 10, 1),
        (Class::Connect, 20, 1),
        // Once a minute the carrier's network breaks: each app opens its socket twice at once, and half of the access tokens have ended.
        (Class::Connect, 2_000, 60),
        (Class::Anonymous, 500, 60),
    ];
    assert_eq!(refusals(&people, of_carrier), [0; Class::ALL.len()]);
    // One address that guesses passwords, or fetches codes in a loop.
    let refused = refusals(&[(Class::SignIn, 50, 1), (Class::Anonymous, 50, 1)], of_carrier);
    assert!(
        refused[Class::SignIn as usize] > 0 && refused[Class::Anonymous as usize] > 0,
        "{refused:?}"
    );
}
