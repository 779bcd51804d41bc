//! A fake sign-in provider on loopback: its public keys, ID tokens signed with them, and faulty responses that a test chooses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use serde_json::Value;

/// Bits of an RSA key: small, so that a debug build generates keys quickly.
const RSA_BITS: usize = 1024;

static RSA: LazyLock<EncodingKey> = LazyLock::new(rsa_key);
static ROTATED_RSA: LazyLock<EncodingKey> = LazyLock::new(rsa_key);
static EC: LazyLock<EncodingKey> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().expect("a key can be generated");
    EncodingKey::from_ec_der(&key.serialize_der())
});

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
    /// An empty response after this delay.
    Slow(Duration),
}

/// A provider whose responses a test chooses. It stops with the test's runtime.
#[derive(Debug, Clone)]
pub struct FakeProvider {
    keys_url: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<KeysAnswer>,
    requests: AtomicUsize,
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
        });
        let routes = Router::new()
            .route("/keys", get(answer_keys))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            keys_url: format!("http://{address}/keys"),
            shared,
        }
    }

    /// Returns the URL of the public keys.
    #[must_use]
    pub fn keys_url(&self) -> &str {
        &self.keys_url
    }

    /// Sets the response to later requests.
    pub fn set_answer(&self, answer: KeysAnswer) {
        *self.shared.answer.lock() = answer;
    }

    /// Returns the number of requests for the keys.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

async fn answer_keys(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let answer = shared.answer.lock().clone();
    match answer {
        KeysAnswer::Keys(keys) => {
            let keys = keys.iter().map(|(kid, key)| key.jwk(kid)).collect();
            let body = serde_json::to_string(&JwkSet { keys }).expect("keys are JSON");
            (StatusCode::OK, body)
        }
        KeysAnswer::Status(status) => (StatusCode::from_u16(status).expect("a status"), String::new()),
        KeysAnswer::Body(body) => (StatusCode::OK, body),
        KeysAnswer::Slow(time) => {
            tokio::time::sleep(time).await;
            (StatusCode::OK, String::new())
        }
    }
}
