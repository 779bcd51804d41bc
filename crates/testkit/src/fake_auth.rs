//! A fake auth: serves `introspect`, `lookup` and `mutedWordsOf` from the accounts and tokens that a test registers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use sosohappy_access::introspection::{
    IntrospectRequest, IntrospectResponse, LookupRequest, LookupResponse, MutedWordEntry, MutedWordsRequest,
    MutedWordsResponse,
};
use sosohappy_common::NicknameKey;
use sosohappy_events::types::{SessionId, TokenDigest};

/// An access token in the state that `introspect` returns.
#[derive(Debug, Clone)]
pub(crate) struct TokenRecord {
    pub session: SessionId,
    pub issued_at: i64,
    pub expires_at: i64,
    pub role: &'static str,
}

#[derive(Debug, Default)]
struct AuthState {
    /// Nicknames by account.
    nicknames: HashMap<String, String>,
    /// Tokens by account and digest.
    tokens: HashMap<(String, String), TokenRecord>,
    /// Muted words by account.
    muted: HashMap<String, Vec<MutedWordEntry>>,
    /// Blocks: by an account, of another.
    blocks: HashSet<(String, String)>,
}

/// The fake auth, on a free port of loopback. It stops with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct FakeAuth {
    pub url: String,
    state: Arc<Mutex<AuthState>>,
}

impl FakeAuth {
    /// Starts a fake auth that accepts calls with this service token.
    pub async fn start(service_token: &str) -> Self {
        let state = Arc::new(Mutex::new(AuthState::default()));
        let expected = format!("Bearer {service_token}");
        let routes = Router::new()
            .route("/auth-service/introspect", post(introspect))
            .route("/auth-service/lookup", post(lookup))
            .route("/auth-service/mutedWordsOf", post(muted_words_of))
            .with_state((state.clone(), Arc::<str>::from(expected)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let url = format!(
            "http://{}",
            listener.local_addr().expect("a bound listener has an address")
        );
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, state }
    }

    /// Sets or removes the nickname of an account.
    pub fn set_nickname(&self, account: &str, nickname: Option<&str>) {
        let mut state = self.state.lock();
        match nickname {
            Some(nickname) => state.nicknames.insert(account.to_owned(), nickname.to_owned()),
            None => state.nicknames.remove(account),
        };
    }

    /// Sets the muted words of an account.
    pub fn mute(&self, account: &str, words: Vec<MutedWordEntry>) {
        self.state.lock().muted.insert(account.to_owned(), words);
    }

    /// Sets whether an account blocks another.
    pub fn set_block(&self, account: &str, other: &str, is_blocked: bool) {
        let (mut state, pair) = (self.state.lock(), (account.to_owned(), other.to_owned()));
        if is_blocked {
            state.blocks.insert(pair);
        } else {
            state.blocks.remove(&pair);
        }
    }

    /// Registers an access token of an account.
    pub fn add_token(&self, account: &str, token: &str, record: TokenRecord) {
        let digest = format!("sha256:{}", hex::encode(TokenDigest::of(token).0));
        self.state.lock().tokens.insert((account.to_owned(), digest), record);
    }

    /// Revokes all tokens of an account.
    pub fn revoke_tokens(&self, account: &str) {
        self.state.lock().tokens.retain(|(of, _), _| of != account);
    }
}

/// The state and the expected `Authorization` header of a service.
type Shared = State<(Arc<Mutex<AuthState>>, Arc<str>)>;

fn is_authorized(headers: &HeaderMap, expected: &str) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value == expected)
}

async fn introspect(
    State((state, expected)): Shared,
    headers: HeaderMap,
    Json(request): Json<IntrospectRequest>,
) -> Result<Json<IntrospectResponse>, StatusCode> {
    if !is_authorized(&headers, &expected) {
        return Err(StatusCode::FORBIDDEN);
    }
    let record = state
        .lock()
        .tokens
        .get(&(request.account, request.token_digest))
        .cloned();
    Ok(Json(IntrospectResponse {
        active: record.is_some(),
        session: record.as_ref().map(|record| format!("{:016x}", record.session.0)),
        issued_at: record.as_ref().map(|record| record.issued_at),
        expires_at: record.as_ref().map(|record| record.expires_at),
        role: record.map(|record| record.role.to_owned()),
    }))
}

async fn lookup(
    State((state, expected)): Shared,
    headers: HeaderMap,
    Json(request): Json<LookupRequest>,
) -> Result<Json<LookupResponse>, StatusCode> {
    if !is_authorized(&headers, &expected) {
        return Err(StatusCode::FORBIDDEN);
    }
    let state = state.lock();
    // By account, or by nickname in any spelling.
    let found = state.nicknames.iter().find(|(account, nickname)| {
        let asked = request.nickname.as_deref().map(NicknameKey::of);
        request.account.as_ref() == Some(account) || asked == Some(NicknameKey::of(nickname))
    });
    Ok(Json(LookupResponse {
        account: found.map(|(account, _)| account.clone()),
        nickname: found.map(|(_, nickname)| nickname.clone()),
        introduction: found.map(|(_, nickname)| format!("{nickname}입니다")),
        is_blocked: request.account.zip(request.other).map(|(one, other)| {
            let (one, other) = ((one.clone(), other.clone()), (other, one));
            state.blocks.contains(&one) || state.blocks.contains(&other)
        }),
    }))
}

async fn muted_words_of(
    State((state, expected)): Shared,
    headers: HeaderMap,
    Json(request): Json<MutedWordsRequest>,
) -> Result<Json<MutedWordsResponse>, StatusCode> {
    if !is_authorized(&headers, &expected) {
        return Err(StatusCode::FORBIDDEN);
    }
    let words = state.lock().muted.get(&request.account).cloned().unwrap_or_default();
    Ok(Json(MutedWordsResponse { words }))
}
