//! Answers `introspect` and `lookup` as auth does, from what a test says of people.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use sosohappy_access::introspection::{IntrospectRequest, IntrospectResponse, LookupRequest, LookupResponse};
use sosohappy_common::NicknameKey;
use sosohappy_events::types::{SessionId, TokenDigest};

#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub session: SessionId,
    pub issued_at: i64,
    pub expires_at: i64,
    pub role: &'static str,
}

#[derive(Debug, Default)]
struct Book {
    nicknames: HashMap<String, String>,
    tokens: HashMap<(String, String), Known>,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeAuth {
    pub url: String,
    book: Arc<Mutex<Book>>,
}

impl FakeAuth {
    pub async fn start(service_token: &str) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let expected = format!("Bearer {service_token}");
        let routes = Router::new()
            .route("/auth-service/introspect", post(introspect))
            .route("/auth-service/lookup", post(lookup))
            .with_state((book.clone(), Arc::<str>::from(expected)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let url = format!(
            "http://{}",
            listener.local_addr().expect("a bound listener has an address")
        );
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, book }
    }

    pub fn set_nickname(&self, account: &str, nickname: Option<&str>) {
        let mut book = self.book.lock();
        match nickname {
            Some(nickname) => book.nicknames.insert(account.to_owned(), nickname.to_owned()),
            None => book.nicknames.remove(account),
        };
    }

    pub fn add_token(&self, account: &str, token: &str, known: Known) {
        let digest = format!("sha256:{}", hex::encode(TokenDigest::of(token).0));
        self.book.lock().tokens.insert((account.to_owned(), digest), known);
    }

    pub fn forget_tokens(&self, account: &str) {
        self.book.lock().tokens.retain(|(of, _), _| of != account);
    }
}

type Shared = State<(Arc<Mutex<Book>>, Arc<str>)>;

fn is_a_service(headers: &HeaderMap, expected: &str) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value == expected)
}

async fn introspect(
    State((book, expected)): Shared,
    headers: HeaderMap,
    Json(request): Json<IntrospectRequest>,
) -> Result<Json<IntrospectResponse>, StatusCode> {
    if !is_a_service(&headers, &expected) {
        return Err(StatusCode::FORBIDDEN);
    }
    let known = book
        .lock()
        .tokens
        .get(&(request.account, request.token_digest))
        .cloned();
    Ok(Json(IntrospectResponse {
        active: known.is_some(),
        session: known.as_ref().map(|known| format!("{:016x}", known.session.0)),
        issued_at: known.as_ref().map(|known| known.issued_at),
        expires_at: known.as_ref().map(|known| known.expires_at),
        role: known.map(|known| known.role.to_owned()),
    }))
}

async fn lookup(
    State((book, expected)): Shared,
    headers: HeaderMap,
    Json(request): Json<LookupRequest>,
) -> Result<Json<LookupResponse>, StatusCode> {
    if !is_a_service(&headers, &expected) {
        return Err(StatusCode::FORBIDDEN);
    }
    let book = book.lock();
    let found = book.nicknames.iter().find(|(account, nickname)| {
        let asked = request.nickname.as_deref().map(NicknameKey::of);
        request.account.as_ref() == Some(account) || asked == Some(NicknameKey::of(nickname))
    });
    Ok(Json(LookupResponse {
        account: found.map(|(account, _)| account.clone()),
        nickname: found.map(|(_, nickname)| nickname.clone()),
    }))
}
