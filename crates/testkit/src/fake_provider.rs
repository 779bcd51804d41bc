//! A fake sign-in provider on loopback: its public keys, ID tokens signed with them, its calls for tokens and unlinking, and faulty responses
//! that a test chooses.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use futures::stream::{self, StreamExt as _};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use serde_json::{Value, json};

/// Bits of an RSA key: small, so that a debug build generates keys quickly.
const RSA_BITS: usize = 1024;

static RSA: LazyLock<EncodingKey> = LazyLock::new(rsa_key);
static ROTATED_RSA: LazyLock<EncodingKey> = LazyLock::new(rsa_key);
static EC: LazyLock<EncodingKey> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().expect("a key can be generated");
    EncodingKey::from_ec_der(&key.serialize_der())
});

/// The key of a client, which signs client secrets.
static CLIENT: LazyLock<rcgen::KeyPair> = LazyLock::new(|| rcgen::KeyPair::generate().expect("a key can be generated"));

/// The longest lifetime of a client secret that Apple accepts, in seconds.
const CLIENT_SECRET_SECONDS: i64 = 15_777_000;

fn rsa_key() -> EncodingKey {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, RSA_BITS).expect("a key can be generated");
    EncodingKey::from_rsa_der(key.to_pkcs1_der().expect("a key has a DER form").as_bytes())
}

/// A key of a fake provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKey {
    Rsa,
    /// Another RSA key, for rotation.
    RotatedRsa,
    Ec,
}

impl ProviderKey {
    /// Returns the signature algorithm of tokens.
    #[must_use]
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Rsa | Self::RotatedRsa => Algorithm::RS256,
            Self::Ec => Algorithm::ES256,
        }
    }

    /// Returns the private key.
    #[must_use]
    pub fn encoding(self) -> EncodingKey {
        match self {
            Self::Rsa => RSA.clone(),
            Self::RotatedRsa => ROTATED_RSA.clone(),
            Self::Ec => EC.clone(),
        }
    }

    /// Returns the public key as the provider publishes it.
    ///
    /// # Panics
    /// Never, with the keys of this module.
    #[must_use]
    pub fn jwk(self, kid: &str) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.encoding(), self.algorithm()).expect("a valid key");
        jwk.common.key_id = Some(kid.to_owned());
        jwk
    }

    /// Returns a signed token with these claims.
    ///
    /// # Panics
    /// If the claims are not a JSON object.
    #[must_use]
    pub fn sign(self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm());
        header.kid = kid.map(ToOwned::to_owned);
        jsonwebtoken::encode(&header, claims, &self.encoding()).expect("claims are an object")
    }
}

/// The response of a fake provider to a request for its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysAnswer {
    /// These keys, each with its key id.
    Keys(Vec<(String, ProviderKey)>),
    /// This status with an empty body.
    Status(u16),
    /// This body with status 200.
    Body(String),
    /// The first half of this body with status 200; then the connection is closed.
    Truncated(String),
    /// An empty response after this delay.
    Slow(Duration),
}

/// A call of a client: `/token`, `/revoke` or `/unlink`.
#[derive(Debug, Clone)]
pub struct ProviderCall {
    pub path: String,
    pub authorization: Option<String>,
    pub form: HashMap<String, String>,
}

/// The response of a fake provider to a call.
#[derive(Debug, Clone)]
pub struct CallAnswer {
    pub status: u16,
    pub body: String,
    pub delay: Duration,
    /// Whether the connection is closed after the first half of the body.
    pub is_truncated: bool,
}

impl CallAnswer {
    /// Returns an immediate response.
    #[must_use]
    pub fn of(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            body: body.into(),
            delay: Duration::ZERO,
            is_truncated: false,
        }
    }

    /// Returns the first half of a response; then the connection is closed.
    #[must_use]
    pub fn truncated(status: u16, body: impl Into<String>) -> Self {
        Self {
            is_truncated: true,
            ..Self::of(status, body)
        }
    }
}

/// A provider whose responses a test chooses. It stops with the test's runtime.
#[derive(Debug, Clone)]
pub struct FakeProvider {
    url: String,
    keys_url: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<KeysAnswer>,
    requests: AtomicUsize,
    /// By path; 200 with an empty object where a test has set none.
    call_answers: Mutex<HashMap<String, CallAnswer>>,
    calls: Mutex<Vec<ProviderCall>>,
}

impl FakeProvider {
    /// Starts a provider with one RSA key `rsa` and one P-256 key `ec`.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start() -> Self {
        let keys = [("rsa", ProviderKey::Rsa), ("ec", ProviderKey::Ec)];
        let keys = keys.map(|(kid, key)| (kid.to_owned(), key)).to_vec();
        let shared = Arc::new(Shared {
            answer: Mutex::new(KeysAnswer::Keys(keys)),
            requests: AtomicUsize::new(0),
            call_answers: Mutex::default(),
            calls: Mutex::default(),
        });
        let routes = Router::new()
            .route("/keys", get(answer_keys))
            .route("/token", post(answer_call))
            .route("/revoke", post(answer_call))
            .route("/unlink", post(answer_call))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            url: format!("http://{address}"),
            keys_url: format!("http://{address}/keys"),
            shared,
        }
    }

    /// Returns the claims of an ID token for the client `app`, as the provider with this issuer makes them, but for the nonce; `now` is in
    /// seconds since 1970. Those of Kakao do not say whether the address is verified.
    #[must_use]
    pub fn claims(issuer: &str, subject: &str, email: &str, now: i64) -> Value {
        let mut claims = json!({
            "iss": issuer, "aud": "app", "sub": subject, "iat": now, "exp": now + 600, "email": email,
        });
        if issuer != "https://kauth.kakao.com" {
            claims["email_verified"] = json!(true);
        }
        claims
    }

    /// Returns the URL of the public keys.
    #[must_use]
    pub fn keys_url(&self) -> &str {
        &self.keys_url
    }

    /// Returns the URL of a call: `/token`, `/revoke` or `/unlink`.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Returns the private key in PEM form with which a client signs its secrets for `/token` and `/revoke`: `ES256`, `kid` is `key`, issuer
    /// `team`, subject `app`. A call with another secret is refused with `invalid_client`.
    #[must_use]
    pub fn client_key() -> String {
        CLIENT.serialize_pem()
    }

    /// Sets the response to later calls of that path with a valid client secret.
    pub fn set_call_answer(&self, path: &str, answer: CallAnswer) {
        self.shared.call_answers.lock().insert(path.to_owned(), answer);
    }

    /// Returns the calls of that path, the oldest first.
    #[must_use]
    pub fn calls(&self, path: &str) -> Vec<ProviderCall> {
        let calls = self.shared.calls.lock();
        calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    /// Sets the response to later requests for the keys.
    pub fn set_answer(&self, answer: KeysAnswer) {
        *self.shared.answer.lock() = answer;
    }

    /// Returns the number of requests for the keys.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

async fn answer_keys(State(shared): State<Arc<Shared>>) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let answer = shared.answer.lock().clone();
    match answer {
        KeysAnswer::Keys(keys) => {
            let keys = keys.iter().map(|(kid, key)| key.jwk(kid)).collect();
            let body = serde_json::to_string(&JwkSet { keys }).expect("keys are JSON");
            body.into_response()
        }
        KeysAnswer::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        KeysAnswer::Body(body) => body.into_response(),
        KeysAnswer::Truncated(body) => truncated(&body).into_response(),
        KeysAnswer::Slow(time) => {
            tokio::time::sleep(time).await;
            StatusCode::OK.into_response()
        }
    }
}

/// Returns a body that fails after its first half.
fn truncated(body: &str) -> Body {
    let half = body.as_bytes()[..body.len() / 2].to_vec();
    let failure = async {
        // The first half is sent meanwhile.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err::<Vec<u8>, _>(io::Error::from(io::ErrorKind::ConnectionAborted))
    };
    Body::from_stream(stream::iter([Ok(half)]).chain(stream::once(failure)))
}

async fn answer_call(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let path = uri.path().to_owned();
    let authorization = headers.get(header::AUTHORIZATION);
    let is_known_client = path == "/unlink" || form.get("client_secret").is_some_and(|secret| is_client_secret(secret));
    shared.calls.lock().push(ProviderCall {
        authorization: authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        path: path.clone(),
        form,
    });
    if !is_known_client {
        return (StatusCode::BAD_REQUEST, r#"{"error": "invalid_client"}"#).into_response();
    }
    let answer = shared.call_answers.lock().get(&path).cloned();
    let answer = answer.unwrap_or_else(|| CallAnswer::of(200, "{}"));
    tokio::time::sleep(answer.delay).await;
    let status = StatusCode::from_u16(answer.status).expect("a status");
    if answer.is_truncated {
        (status, truncated(&answer.body)).into_response()
    } else {
        (status, answer.body).into_response()
    }
}

/// Whether a client secret is as Apple documents it. The times are not compared with a clock: a test has its own.
fn is_client_secret(secret: &str) -> bool {
    let key = DecodingKey::from_ec_pem(CLIENT.public_key_pem().as_bytes()).expect("a public key");
    let mut validation = Validation::new(Algorithm::ES256);
    validation.validate_exp = false;
    validation.set_audience(&["https://appleid.apple.com"]);
    validation.set_issuer(&["team"]);
    let Ok(decoded) = jsonwebtoken::decode::<Value>(secret, &key, &validation) else {
        return false;
    };
    let (issued_at, expires_at) = (decoded.claims["iat"].as_i64(), decoded.claims["exp"].as_i64());
    let lifetime = expires_at
        .zip(issued_at)
        .map(|(expires_at, issued_at)| expires_at - issued_at);
    decoded.header.kid.as_deref() == Some("key")
        && decoded.claims["sub"] == "app"
        && lifetime.is_some_and(|lifetime| (1..=CLIENT_SECRET_SECONDS).contains(&lifetime))
}
