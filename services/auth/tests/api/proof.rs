//! Sign-in with a provider's ID token.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sosohappy_common::clock::Clock as _;
use sosohappy_events::types::SessionExpired;
use sosohappy_testkit::{Bed, FakeProvider, KeysAnswer, ProviderKey, on_both_engines};

use crate::support::{Answer, Auth, Ground, Person, send};

on_both_engines!(
    a_proven_identity_signs_in_with_every_provider,
    parameters_are_read_from_every_form,
    bad_tokens_are_refused_and_store_nothing,
    an_account_needs_a_verified_address_once,
    an_address_of_kakao_counts_where_it_is_trusted,
    a_legacy_account_is_linked_by_its_verified_address_only,
    a_provider_can_be_believed_without_proof,
    keys_rotate_and_unknown_ones_are_asked_for_rarely,
    known_keys_serve_through_an_outage,
    a_misbehaving_provider_is_unavailable,
    concurrent_sign_ins_share_one_request_for_keys,
    a_linked_identity_enters_the_same_account,
    an_identity_is_never_taken_from_another_account,
    one_of_two_accounts_gets_an_identity,
    an_account_keeps_one_identity,
    an_unlinked_identity_loses_its_sessions,
    a_session_of_an_older_release_is_closed_with_any_identity,
    a_person_whose_address_changed_enters_the_same_account,
    two_accounts_of_an_older_release_stay_apart,
    believed_claims_are_linked_too,
);

const EMAIL: &str = "kim@example.com";
const RAW: &str = "a-nonce-of-the-client";
const VERIFIER: &str = "abcdefghijklmnopqrst";

/// Providers whose clients put the nonce or its hash into the token, with their issuers.
const HASHED_OR_RAW: [(&str, &str); 2] = [
    ("google", "https://accounts.google.com"),
    ("kakao", "https://kauth.kakao.com"),
];

/// Auth that asks for proof, and the one provider behind all three.
struct Proving {
    ground: Ground,
    auth: Auth,
    provider: FakeProvider,
}

impl Proving {
    async fn new(bed: Bed) -> Self {
        Self::with(bed, &[]).await
    }

    async fn with(bed: Bed, more: &[(&str, &str)]) -> Self {
        let ground = Ground::new(bed);
        let provider = FakeProvider::start().await;
        let url = provider.keys_url();
        let mut settings = vec![
            ("sign-in.proof", "id-token"),
            ("sign-in.apple.audience", "app"),
            ("sign-in.google.audience", "app,web"),
            ("sign-in.kakao.audience", "app"),
            ("sign-in.kakao.trust-address", "true"),
            ("sign-in.apple.keys-url", url),
            ("sign-in.google.keys-url", url),
            ("sign-in.kakao.keys-url", url),
        ];
        settings.extend(more);
        let auth = ground.auth_with(&settings).await;
        Self { ground, auth, provider }
    }

    /// Claims of Google about Kim.
    fn claims(&self) -> Value {
        self.claims_with(&json!({}))
    }

    /// Claims about Kim of Google, or of the issuer that the changes name.
    fn claims_with(&self, changes: &Value) -> Value {
        let issuer = changes["iss"].as_str().unwrap_or("https://accounts.google.com");
        let now = self.ground.clock.now().as_second();
        let mut claims = FakeProvider::claims(issuer, "kim", EMAIL, now);
        claims["nonce"] = json!(RAW);
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    }

    fn token_with(&self, changes: &Value) -> String {
        ProviderKey::Rsa.sign(Some("rsa"), &self.claims_with(changes))
    }

    async fn sign_in(&self, token: &str) -> Answer {
        self.sign_in_at("google", EMAIL, token, RAW).await
    }

    async fn sign_in_at(&self, provider: &str, email: &str, token: &str, nonce: &str) -> Answer {
        let code = self.auth.code(VERIFIER).await;
        let fields = [
            ("email", email),
            ("provider", provider),
            ("providerId", "kim"),
            ("codeVerifier", VERIFIER),
            ("authorizeCode", &code),
            ("idToken", token),
            ("nonce", nonce),
        ];
        send(self.auth.post("signIn").form(&fields)).await
    }
}

async fn a_proven_identity_signs_in_with_every_provider(bed: Bed) {
    let proving = Proving::new(bed).await;
    let hashed = hex::encode(Sha256::digest(RAW));
    for (provider, issuer, nonce) in [
        ("google", "https://accounts.google.com", RAW),
        ("google", "accounts.google.com", &hashed),
        ("apple", "https://appleid.apple.com", &hashed),
        ("apple", "https://account.apple.com", &hashed),
        ("kakao", "https://kauth.kakao.com", RAW),
    ] {
        let claims = proving.claims_with(&json!({"iss": issuer, "nonce": nonce}));
        for (kid, key) in [("rsa", ProviderKey::Rsa), ("ec", ProviderKey::Ec)] {
            let answer = proving
                .sign_in_at(provider, EMAIL, &key.sign(Some(kid), &claims), RAW)
                .await;
            let answer = answer.expect(200);
            assert_eq!(answer.header("email"), format!("{EMAIL}+{provider}"), "{issuer} {kid}");
        }
    }
    assert_eq!(proving.ground.rows("account").await, 3, "one account a provider");
}

async fn parameters_are_read_from_every_form(bed: Bed) {
    let proving = Proving::new(bed).await;
    let token = proving.token_with(&json!({}));
    for form in ["form", "query", "multipart", "json"] {
        let code = proving.auth.code(VERIFIER).await;
        let fields = [
            ("email", EMAIL),
            ("provider", "google"),
            ("providerId", "kim"),
            ("codeVerifier", VERIFIER),
            ("authorizeCode", &code),
            ("idToken", &token),
            ("nonce", RAW),
        ];
        let request = proving.auth.post("signIn");
        let request = match form {
            "form" => request.form(&fields),
            "query" => request.query(&fields),
            "json" => request.json(&fields.into_iter().collect::<std::collections::HashMap<_, _>>()),
            _ => request.multipart(
                fields
                    .into_iter()
                    .fold(reqwest::multipart::Form::new(), |form, (name, value)| {
                        form.text(name.to_owned(), value.to_owned())
                    }),
            ),
        };
        assert_eq!(send(request).await.status, 200, "{form}");
    }
}

/// Invalid tokens by their fault.
fn bad_tokens(proving: &Proving) -> Vec<(&'static str, String)> {
    let with = |changes: Value| proving.token_with(&changes);
    let now = proving.ground.clock.now().as_second();
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = proving.claims();
    let unsigned = |alg: &str| format!("{}.{}.", part(&json!({"alg": alg, "kid": "rsa"})), part(&claims));
    let hmac = |alg, secret: &[u8]| {
        let mut header = Header::new(alg);
        header.kid = Some("rsa".to_owned());
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).expect("signed")
    };
    let public = serde_json::to_value(ProviderKey::Rsa.jwk("rsa")).expect("JSON");
    let modulus = public["n"].as_str().expect("an RSA key");
    let modulus_bytes = BASE64_URL_SAFE_NO_PAD.decode(modulus).expect("base64url");
    let good = with(json!({}));
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (header, _) = signed.split_once('.').expect("three parts");
    let other_claims = part(&proving.claims_with(&json!({"sub": "kim", "email": "lee@example.com"})));
    let mut embedded = Header::new(Algorithm::RS256);
    embedded.jwk = Some(ProviderKey::RotatedRsa.jwk("own"));
    embedded.kid = Some("own".to_owned());
    let own_key = jsonwebtoken::encode(&embedded, &claims, &ProviderKey::RotatedRsa.encoding()).expect("signed");
    let critical = |names: &[&str]| {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some("rsa".to_owned());
        header.crit = Some(names.iter().map(|name| (*name).to_owned()).collect());
        jsonwebtoken::encode(&header, &claims, &ProviderKey::Rsa.encoding()).expect("signed")
    };
    vec![
        ("a critical extension", critical(&["x"])),
        ("an empty list of critical extensions", critical(&[])),
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("unsigned RS256", unsigned("RS256")),
        ("HS256 with the modulus", hmac(Algorithm::HS256, modulus.as_bytes())),
        ("HS256 with the modulus' bytes", hmac(Algorithm::HS256, &modulus_bytes)),
        (
            "HS256 with the key set",
            hmac(Algorithm::HS256, public.to_string().as_bytes()),
        ),
        ("HS512", hmac(Algorithm::HS512, modulus.as_bytes())),
        ("RS256 under the EC kid", ProviderKey::Rsa.sign(Some("ec"), &claims)),
        ("ES256 under the RSA kid", ProviderKey::Ec.sign(Some("rsa"), &claims)),
        (
            "another key under a known kid",
            ProviderKey::RotatedRsa.sign(Some("rsa"), &claims),
        ),
        (
            "an unknown kid",
            ProviderKey::Rsa.sign(Some("of-another-provider"), &claims),
        ),
        ("a key in the header", own_key),
        ("no kid", ProviderKey::Rsa.sign(None, &claims)),
        ("changed claims", format!("{header}.{other_claims}.{signature}")),
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("empty", String::new()),
        ("text", "not-a-token".to_owned()),
        ("huge", format!("{good}{}", "A".repeat(20_000))),
        ("other issuer", with(json!({"iss": "https://example.com"}))),
        (
            "issuer of another provider",
            with(json!({"iss": "https://kauth.kakao.com"})),
        ),
        ("other audience", with(json!({"aud": "other"}))),
        ("one audience of two", with(json!({"aud": ["app", "other"]}))),
        ("no audience", with(json!({"aud": null}))),
        ("expired", with(json!({"exp": now - 61}))),
        ("no expiry", with(json!({"exp": null}))),
        ("issued in the future", with(json!({"iat": now + 120}))),
        ("not yet valid", with(json!({"nbf": now + 120}))),
        ("wrong nonce", with(json!({"nonce": "another"}))),
        ("no nonce", with(json!({"nonce": null}))),
        ("another subject", with(json!({"sub": "lee"}))),
        ("no subject", with(json!({"sub": null}))),
    ]
}

async fn bad_tokens_are_refused_and_store_nothing(bed: Bed) {
    let proving = Proving::new(bed).await;
    for (wrong, token) in bad_tokens(&proving) {
        let answer = proving.sign_in(&token).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (403, "invalid-id-token"),
            "{wrong}"
        );
    }
    let good = proving.token_with(&json!({}));
    for nonce in ["", "another"] {
        let answer = proving.sign_in_at("google", EMAIL, &good, nonce).await;
        assert_eq!(answer.code(), "invalid-id-token", "nonce {nonce:?}");
    }
    let answer = proving.sign_in_at("kakao", EMAIL, &good, RAW).await;
    assert_eq!(answer.code(), "invalid-id-token", "a token of another provider");
    // A thief has read the hash in the token, and does not know what it is of.
    let hashed = hex::encode(Sha256::digest(RAW));
    for (provider, issuer) in HASHED_OR_RAW {
        let stolen = proving.token_with(&json!({"iss": issuer, "nonce": hashed}));
        let answer = proving.sign_in_at(provider, EMAIL, &stolen, &hashed).await;
        assert_eq!(answer.code(), "invalid-id-token", "{provider}: the hash as the nonce");
    }
    for table in ["account", "session", "access_token", "used_code", "event_outbox"] {
        assert_eq!(proving.ground.rows(table).await, 0, "{table}");
    }
    // More than `sign-in.failures-per-minute`: a forged token keeps the owner from nothing.
    proving.sign_in(&good).await.expect(200);
}

async fn an_account_needs_a_verified_address_once(bed: Bed) {
    let proving = Proving::new(bed).await;
    for changes in [
        json!({"email_verified": false}),
        json!({"email_verified": null}),
        json!({"email": "lee@example.com"}),
        json!({"email": null}),
    ] {
        let answer = proving.sign_in(&proving.token_with(&changes)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (403, "unverified-address"),
            "{changes}"
        );
    }
    assert_eq!(proving.ground.rows("account").await, 0);
    proving.sign_in(&proving.token_with(&json!({}))).await.expect(200);
    let moved = proving.token_with(&json!({"email": "kim@example.org", "email_verified": false}));
    proving.sign_in(&moved).await.expect(200);
    assert_eq!(proving.ground.rows("account").await, 1, "a known subject is known");
}

async fn an_address_of_kakao_counts_where_it_is_trusted(bed: Bed) {
    // As by default.
    let proving = Proving::with(bed, &[("sign-in.kakao.trust-address", "false")]).await;
    let refused = proving.kakao(EMAIL).await.expect(403);
    assert_eq!(refused.code(), "unverified-address");
    assert_eq!(proving.ground.rows("account").await, 0);

    let trusting = Proving {
        auth: proving
            .ground
            .auth_with(&[
                ("sign-in.proof", "id-token"),
                ("sign-in.apple.proof", "none"),
                ("sign-in.google.proof", "none"),
                ("sign-in.kakao.audience", "app"),
                ("sign-in.kakao.keys-url", proving.provider.keys_url()),
                ("sign-in.kakao.trust-address", "true"),
            ])
            .await,
        ground: proving.ground,
        provider: proving.provider.clone(),
    };
    let denied = trusting.token_with(&json!({"iss": "https://kauth.kakao.com", "email_verified": false}));
    let refused = trusting.sign_in_at("kakao", EMAIL, &denied, RAW).await.expect(403);
    assert_eq!(refused.code(), "unverified-address", "Kakao's own word counts");
    let answer = trusting.kakao(EMAIL).await.expect(200);
    assert_eq!(answer.header("email"), format!("{EMAIL}+kakao"));
}

async fn a_legacy_account_is_linked_by_its_verified_address_only(bed: Bed) {
    let proving = Proving::new(bed).await;
    proving.sign_in(&proving.token_with(&json!({}))).await.expect(200);
    // As the import writes an account whose subject the legacy service did not store.
    proving.ground.execute("DELETE FROM identity").await;
    proving.ground.execute("UPDATE account SET subject = NULL").await;
    let unknown = "SELECT COUNT(*) FROM account WHERE subject IS NULL";
    for changes in [
        json!({"email_verified": false}),
        json!({"email_verified": null}),
        json!({"email": "lee@example.com"}),
        json!({"email": null}),
    ] {
        let answer = proving.sign_in(&proving.token_with(&changes)).await.expect(403);
        assert_eq!(answer.code(), "unverified-address", "{changes}");
        assert_eq!(proving.ground.count(unknown).await, 1, "{changes}");
    }
    assert_eq!(proving.ground.rows("identity").await, 0);

    let answer = proving.sign_in(&proving.token_with(&json!({}))).await.expect(200);
    assert_eq!(answer.header("email"), format!("{EMAIL}+google"));
    let linked = "SELECT COUNT(*) FROM account WHERE subject = 'kim'";
    assert_eq!(proving.ground.count(linked).await, 1);
    assert_eq!(proving.ground.rows("account").await, 1);
    assert_eq!(proving.ground.rows("identity").await, 1);
    // Another person who has got the address since.
    let answer = proving.google("lee", EMAIL).await.expect(403);
    assert_eq!(answer.code(), "other-identity");
}

async fn a_provider_can_be_believed_without_proof(bed: Bed) {
    let proving = Proving::with(bed, &[("sign-in.kakao.proof", "none")]).await;
    proving.sign_in_at("kakao", EMAIL, "", "").await.expect(200);
    let answer = proving.sign_in_at("google", EMAIL, "", "").await;
    assert_eq!(answer.code(), "invalid-id-token");
    assert_eq!(proving.provider.requests(), 0);
}

async fn keys_rotate_and_unknown_ones_are_asked_for_rarely(bed: Bed) {
    let proving = Proving::new(bed).await;
    let rotated = ProviderKey::RotatedRsa.sign(Some("new"), &proving.claims());
    for _ in 0..3 {
        assert_eq!(proving.sign_in(&rotated).await.code(), "invalid-id-token");
    }
    assert_eq!(proving.provider.requests(), 1, "an unknown kid asks once");
    proving
        .provider
        .set_answer(KeysAnswer::Keys(vec![("new".to_owned(), ProviderKey::RotatedRsa)]));
    // Another replica, which has not asked yet, reads the new key at once.
    let other = Proving {
        auth: proving
            .ground
            .auth_with(&[
                ("sign-in.proof", "id-token"),
                ("sign-in.apple.proof", "none"),
                ("sign-in.kakao.proof", "none"),
                ("sign-in.google.audience", "app"),
                ("sign-in.google.keys-url", proving.provider.keys_url()),
            ])
            .await,
        ground: proving.ground,
        provider: proving.provider.clone(),
    };
    other.sign_in(&rotated).await.expect(200);
    let old = other.token_with(&json!({}));
    assert_eq!(
        other.sign_in(&old).await.code(),
        "invalid-id-token",
        "the old key is no longer published"
    );
    assert_eq!(other.provider.requests(), 2);
}

async fn known_keys_serve_through_an_outage(bed: Bed) {
    let proving = Proving::new(bed).await;
    let enter = async || {
        let token = proving.token_with(&json!({}));
        let entered = futures::future::join_all((0..4).map(|_| proving.sign_in(&token))).await;
        assert!(entered.iter().all(|answer| answer.status == 200), "{entered:?}");
        proving.provider.requests()
    };
    let after = async |time| {
        proving.ground.clock.advance(time);
        enter().await
    };
    assert_eq!(enter().await, 1);
    proving.provider.set_answer(KeysAnswer::Status(500));
    assert_eq!(
        after(Duration::from_mins(59)).await,
        1,
        "the keys are fresh for an hour"
    );
    assert_eq!(after(Duration::from_mins(2)).await, 2, "all share one request");
    assert_eq!(after(Duration::from_secs(1)).await, 2, "not asked again at once");
    assert_eq!(after(Duration::from_secs(2)).await, 3);
    assert_eq!(
        after(Duration::from_hours(24)).await,
        4,
        "old keys serve for the whole outage"
    );

    proving.provider.set_answer(KeysAnswer::Keys(vec![
        ("rsa".to_owned(), ProviderKey::Rsa),
        ("ec".to_owned(), ProviderKey::Ec),
    ]));
    assert_eq!(after(Duration::from_secs(2)).await, 5);
    assert_eq!(after(Duration::from_mins(59)).await, 5, "the keys are fresh again");
}

async fn a_misbehaving_provider_is_unavailable(bed: Bed) {
    let ground = Proving::new(bed).await;
    let settings = |url: &str| {
        [
            ("sign-in.proof", "id-token".to_owned()),
            ("sign-in.apple.proof", "none".to_owned()),
            ("sign-in.kakao.proof", "none".to_owned()),
            ("sign-in.google.audience", "app".to_owned()),
            ("sign-in.google.keys-url", url.to_owned()),
        ]
    };
    for answer in [
        KeysAnswer::Status(500),
        KeysAnswer::Status(404),
        KeysAnswer::Status(429),
        KeysAnswer::Status(302),
        KeysAnswer::Body(String::new()),
        KeysAnswer::Body("<html>".to_owned()),
        KeysAnswer::Body(r#"{"keys": []}"#.to_owned()),
        KeysAnswer::Body(r#"{"keys": [{"kty": "oct", "kid": "rsa", "k": "AAAA"}]}"#.to_owned()),
        KeysAnswer::Body(" ".repeat(300 * 1024)),
        KeysAnswer::Truncated(r#"{"keys": [{"kty": "RSA", "kid": "rsa"}]}"#.to_owned()),
        KeysAnswer::Slow(Duration::from_secs(10)),
    ] {
        let provider = FakeProvider::start().await;
        provider.set_answer(answer.clone());
        let settings = settings(provider.keys_url());
        let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let auth = ground.ground.auth_with(&settings).await;
        let code = auth.code(VERIFIER).await;
        let token = ground.token_with(&json!({}));
        let fields = [
            ("email", EMAIL),
            ("provider", "google"),
            ("providerId", "kim"),
            ("codeVerifier", VERIFIER),
            ("authorizeCode", &code),
            ("idToken", &token),
            ("nonce", RAW),
        ];
        for _ in 0..2 {
            let refused = send(auth.post("signIn").form(&fields)).await;
            assert_eq!(refused.status, 503, "{answer:?}");
        }
        assert_eq!(provider.requests(), 1, "{answer:?}: not asked again at once");
        auth.running.stop().await;
    }
    assert_eq!(ground.ground.rows("account").await, 0);
}

async fn concurrent_sign_ins_share_one_request_for_keys(bed: Bed) {
    let proving = Proving::new(bed).await;
    let token = proving.token_with(&json!({}));
    let answers = futures::future::join_all((0..8).map(|_| proving.sign_in(&token))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(proving.provider.requests(), 1);
}

impl Proving {
    /// Signed in at Google with this subject and address.
    async fn google(&self, subject: &str, email: &str) -> Answer {
        let code = self.auth.code(VERIFIER).await;
        let token = self.token_with(&json!({"sub": subject, "email": email}));
        let fields = [
            ("email", email),
            ("provider", "google"),
            ("providerId", subject),
            ("codeVerifier", VERIFIER),
            ("authorizeCode", &code),
            ("idToken", &token),
            ("nonce", RAW),
        ];
        send(self.auth.post("signIn").form(&fields)).await
    }

    /// Signed in at Kakao as `kim`.
    async fn kakao(&self, email: &str) -> Answer {
        let token = self.token_with(&json!({"iss": "https://kauth.kakao.com", "email": email}));
        self.sign_in_at("kakao", email, &token, RAW).await
    }

    /// Links Google's identity of this subject and address.
    async fn link(&self, by: &Person, subject: &str, email: &str) -> Answer {
        let token = self.token_with(&json!({"sub": subject, "email": email}));
        self.link_with(by, "google", subject, &token).await
    }

    async fn link_with(&self, by: &Person, provider: &str, subject: &str, token: &str) -> Answer {
        self.link_with_nonce(by, provider, subject, token, RAW).await
    }

    async fn link_with_nonce(&self, by: &Person, provider: &str, subject: &str, token: &str, nonce: &str) -> Answer {
        let fields = [
            ("provider", provider),
            ("providerId", subject),
            ("idToken", token),
            ("nonce", nonce),
        ];
        send(by.sign(self.auth.post("linkIdentity").form(&fields))).await
    }

    async fn unlink(&self, by: &Person, provider: &str, subject: &str) -> Answer {
        let fields = [("provider", provider), ("providerId", subject)];
        send(by.sign(self.auth.post("unlinkIdentity").form(&fields))).await
    }

    /// Provider and subject of each identity.
    async fn identities(&self, of: &Person) -> Vec<(String, String)> {
        let listed = send(of.sign(self.auth.get("identities"))).await.expect(200).body;
        let identities = listed["identities"].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        identities
            .map(|identity| (text(&identity["provider"]), text(&identity["providerId"])))
            .collect()
    }
}

fn listed(identities: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(provider, subject): &(&str, &str)| ((*provider).to_owned(), (*subject).to_owned());
    identities.iter().map(owned).collect()
}

async fn a_linked_identity_enters_the_same_account(bed: Bed) {
    let proving = Proving::new(bed).await;
    let kim = Person::of(&proving.kakao(EMAIL).await.expect(200));
    for _ in 0..2 {
        let answer = proving.link(&kim, "kim-at-google", "kim@gmail.com").await.expect(200);
        assert_eq!(answer.body, json!({"success": true}));
    }
    assert_eq!(
        proving.identities(&kim).await,
        listed(&[("kakao", "kim"), ("google", "kim-at-google")])
    );
    for email in ["kim@gmail.com", "kim@elsewhere.example"] {
        let answer = proving.google("kim-at-google", email).await.expect(200);
        assert_eq!(answer.header("email"), format!("{EMAIL}+kakao"), "the first key stays");
    }
    let answer = proving.kakao(EMAIL).await.expect(200);
    assert_eq!(answer.header("email"), format!("{EMAIL}+kakao"));
    assert_eq!(proving.ground.rows("account").await, 1);

    for token in [
        String::new(),
        proving.token_with(&json!({"sub": "lee"})),
        "x".to_owned(),
    ] {
        let answer = proving.link_with(&kim, "google", "kim-2", &token).await.expect(403);
        assert_eq!(answer.code(), "invalid-id-token");
    }
    let hashed = hex::encode(Sha256::digest(RAW));
    for (provider, issuer) in HASHED_OR_RAW {
        let stolen = proving.token_with(&json!({"iss": issuer, "sub": "kim-2", "nonce": hashed}));
        let answer = proving.link_with_nonce(&kim, provider, "kim-2", &stolen, &hashed).await;
        assert_eq!(
            answer.expect(403).code(),
            "invalid-id-token",
            "{provider}: the hash as the nonce"
        );
    }
    let answer = proving.link_with(&kim, "naver", "kim-2", "").await.expect(403);
    assert_eq!(answer.code(), "unknown-provider");
    let nobody = send(proving.auth.get("identities")).await.expect(403);
    assert_eq!(nobody.code(), "access-denied");

    proving.auth.resign(&kim).await.expect(200);
    assert_eq!(proving.ground.rows("identity").await, 0);
    let again = proving.google("kim-at-google", "kim@gmail.com").await.expect(200);
    assert_eq!(
        again.header("email"),
        "kim@gmail.com+google",
        "a resigned account keeps no identity"
    );
}

async fn an_identity_is_never_taken_from_another_account(bed: Bed) {
    let proving = Proving::new(bed).await;
    let kim = Person::of(&proving.kakao(EMAIL).await.expect(200));
    let lee = Person::of(&proving.google("lee", "lee@gmail.com").await.expect(200));
    let taken = async |subject: &str, email: &str| {
        let answer = proving.link(&kim, subject, email).await.expect(409);
        assert_eq!(answer.code(), "identity-taken");
    };
    taken("lee", "lee@gmail.com").await;
    // A replica of an older release writes the account's own row only.
    proving.ground.execute("DELETE FROM identity").await;
    taken("lee", "lee@elsewhere.example").await;
    // A legacy account, whose subject is not known, is its address's.
    proving
        .ground
        .execute("UPDATE account SET subject = NULL WHERE account = 'lee@gmail.com+google'")
        .await;
    taken("lee", "lee@gmail.com").await;
    assert_eq!(proving.identities(&lee).await, []);
    // The owner of the address may.
    proving.link(&lee, "lee", "lee@gmail.com").await.expect(200);
    assert_eq!(proving.identities(&lee).await, listed(&[("google", "lee")]));
    assert_eq!(proving.identities(&kim).await, listed(&[("kakao", "kim")]));
}

async fn one_of_two_accounts_gets_an_identity(bed: Bed) {
    let proving = Proving::new(bed).await;
    let kim = Person::of(&proving.kakao(EMAIL).await.expect(200));
    let lee = Person::of(&proving.google("lee", "lee@gmail.com").await.expect(200));
    for round in 0..5 {
        let subject = format!("shared-{round}");
        let (kims, lees, new) = tokio::join!(
            proving.link(&kim, &subject, "new@gmail.com"),
            proving.link(&lee, &subject, "new@gmail.com"),
            proving.google(&subject, "new@gmail.com"),
        );
        let mut outcomes = [kims.status.as_u16(), lees.status.as_u16()];
        outcomes.sort_unstable();
        let has_signed_up = new.status == 200 && new.header("email") == "new@gmail.com+google";
        // A sign-in after the link enters the account that the identity is linked to.
        assert_eq!(outcomes, if has_signed_up { [409, 409] } else { [200, 409] }, "{new:?}");
        if has_signed_up {
            proving.auth.resign(&Person::of(&new)).await.expect(200);
        }
    }
}

async fn an_account_keeps_one_identity(bed: Bed) {
    let proving = Proving::new(bed).await;
    let kim = Person::of(&proving.kakao(EMAIL).await.expect(200));
    let answer = proving.unlink(&kim, "kakao", "kim").await.expect(409);
    assert_eq!(answer.code(), "last-identity");
    proving.link(&kim, "kim-at-google", "kim@gmail.com").await.expect(200);
    let unknown = proving.unlink(&kim, "google", "unknown").await.expect(200);
    assert_eq!(unknown.body, json!({"success": false}));

    let unlinked = proving.unlink(&kim, "kakao", "kim").await.expect(200);
    assert_eq!(unlinked.body, json!({"success": true}));
    let answer = proving.google("kim-at-google", "kim@gmail.com").await.expect(200);
    assert_eq!(answer.header("email"), format!("{EMAIL}+kakao"));
    let kim = Person::of(&answer);
    assert_eq!(proving.identities(&kim).await, listed(&[("google", "kim-at-google")]));
    let refused = proving.kakao(EMAIL).await.expect(403);
    assert_eq!(refused.code(), "other-identity", "what was unlinked enters no more");
    let answer = proving.unlink(&kim, "google", "kim-at-google").await.expect(409);
    assert_eq!(answer.code(), "last-identity");

    let both = async |one: &str, other: &str| {
        tokio::join!(
            proving.unlink(&kim, "google", one),
            proving.unlink(&kim, "google", other)
        )
    };
    proving.link(&kim, "second", "kim@gmail.com").await.expect(200);
    let (one, other) = both("kim-at-google", "second").await;
    let mut outcomes = [one.status.as_u16(), other.status.as_u16()];
    outcomes.sort_unstable();
    // Unlinking the identity of the session first has closed it: the other request is then refused as that of a closed session.
    assert!(
        outcomes == [200, 409] || outcomes == [200, 403],
        "of two that are unlinked at once one stays: {outcomes:?}"
    );
    let mut entered = 0;
    for subject in ["kim-at-google", "second"] {
        let answer = proving.google(subject, EMAIL).await;
        entered += usize::from(answer.status == 200 && answer.header("email") == format!("{EMAIL}+kakao"));
    }
    assert_eq!(entered, 1, "one identity enters the account");
}

async fn an_unlinked_identity_loses_its_sessions(bed: Bed) {
    let proving = Proving::new(bed).await;
    let by_kakao = Person::of(&proving.kakao(EMAIL).await.expect(200));
    proving
        .link(&by_kakao, "kim-at-google", "kim@gmail.com")
        .await
        .expect(200);
    let by_google = [
        Person::of(&proving.google("kim-at-google", "kim@gmail.com").await.expect(200)),
        Person::of(&proving.google("kim-at-google", "kim@gmail.com").await.expect(200)),
    ];
    // A renewed session is still one of the identity that opened it.
    let by_google = [by_google[0].clone(), proving.auth.reissue(&by_google[1]).await];
    proving.unlink(&by_kakao, "google", "unknown").await.expect(200);
    for person in &by_google {
        assert!(proving.auth.admits(person).await, "an unknown identity closes nothing");
    }

    proving.unlink(&by_kakao, "google", "kim-at-google").await.expect(200);
    for person in &by_google {
        assert!(!proving.auth.admits(person).await);
        let answer = proving.auth.try_reissue(&person.account, &person.refresh).await;
        assert_eq!(answer.expect(403).code(), "refresh-denied");
    }
    assert!(
        proving.auth.admits(&by_kakao).await,
        "sessions of other identities go on"
    );
    let mut expired = proving.ground.watch::<SessionExpired>().await;
    for _ in &by_google {
        assert_eq!(expired.next().await.event.account.as_str(), by_kakao.account);
    }
}

async fn a_session_of_an_older_release_is_closed_with_any_identity(bed: Bed) {
    let proving = Proving::new(bed).await;
    let kim = Person::of(&proving.kakao(EMAIL).await.expect(200));
    proving.link(&kim, "kim-at-google", "kim@gmail.com").await.expect(200);
    proving
        .ground
        .execute("UPDATE session SET issuer = NULL, subject = NULL")
        .await;
    proving.unlink(&kim, "google", "kim-at-google").await.expect(200);
    assert!(!proving.auth.admits(&kim).await);
}

async fn a_person_whose_address_changed_enters_the_same_account(bed: Bed) {
    let proving = Proving::new(bed).await;
    proving.google("kim", EMAIL).await.expect(200);
    let moved = proving.google("kim", "kim@new.example").await.expect(200);
    assert_eq!(moved.header("email"), format!("{EMAIL}+google"));
    // As a replica of an older release has written it.
    proving.ground.execute("DELETE FROM identity").await;
    let moved = proving.google("kim", "kim@new.example").await.expect(200);
    assert_eq!(moved.header("email"), format!("{EMAIL}+google"));
    assert_eq!(proving.ground.rows("account").await, 1);
}

async fn two_accounts_of_an_older_release_stay_apart(bed: Bed) {
    let proving = Proving::new(bed).await;
    proving.google("kim", EMAIL).await.expect(200);
    proving.google("kim-2", "kim@new.example").await.expect(200);
    proving.ground.execute("DELETE FROM identity").await;
    proving.ground.execute("UPDATE account SET subject = 'kim'").await;
    for email in [EMAIL, "kim@new.example"] {
        let answer = proving.google("kim", email).await.expect(200);
        assert_eq!(answer.header("email"), format!("{email}+google"), "each at its address");
    }
}

async fn believed_claims_are_linked_too(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(crate::support::KIM).await;
    let fields = [("provider", "google"), ("providerId", "kim-at-google")];
    send(kim.sign(auth.post("linkIdentity").form(&fields)))
        .await
        .expect(200);
    let linked = auth.sign_in(("kim@gmail.com", "google", "kim-at-google")).await;
    assert_eq!(linked.account, kim.account);
    // By its address alone, as the legacy app is recognised: the same provider id at another address is another account.
    let other = auth.sign_in(("kim2@example.com", "kakao", crate::support::KIM.2)).await;
    assert_eq!(other.account, "kim2@example.com+kakao");
}
