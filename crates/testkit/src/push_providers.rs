//! Stand-ins for FCM, its token endpoint and APNs: over HTTP/2, with keys of their own, and misbehaving as a test says.

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

/// A push that a provider took.
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

/// How a provider answers the next request for a device.
#[derive(Debug, Clone)]
pub enum Misbehaviour {
    /// An answer with this status, headers and body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// An answer of a megabyte that is no JSON.
    Huge(u16),
    /// No answer within a minute.
    Hang,
    /// The stream is reset in the middle of the answer.
    Reset,
}

impl Misbehaviour {
    /// The error that APNs documents for the reason.
    #[must_use]
    pub fn apns(status: u16, reason: &str) -> Self {
        Self::Answer(status, Vec::new(), json!({ "reason": reason }).to_string())
    }

    /// The error that FCM documents for the code.
    #[must_use]
    pub fn fcm(status: u16, code: &str) -> Self {
        let details = json!([{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code }]);
        let body = json!({ "error": { "code": status, "message": code, "details": details } });
        Self::Answer(status, Vec::new(), body.to_string())
    }

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
struct Book {
    sent: Vec<SentPush>,
    /// Answers by device, used up one by one.
    misbehaviours: HashMap<String, Vec<Misbehaviour>>,
    /// Requests, the refused ones included.
    requests: usize,
    /// OAuth tokens handed out.
    grants: usize,
    /// Provider tokens seen at APNs.
    provider_tokens: Vec<String>,
    tokens_refused: bool,
}

/// The providers, on loopback. Clones share what they took.
#[derive(Clone)]
pub struct PushProviders {
    pub url: String,
    /// The JSON of a service account's key.
    pub service_account: String,
    /// The authentication key of APNs, in PEM form.
    pub apns_key: String,
    book: Arc<Mutex<Book>>,
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

/// Bits of the service account's key: as many as are made quickly without optimisation.
const RSA_BITS: usize = 1024;
pub const APNS_KEY_ID: &str = "ABC123DEFG";
pub const APNS_TEAM_ID: &str = "DEF123GHIJ";
pub const APNS_TOPIC: &str = "com.example.sosohappy";

impl PushProviders {
    /// # Panics
    /// When loopback has no free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
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
            book: Arc::default(),
            fcm_public: Arc::new(DecodingKey::from_rsa_pem(public.as_bytes()).expect("a public key")),
            apns_public: Arc::new(
                DecodingKey::from_ec_pem(apns_key.public_key_pem().as_bytes()).expect("a public key"),
            ),
            url,
        };
        let routes = Router::new()
            .route("/token", post(grant))
            .route("/v1/projects/soso-happy/messages:send", post(fcm))
            .route("/3/device/{device}", post(apns))
            .with_state(providers.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        providers
    }

    /// Settings of notice that send to these providers.
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

    /// The next requests for the device are answered so, one after the other.
    pub fn misbehave(&self, device: &str, with: impl IntoIterator<Item = Misbehaviour>) {
        let mut book = self.book.lock();
        book.misbehaviours.entry(device.to_owned()).or_default().extend(with);
    }

    /// From here on the token endpoint refuses the service account, or takes it again.
    pub fn refuse_tokens(&self, refused: bool) {
        self.book.lock().tokens_refused = refused;
    }

    #[must_use]
    pub fn sent(&self) -> Vec<SentPush> {
        self.book.lock().sent.clone()
    }

    #[must_use]
    pub fn requests(&self) -> usize {
        self.book.lock().requests
    }

    #[must_use]
    pub fn grants(&self) -> usize {
        self.book.lock().grants
    }

    /// How many different provider tokens APNs saw.
    #[must_use]
    pub fn provider_tokens(&self) -> usize {
        self.book.lock().provider_tokens.len()
    }

    fn next(&self, device: &str) -> Option<Misbehaviour> {
        let mut book = self.book.lock();
        book.requests += 1;
        let waiting = book.misbehaviours.get_mut(device)?;
        (!waiting.is_empty()).then(|| waiting.remove(0))
    }

    fn took(&self, sent: SentPush) {
        self.book.lock().sent.push(sent);
    }
}

async fn misbehaving(misbehaviour: Misbehaviour) -> Response {
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

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split_once(' '))
        .map_or("", |(_, token)| token)
}

async fn grant(State(providers): State<PushProviders>, body: String) -> Response {
    let refused = || {
        let problem = json!({ "error": "invalid_grant", "error_description": "Invalid JWT Signature." });
        (StatusCode::BAD_REQUEST, Json(problem)).into_response()
    };
    if providers.book.lock().tokens_refused {
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
        let mut book = providers.book.lock();
        book.grants += 1;
        book.grants
    };
    Json(json!({ "access_token": format!("oauth-{number}"), "expires_in": 3599, "token_type": "Bearer" }))
        .into_response()
}

async fn fcm(State(providers): State<PushProviders>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    assert_eq!(parts.version, Version::HTTP_2);
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let payload: Value = serde_json::from_slice(&body).unwrap_or_default();
    let device = payload["message"]["token"].as_str().unwrap_or_default().to_owned();
    if let Some(misbehaviour) = providers.next(&device) {
        return misbehaving(misbehaviour).await;
    }
    if !bearer(&parts.headers).starts_with("oauth-") {
        return misbehaving(Misbehaviour::fcm(401, "UNAUTHENTICATED")).await;
    }
    if body.len() > 4096 {
        return misbehaving(Misbehaviour::fcm(400, "INVALID_ARGUMENT")).await;
    }
    providers.took(SentPush {
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
    if let Some(misbehaviour) = providers.next(&device) {
        return misbehaving(misbehaviour).await;
    }
    let token = bearer(&parts.headers);
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let valid = jsonwebtoken::decode::<Value>(token, &providers.apns_public, &validation);
    let valid = valid
        .is_ok_and(|token| token.header.kid.as_deref() == Some(APNS_KEY_ID) && token.claims["iss"] == APNS_TEAM_ID);
    if !valid {
        return misbehaving(Misbehaviour::apns(403, "InvalidProviderToken")).await;
    }
    if parts.headers.get("apns-topic").is_none_or(|topic| topic != APNS_TOPIC) {
        return misbehaving(Misbehaviour::apns(400, "MissingTopic")).await;
    }
    if body.len() > 4096 {
        return misbehaving(Misbehaviour::apns(413, "PayloadTooLarge")).await;
    }
    {
        let mut book = providers.book.lock();
        if !book.provider_tokens.iter().any(|known| known == token) {
            book.provider_tokens.push(token.to_owned());
        }
    }
    providers.took(SentPush {
        provider: "apns",
        device,
        headers: parts.headers,
        payload: serde_json::from_slice(&body).unwrap_or_default(),
        bytes: body.len(),
    });
    StatusCode::OK.into_response()
}
