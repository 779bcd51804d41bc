//! Protected routes: headers in, status out; and the owner rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor, Authenticator, Caller, Denied, Identity, Names, protect};
use sosohappy_common::Account;
use sosohappy_events::types::{Role, SessionId, TokenDigest};
use tower::ServiceExt as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

fn account(text: &str) -> Account {
    text.parse().expect("a test account is valid")
}

/// `live` is kim's token; `maybe` cannot be checked.
#[derive(Debug)]
struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, account: &Account, token: &str) -> Result<Caller, Denied> {
        match (account.as_str(), token) {
            ("kim@example.com+kakao", "live") => Ok(Caller {
                account: account.clone(),
                token: TokenDigest::of(token),
                session: SessionId(1),
                role: Role::User,
                issued_at: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::MAX,
                bearer: None,
            }),
            (_, "maybe") => Err(Denied::Unavailable),
            _ => Err(Denied::Refused),
        }
    }
}

/// The directory still knows kim as `kim`; auth knows the rename to `kimchi`. With `down` auth does not answer.
#[derive(Debug)]
struct Known {
    down: bool,
    catching_up: AtomicBool,
    /// Whether the last names are read while the directory is asked.
    caught_up_meanwhile: bool,
}

#[async_trait]
impl Names for Known {
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        if self.caught_up_meanwhile {
            self.catching_up.store(false, Ordering::SeqCst);
        }
        Ok(match nickname {
            "kim" => Some(account("kim@example.com+kakao")),
            "lee" => Some(account("lee@example.com+kakao")),
            _ => None,
        })
    }

    async fn account_of_fresh(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        match nickname {
            _ if self.down => Err(Denied::Unavailable),
            "kimchi" => Ok(Some(account("kim@example.com+kakao"))),
            other => self.account_of(other).await,
        }
    }

    fn is_catching_up(&self) -> bool {
        self.catching_up.load(Ordering::SeqCst)
    }

    async fn nicknames_of(&self, _accounts: &[Account]) -> Result<Vec<Option<String>>, Denied> {
        Ok(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
struct Save {
    #[serde(default)]
    nickname: Option<String>,
    #[serde(default)]
    email: Option<String>,
}

impl Actor for Save {
    fn acting(&self) -> Acting<'_> {
        match (&self.nickname, &self.email) {
            (Some(nickname), _) => Acting::Nickname(nickname),
            (None, Some(email)) => Acting::Account(email),
            (None, None) => Acting::Caller,
        }
    }
}

#[utoipa::path(post, path = "/save", responses((status = 200)))]
async fn save(act: Act<Save>) -> impl IntoResponse {
    act.caller.account.as_str().to_owned()
}

#[utoipa::path(get, path = "/open", responses((status = 200)))]
async fn open() {}

fn routes(down: bool) -> OpenApiRouter {
    routes_with(Known {
        down,
        catching_up: AtomicBool::new(false),
        caught_up_meanwhile: false,
    })
}

fn routes_with(names: Known) -> OpenApiRouter {
    let identity = Identity {
        authenticator: Arc::new(Tokens),
        names: Arc::new(names),
    };
    OpenApiRouter::new()
        .merge(protect(OpenApiRouter::new().routes(routes!(save)), identity))
        .routes(routes!(open))
}

async fn send(down: bool, query: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let mut request = Request::post(format!("/save{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(routes(down), request).await
}

async fn ask(routes: OpenApiRouter, request: http::request::Builder) -> (StatusCode, String) {
    let app: Router = routes.into();
    let answer = app
        .oneshot(request.body(Body::empty()).expect("a valid request"))
        .await
        .expect("axum is infallible");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

const EMAIL: (&str, &str) = ("email", "kim@example.com+kakao");
const LIVE: (&str, &str) = ("authorization", "Bearer live");

#[tokio::test]
async fn a_valid_token_is_admitted() {
    let (status, body) = send(false, "", &[EMAIL, LIVE]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "kim@example.com+kakao"));
    let (status, _) = send(
        false,
        "",
        &[("Email", "kim@example.com+kakao"), ("AUTHORIZATION", "bearer live")],
    )
    .await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn other_credentials_are_403() {
    let other = ("email", "lee@example.com+kakao");
    for headers in [
        &[][..],
        &[EMAIL],
        &[LIVE],
        &[EMAIL, ("authorization", "live")],
        &[EMAIL, ("authorization", "Basic live")],
        &[EMAIL, ("authorization", "Bearer ")],
        &[EMAIL, ("authorization", "Bearer dead")],
        &[EMAIL, ("authorization", "Bearer li ve")],
        &[other, LIVE],
        &[("email", "kim"), LIVE],
        &[("email", ""), LIVE],
        &[EMAIL, other, LIVE],
        &[other, EMAIL, LIVE],
        &[EMAIL, LIVE, ("authorization", "Bearer dead")],
    ] {
        let (status, body) = send(false, "", headers).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{headers:?}");
        assert!(body.contains("\"access-denied\""), "{body}");
    }
    let long = format!("Bearer {}", "x".repeat(5_000));
    assert_eq!(
        send(false, "", &[EMAIL, ("authorization", &long)]).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn an_unavailable_authenticator_is_503_with_retry_after() {
    let request = Request::post("/save")
        .header("email", EMAIL.1)
        .header("authorization", "Bearer maybe");
    let app: Router = routes(false).into();
    let answer = app
        .oneshot(request.body(Body::empty()).expect("a valid request"))
        .await
        .expect("axum is infallible");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn acting_for_another_account_is_refused() {
    for (query, expected) in [
        ("?nickname=kim", StatusCode::OK),
        ("?nickname=kimchi", StatusCode::OK),
        ("?nickname=lee", StatusCode::FORBIDDEN),
        ("?nickname=nobody", StatusCode::FORBIDDEN),
        ("?nickname=", StatusCode::FORBIDDEN),
        ("?email=kim@example.com%2Bkakao", StatusCode::OK),
        ("?email=lee@example.com%2Bkakao", StatusCode::FORBIDDEN),
        // The same account in another letter case.
        ("?email=KIM@example.com%2Bkakao", StatusCode::OK),
    ] {
        let (status, body) = send(false, query, &[EMAIL, LIVE]).await;
        assert_eq!(status, expected, "{query}: {body}");
        assert_eq!(
            status == StatusCode::FORBIDDEN,
            body.contains("\"not-yourself\""),
            "{query}: {body}"
        );
    }
}

#[tokio::test]
async fn a_name_is_not_denied_before_all_names_are_read() {
    for (down, query, expected) in [
        (false, "?nickname=kim", StatusCode::OK),
        (false, "?nickname=kimchi", StatusCode::OK),
        // Auth has said whose it is.
        (false, "?nickname=lee", StatusCode::FORBIDDEN),
        (false, "?nickname=nobody", StatusCode::SERVICE_UNAVAILABLE),
        // Kim may have taken lee's name since.
        (true, "?nickname=lee", StatusCode::SERVICE_UNAVAILABLE),
        (true, "?nickname=kimchi", StatusCode::SERVICE_UNAVAILABLE),
        (true, "?email=lee@example.com%2Bkakao", StatusCode::FORBIDDEN),
    ] {
        for caught_up_meanwhile in [false, true] {
            let request = Request::post(format!("/save{query}"))
                .header(EMAIL.0, EMAIL.1)
                .header(LIVE.0, LIVE.1);
            let names = Known {
                down,
                catching_up: AtomicBool::new(true),
                caught_up_meanwhile,
            };
            let (status, body) = ask(routes_with(names), request).await;
            assert_eq!(status, expected, "{query}: {body}");
        }
    }
}

#[tokio::test]
async fn while_auth_is_unavailable_the_last_known_name_counts() {
    for (query, expected) in [
        ("?nickname=kim", StatusCode::OK),
        ("?nickname=lee", StatusCode::FORBIDDEN),
        ("?nickname=kimchi", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        assert_eq!(send(true, query, &[EMAIL, LIVE]).await.0, expected, "{query}");
    }
}

#[test]
fn the_document_names_the_credentials_of_protected_routes() {
    let document = routes(false).into_openapi();
    let document = serde_json::to_value(&document).expect("documents are JSON");
    let save = &document["paths"]["/save"]["post"];
    assert_eq!(
        save["security"],
        serde_json::json!([{ "accessToken": [], "account": [] }])
    );
    assert!(
        save["responses"]["403"]["content"]["application/problem+json"].is_object(),
        "{save}"
    );
    assert!(document["paths"]["/open"]["get"]["security"].is_null());
    assert_eq!(document["components"]["securitySchemes"]["account"]["name"], "email");
    assert!(document["components"]["schemas"]["Problem"].is_object());
}
