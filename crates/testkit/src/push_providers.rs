//! Fakes of FCM, its token endpoint and APNs: over HTTP/2, with their own keys, and with faulty responses that a test chooses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A push that a provider accepted.
#[derive(Debug, Clone)]
pub struct SentPush {
    /// `fcm` or `apns`.
    pub provider: &'static str,
    pub device: String,
    pub headers: HeaderMap,
    pub payload: Value,
    /// Bytes of the request's body.
    pub bytes: usize,
}

/// A faulty response of a provider to a request for a device, or for an OAuth token.
#[derive(Debug, Clone)]
pub enum Misbehaviour {
    /// A response with this status, headers and body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// A response of one mebibyte that is not JSON.
    Huge(u16),
    /// No response within a minute.
    Hang,
    /// The stream is reset in the middle of the response.
    Reset,
}

impl Misbehaviour {
    /// Returns the error that APNs documents for the reason.
    #[must_use]
    pub fn apns(status: u16, reason: &str) -> Self {
        Self::Answer(status, Vec::new(), json!({ "reason": reason }).to_string())
    }

    /// Returns the error that FCM documents for the code.
    #[must_use]
    pub fn fcm(status: u16, code: &str) -> Self {
        let details = json!([{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code }]);
        let body = json!({ "error": { "code": status, "message": code, "details": details } });
        Self::Answer(status, Vec::new(), body.to_string())
    }

    /// Adds a `Retry-After` header to a [`Misbehaviour::Answer`]; other faults stay unchanged.
    #[must_use]
    pub fn retry_after(self, value: &str) -> Self {
        match self {
            Self::Answer(status, mut headers, body) => {
                headers.push(("retry-after", value.to_owned()));
                Self::Answer(status, headers, body)
            }
            other => other,
        }
    }
}

#[derive(Debug, Default)]
struct ProviderState {
    sent: Vec<SentPush>,
    /// Faulty responses by device, or [`TOKEN_ENDPOINT`]; each is used once, in order.
    misbehaviours: HashMap<String, Vec<Misbehaviour>>,
    /// The number of push requests, including refused ones.
    requests: usize,
    /// The number of issued OAuth tokens.
    grants: usize,
    /// The distinct provider tokens that APNs received.
    provider_tokens: Vec<String>,
    /// Whether the token endpoint refuses the service account.
    tokens_refused: bool,
}

/// The fake providers, on loopback. Clones share their state. They stop with the test's runtime.
#[derive(Clone)]
pub struct PushProviders {
    pub url: String,
    /// The JSON of a service account's key.
    pub service_account: String,
    /// The authentication key of APNs, in PEM form.
    pub apns_key: String,
    state: Arc<Mutex<ProviderState>>,
    leaving: Arc<Leaving>,
    fcm_public: Arc<DecodingKey>,
    apns_public: Arc<DecodingKey>,
}

impl std::fmt::Debug for PushProviders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushProviders")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The end of all present connections.
#[derive(Debug, Default)]
struct Leaving {
    asked: Notify,
    done: Notify,
}

/// Bits of the service account's key: small, so that a debug build generates it quickly.
const RSA_BITS: usize = 1024;
pub const APNS_KEY_ID: &str = "ABC123DEFG";
pub const APNS_TEAM_ID: &str = "DEF123GHIJ";
pub const APNS_TOPIC: &str = "com.example.sosohappy";
/// For [`PushProviders::misbehave`]: the OAuth 2.0 token endpoint of FCM instead of a device.
pub const TOKEN_ENDPOINT: &str = "token endpoint";

impl PushProviders {
    /// Starts the providers.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let url = format!("http://{address}");
        let fcm_key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, RSA_BITS).expect("a key is made");
        let private = fcm_key.to_pkcs8_pem(LineEnding::LF).expect("a key has a PEM form");
        let public = fcm_key.to_public_key();
        let public = public.to_public_key_pem(LineEnding::LF).expect("a key has a PEM form");
        let apns_key = rcgen::KeyPair::generate().expect("a key is made");
        let providers = Self {
            service_account: json!({
                "type": "service_account",
                "project_id": "soso-happy",
                "private_key_id": "key-1",
                "private_key": private.as_str(),
                "client_email": "push@soso-happy.iam.gserviceaccount.com",
                "token_uri": format!("{url}/token"),
            })
            .to_string(),
            apns_key: apns_key.serialize_pem(),
            state: Arc::default(),
            leaving: Arc::default(),
            fcm_public: Arc::new(DecodingKey::from_rsa_pem(public.as_bytes()).expect("a public key")),
            apns_public: Arc::new(
                DecodingKey::from_ec_pem(apns_key.public_key_pem().as_bytes()).expect("a public key"),
            ),
            url,
        };
        let routes = Router::new()
            .route("/token", post(issue_token))
            .route("/v1/projects/soso-happy/messages:send", post(fcm))
            .route("/3/device/{device}", post(apns))
            .with_state(providers.clone());
        tokio::spawn(serve(listener, routes, providers.leaving.clone()));
        providers
    }

    /// Returns the settings with which notice sends to these providers.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("push.url", "providers:".to_owned()),
            ("push.fcm.url", self.url.clone()),
            ("push.fcm.service-account", self.service_account.clone()),
            ("push.apns.url", self.url.clone()),
            ("push.apns.key", self.apns_key.clone()),
            ("push.apns.key-id", APNS_KEY_ID.to_owned()),
            ("push.apns.team-id", APNS_TEAM_ID.to_owned()),
            ("push.apns.topic", APNS_TOPIC.to_owned()),
        ]
    }

    /// Ends each connection with GOAWAY, as providers do with old ones: open requests are answered, new ones need another connection. Returns when
    /// the connections are closed.
    pub async fn go_away(&self) {
        self.leaving.asked.notify_one();
        self.leaving.done.notified().await;
    }

    /// Queues faulty responses for the next requests for the device, or to [`TOKEN_ENDPOINT`], one for each request.
    pub fn misbehave(&self, device: &str, with: impl IntoIterator<Item = Misbehaviour>) {
        let mut state = self.state.lock();
        state.misbehaviours.entry(device.to_owned()).or_default().extend(with);
    }

    /// Sets whether the token endpoint refuses the service account.
    pub fn refuse_tokens(&self, refused: bool) {
        self.state.lock().tokens_refused = refused;
    }

    /// Returns the accepted pushes, in order.
    #[must_use]
    pub fn sent(&self) -> Vec<SentPush> {
        self.state.lock().sent.clone()
    }

    /// Returns the number of push requests, including refused ones.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.lock().requests
    }

    /// Returns the number of issued OAuth tokens.
    #[must_use]
    pub fn grants(&self) -> usize {
        self.state.lock().grants
    }

    /// Returns the number of distinct provider tokens that APNs received.
    #[must_use]
    pub fn provider_tokens(&self) -> usize {
        self.state.lock().provider_tokens.len()
    }

    /// Counts a push request, and returns the next faulty response that is queued for the device.
    fn requested(&self, device: &str) -> Option<Misbehaviour> {
        self.state.lock().requests += 1;
        self.next_misbehaviour(device)
    }

    fn next_misbehaviour(&self, device: &str) -> Option<Misbehaviour> {
        let mut state = self.state.lock();
        let queue = state.misbehaviours.get_mut(device)?;
        (!queue.is_empty()).then(|| queue.remove(0))
    }

    fn record(&self, sent: SentPush) {
        self.state.lock().sent.push(sent);
    }
}

/// Serves until the runtime ends. Connections that come while the present ones end wait at the socket.
async fn serve(listener: TcpListener, routes: Router, leaving: Arc<Leaving>) {
    let listener = listener.into_std().expect("the socket leaves the runtime");
    loop {
        let listener = listener.try_clone().expect("a socket can be cloned");
        let listener = TcpListener::from_std(listener).expect("the socket does not block");
        let until = leaving.clone();
        let serving = axum::serve(listener, routes.clone());
        let serving = serving.with_graceful_shutdown(async move { until.asked.notified().await });
        serving.await.expect("serving ends without an error");
        leaving.done.notify_one();
    }
}

async fn faulty_response(misbehaviour: Misbehaviour) -> Response {
    match misbehaviour {
        Misbehaviour::Answer(status, headers, body) => {
            let mut response = (status_of(status), body).into_response();
            for (name, value) in headers {
                response
                    .headers_mut()
                    .insert(name, value.parse().expect("a header's value"));
            }
            response
        }
        Misbehaviour::Huge(status) => (status_of(status), "x".repeat(1 << 20)).into_response(),
        Misbehaviour::Hang => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            StatusCode::OK.into_response()
        }
        Misbehaviour::Reset => {
            let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]);
            (StatusCode::SERVICE_UNAVAILABLE, Body::from_stream(broken)).into_response()
        }
    }
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status")
}

/// Returns the token of the `Authorization` header; empty if there is none.
fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split_once(' '))
        .map_or("", |(_, token)| token)
}

/// The OAuth 2.0 token endpoint: issues a token for a JWT that the service account has signed (RFC 7523).
async fn issue_token(State(providers): State<PushProviders>, body: String) -> Response {
    let refused = || {
        let problem = json!({ "error": "invalid_grant", "error_description": "Invalid JWT Signature." });
        (StatusCode::BAD_REQUEST, Json(problem)).into_response()
    };
    if let Some(misbehaviour) = providers.next_misbehaviour(TOKEN_ENDPOINT) {
        return faulty_response(misbehaviour).await;
    }
    if providers.state.lock().tokens_refused {
        return refused();
    }
    let assertion = body.split('&').find_map(|field| field.strip_prefix("assertion="));
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[format!("{}/token", providers.url)]);
    let Some(claims) = assertion
        .and_then(|assertion| jsonwebtoken::decode::<Value>(assertion, &providers.fcm_public, &validation).ok())
    else {
        return refused();
    };
    let claims = claims.claims;
    if claims["scope"] != "https://www.googleapis.com/auth/firebase.messaging" {
        return refused();
    }
    let number = {
        let mut state = providers.state.lock();
        state.grants += 1;
        state.grants
    };
    Json(json!({ "access_token": format!("oauth-{number}"), "expires_in": 3599, "token_type": "Bearer" }))
        .into_response()
}

async fn fcm(State(providers): State<PushProviders>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    assert_eq!(parts.version, Version::HTTP_2);
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let payload: Value = serde_json::from_slice(&body).unwrap_or_default();
    let target = ["token", "fid"].map(|field| payload["message"][field].as_str());
    let device = target.into_iter().flatten().next().unwrap_or_default().to_owned();
    if let Some(misbehaviour) = providers.requested(&device) {
        return faulty_response(misbehaviour).await;
    }
    if !bearer(&parts.headers).starts_with("oauth-") {
        return faulty_response(Misbehaviour::fcm(401, "UNAUTHENTICATED")).await;
    }
    if body.len() > 4096 {
        return faulty_response(Misbehaviour::fcm(400, "INVALID_ARGUMENT")).await;
    }
    providers.record(SentPush {
        provider: "fcm",
        device,
        headers: parts.headers,
        payload,
        bytes: body.len(),
    });
    Json(json!({ "name": "projects/soso-happy/messages/1" })).into_response()
}

async fn apns(State(providers): State<PushProviders>, Path(device): Path<String>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    assert_eq!(parts.version, Version::HTTP_2);
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    if let Some(misbehaviour) = providers.requested(&device) {
        return faulty_response(misbehaviour).await;
    }
    let token = bearer(&parts.headers);
    // Tokens of APNs have an `iat` and no `exp`.
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let valid = jsonwebtoken::decode::<Value>(token, &providers.apns_public, &validation);
    let valid = valid
        .is_ok_and(|token| token.header.kid.as_deref() == Some(APNS_KEY_ID) && token.claims["iss"] == APNS_TEAM_ID);
    if !valid {
        return faulty_response(Misbehaviour::apns(403, "InvalidProviderToken")).await;
    }
    if parts.headers.get("apns-topic").is_none_or(|topic| topic != APNS_TOPIC) {
        return faulty_response(Misbehaviour::apns(400, "MissingTopic")).await;
    }
    if body.len() > 4096 {
        return faulty_response(Misbehaviour::apns(413, "PayloadTooLarge")).await;
    }
    {
        let mut state = providers.state.lock();
        if !state.provider_tokens.iter().any(|known| known == token) {
            state.provider_tokens.push(token.to_owned());
        }
    }
    providers.record(SentPush {
        provider: "apns",
        device,
        headers: parts.headers,
        payload: serde_json::from_slice(&body).unwrap_or_default(),
        bytes: body.len(),
    });
    StatusCode::OK.into_response()
}
