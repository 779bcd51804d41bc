//! Calls of sign-in providers: Apple's authorization codes, revocation and Kakao's unlink.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sosohappy_common::clock::Clock as _;
use sosohappy_testkit::{Bed, CallAnswer, FakeProvider, PATIENCE, ProviderKey, eventually, on_both_engines};

use crate::support::{Answer, Auth, Ground, Person, send};

on_both_engines!(
    an_authorization_code_proves_and_its_token_is_revoked_at_resignation,
    a_revocation_is_retried_until_apple_accepts_it,
    a_code_that_apple_refuses_is_no_sign_in,
    an_id_token_signs_in_during_an_outage_of_apple,
    a_linked_apple_identity_is_revoked_when_it_is_unlinked,
    kakao_is_unlinked_at_resignation,
    an_unproven_claim_unlinks_no_account_at_kakao,
    apple_signs_out_and_deletes_by_notification,
    a_notification_of_a_linked_identity_keeps_the_account,
    a_notification_counts_once_and_only_from_apple,
    kakao_signs_out_and_deletes_by_webhook,
    kakaos_account_status_signs_out,
    kakao_gets_its_answers_in_time_about_unknown_people,
    a_flood_of_failures_does_not_slow_who_shows_an_id_token,
);

const EMAIL: &str = "kim@example.com";
const RAW: &str = "a-nonce-of-the-client";
const VERIFIER: &str = "abcdefghijklmnopqrst";
const CODE: &str = "c0ffee.0.code";
const REFRESH: &str = "r.apples-refresh-token";

/// Longer than the delay before any retry.
const RETRY: Duration = Duration::from_hours(2);

/// How long Kakao waits for the response to a webhook.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(3);

struct Providers {
    ground: Ground,
    auth: Auth,
    provider: FakeProvider,
}

impl Providers {
    async fn new(bed: Bed) -> Self {
        Self::with(bed, &[]).await
    }

    async fn with(bed: Bed, more: &[(&str, &str)]) -> Self {
        let ground = Ground::new(bed);
        let provider = FakeProvider::start().await;
        let key = FakeProvider::client_key();
        let (token, revoke, unlink) = (provider.at("/token"), provider.at("/revoke"), provider.at("/unlink"));
        let url = provider.keys_url();
        let mut settings = vec![
            ("sign-in.proof", "id-token"),
            ("sign-in.apple.audience", "app"),
            ("sign-in.google.audience", "app"),
            ("sign-in.kakao.audience", "app"),
            ("sign-in.kakao.trust-address", "true"),
            ("sign-in.apple.keys-url", url),
            ("sign-in.google.keys-url", url),
            ("sign-in.kakao.keys-url", url),
            ("apple.private-key", &key),
            ("apple.key-id", "key"),
            ("apple.team-id", "team"),
            ("apple.client-id", "app"),
            ("apple.token-url", &token),
            ("apple.revoke-url", &revoke),
            ("kakao.admin-key", "admin-key-of-a-test"),
            ("kakao.unlink-url", &unlink),
            // No service: only the calls of providers are awaited.
            ("resignation.services", ""),
        ];
        settings.extend(more);
        let auth = ground.auth_with(&settings).await;
        let made = Self { ground, auth, provider };
        made.apple_answers(&made.exchanged("kim"));
        made
    }

    fn id_token(&self, issuer: &str, subject: &str, nonce: Option<&str>) -> String {
        let now = self.ground.clock.now().as_second();
        let mut claims = FakeProvider::claims(issuer, subject, EMAIL, now);
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        ProviderKey::Rsa.sign(Some("rsa"), &claims)
    }

    fn apple_token(&self) -> String {
        let hashed = hex::encode(Sha256::digest(RAW));
        self.id_token("https://appleid.apple.com", "kim", Some(&hashed))
    }

    /// Apple's answer to a code of that person.
    fn exchanged(&self, subject: &str) -> Value {
        json!({
            "access_token": "a", "token_type": "Bearer", "expires_in": 3600, "refresh_token": REFRESH,
            "id_token": self.id_token("https://appleid.apple.com", subject, None),
        })
    }

    fn apple_answers(&self, body: &Value) {
        self.provider
            .set_call_answer("/token", CallAnswer::of(200, body.to_string()));
    }

    async fn sign_in(&self, provider: &str, code: &str, id_token: &str) -> Answer {
        let authorize_code = self.auth.code(VERIFIER).await;
        let fields = [
            ("email", EMAIL),
            ("provider", provider),
            ("providerId", "kim"),
            ("codeVerifier", VERIFIER),
            ("authorizeCode", &authorize_code),
            ("authorizationCode", &BASE64_STANDARD.encode(code)),
            ("idToken", id_token),
            ("nonce", RAW),
        ];
        send(self.auth.post("signIn").form(&fields)).await
    }

    async fn apple(&self) -> Person {
        Person::of(&self.sign_in("apple", CODE, "").await.expect(200))
    }

    async fn kakao(&self) -> Person {
        let token = self.id_token("https://kauth.kakao.com", "kim", Some(RAW));
        Person::of(&self.sign_in("kakao", "", &token).await.expect(200))
    }

    async fn expect_calls(&self, path: &str, count: usize) {
        eventually("the provider is called", async || {
            (self.provider.calls(path).len() == count).then_some(())
        })
        .await;
    }

    /// The provider is called again at that path.
    async fn expect_retry(&self, path: &str) {
        let tried = self.provider.calls(path).len();
        // The postponement is written after the answer: until then the claim is in the way, and passes by as well.
        eventually("the call is tried again", async || {
            self.ground.clock.advance(RETRY);
            tokio::time::sleep(Duration::from_millis(200)).await;
            (self.provider.calls(path).len() > tried).then_some(())
        })
        .await;
    }

    /// Calls that are owed, and resignations that wait.
    async fn expect_pending(&self, calls: i64) {
        eventually("calls are pending", async || {
            let pending = self.ground.rows("external_call").await;
            let waiting = "resignation WHERE completed_at IS NULL AND account IS NOT NULL";
            (pending == calls && self.ground.rows(waiting).await == calls).then_some(())
        })
        .await;
    }
}

async fn an_authorization_code_proves_and_its_token_is_revoked_at_resignation(bed: Bed) {
    let providers = Providers::new(bed).await;
    let kim = providers.apple().await;
    assert_eq!(kim.account, format!("{EMAIL}+apple"));
    let exchange = &providers.provider.calls("/token")[0].form;
    assert_eq!(exchange["code"], CODE);
    assert_eq!(exchange["client_id"], "app");
    assert_eq!(exchange["grant_type"], "authorization_code");
    let plain = "provider_token WHERE sealed LIKE '%apples-refresh-token%'";
    assert_eq!(providers.ground.rows("provider_token").await, 1);
    assert_eq!(providers.ground.rows(plain).await, 0, "the token is stored encrypted");

    providers.auth.resign(&kim).await.expect(200);
    providers.expect_calls("/revoke", 1).await;
    let revoked = &providers.provider.calls("/revoke")[0].form;
    assert_eq!(revoked["token"], REFRESH);
    assert_eq!(revoked["token_type_hint"], "refresh_token");
    providers.expect_pending(0).await;
    assert_eq!(providers.ground.rows("provider_token").await, 0);
    let receipt = "resignation_receipt WHERE service = 'apple-revocation'";
    assert_eq!(
        providers.ground.rows(receipt).await,
        1,
        "the proof names the revocation"
    );

    // Codes and tokens of the other providers are neither exchanged nor stored.
    for (provider, issuer) in [
        ("google", "https://accounts.google.com"),
        ("kakao", "https://kauth.kakao.com"),
    ] {
        let token = providers.id_token(issuer, "kim", Some(RAW));
        providers.sign_in(provider, CODE, &token).await.expect(200);
    }
    assert_eq!(providers.ground.rows("account").await, 2);
    assert_eq!(providers.ground.rows("provider_token").await, 0);
    assert_eq!(providers.provider.calls("/token").len(), 1, "Apple's alone");
}

async fn a_revocation_is_retried_until_apple_accepts_it(bed: Bed) {
    let providers = Providers::with(bed, &[("resignation.sign-up-wait", "10m")]).await;
    let kim = providers.apple().await;
    let slow = CallAnswer {
        delay: Duration::from_secs(10),
        ..CallAnswer::of(200, "")
    };
    let faults = [
        CallAnswer::of(503, ""),
        CallAnswer::of(400, r#"{"error": "invalid_client"}"#),
        CallAnswer::of(400, r#"{"error": "unauthorized_client"}"#),
        CallAnswer::of(400, "<html>"),
        CallAnswer::of(429, ""),
        CallAnswer::of(302, ""),
        CallAnswer::truncated(200, "{}"),
        slow,
    ];
    providers.provider.set_call_answer("/revoke", faults[0].clone());
    providers.auth.resign(&kim).await.expect(200);
    providers.expect_calls("/revoke", 1).await;
    tokio::time::timeout(PATIENCE, providers.apple())
        .await
        .expect("a sign-up does not wait for the provider");
    for fault in faults.into_iter().skip(1) {
        providers.provider.set_call_answer("/revoke", fault);
        providers.expect_retry("/revoke").await;
        providers.expect_pending(1).await;
    }
    // Revoked already.
    let gone = CallAnswer::of(400, r#"{"error": "invalid_grant"}"#);
    providers.provider.set_call_answer("/revoke", gone);
    providers.expect_retry("/revoke").await;
    providers.expect_pending(0).await;
}

async fn a_code_that_apple_refuses_is_no_sign_in(bed: Bed) {
    let providers = Providers::new(bed).await;
    let refused = |status, body: &str| CallAnswer::of(status, body);
    let mut other = providers.exchanged("kim");
    other["id_token"] = json!(providers.id_token("https://accounts.google.com", "kim", None));
    let mut unsigned = providers.exchanged("kim");
    unsigned["id_token"] = json!("e30.e30.");
    let mut empty = providers.exchanged("kim");
    empty["refresh_token"] = json!("");
    for (answer, status, code) in [
        (
            refused(400, r#"{"error": "invalid_grant"}"#),
            403,
            "invalid-authorization-code",
        ),
        (refused(400, r#"{"error": "invalid_client"}"#), 503, "unavailable"),
        (refused(400, r#"{"error": "invalid_request"}"#), 503, "unavailable"),
        (refused(400, r#"{"error": "unauthorized_client"}"#), 503, "unavailable"),
        (
            refused(400, r#"{"error": "unsupported_grant_type"}"#),
            503,
            "unavailable",
        ),
        (refused(400, r#"{"error": "invalid_scope"}"#), 503, "unavailable"),
        (refused(429, ""), 503, "unavailable"),
        (refused(500, ""), 503, "unavailable"),
        (
            CallAnswer::truncated(200, providers.exchanged("kim").to_string()),
            503,
            "unavailable",
        ),
        (refused(200, "<html>"), 503, "unavailable"),
        (refused(200, "{}"), 503, "unavailable"),
        (refused(200, &" ".repeat(100 * 1024)), 503, "unavailable"),
        (refused(200, &empty.to_string()), 503, "unavailable"),
        (refused(200, &other.to_string()), 503, "unavailable"),
        (refused(200, &unsigned.to_string()), 503, "unavailable"),
        (
            refused(200, &providers.exchanged("lee").to_string()),
            403,
            "invalid-id-token",
        ),
        (
            CallAnswer {
                delay: Duration::from_secs(10),
                ..refused(200, &providers.exchanged("kim").to_string())
            },
            503,
            "unavailable",
        ),
    ] {
        providers.provider.set_call_answer("/token", answer.clone());
        let refused = providers.sign_in("apple", CODE, "").await;
        assert_eq!((refused.status.as_u16(), refused.code()), (status, code), "{answer:?}");
    }
    assert_eq!(providers.ground.rows("account").await, 0);
    let without = providers.sign_in("apple", "", "").await.expect(403);
    assert_eq!(without.code(), "invalid-id-token", "neither a code nor an ID token");
    let calls = providers.provider.calls("/token").len();
    let unreadable = providers.sign_in("apple", "with a blank", "").await.expect(400);
    assert_eq!(unreadable.code(), "invalid-parameter");
    assert_eq!(providers.provider.calls("/token").len(), calls);
}

async fn an_id_token_signs_in_during_an_outage_of_apple(bed: Bed) {
    let providers = Providers::new(bed).await;
    providers.provider.set_call_answer("/token", CallAnswer::of(503, ""));
    let token = providers.apple_token();
    providers.sign_in("apple", CODE, &token).await.expect(200);
    assert_eq!(providers.ground.rows("provider_token").await, 0);
    providers.apple_answers(&providers.exchanged("kim"));
    let kim = Person::of(&providers.sign_in("apple", CODE, &token).await.expect(200));
    assert_eq!(providers.ground.rows("provider_token").await, 1);
    providers.auth.resign(&kim).await.expect(200);
    providers.expect_calls("/revoke", 1).await;
    providers.expect_pending(0).await;
}

async fn a_linked_apple_identity_is_revoked_when_it_is_unlinked(bed: Bed) {
    let providers = Providers::new(bed).await;
    let kim = providers.kakao().await;
    let fields = [
        ("provider", "apple"),
        ("providerId", "kim"),
        ("authorizationCode", &BASE64_STANDARD.encode(CODE)),
    ];
    for _ in 0..2 {
        send(kim.sign(providers.auth.post("linkIdentity").form(&fields)))
            .await
            .expect(200);
    }
    assert_eq!(providers.ground.rows("provider_token").await, 1);
    let unlinked = send(kim.sign(providers.auth.post("unlinkIdentity").form(&fields[..2]))).await;
    assert_eq!(unlinked.expect(200).body, json!({"success": true}));
    providers.expect_calls("/revoke", 1).await;
    providers.expect_pending(0).await;
    assert_eq!(providers.ground.rows("provider_token").await, 0);
    assert!(providers.provider.calls("/unlink").is_empty(), "Kakao stays linked");
}

async fn kakao_is_unlinked_at_resignation(bed: Bed) {
    let providers = Providers::new(bed).await;
    for answer in [
        CallAnswer::of(200, r#"{"id": 1}"#),
        // The person has unlinked the app before.
        CallAnswer::of(400, r#"{"msg": "NotRegisteredUserException", "code": -101}"#),
    ] {
        let before = providers.provider.calls("/unlink").len();
        providers.provider.set_call_answer("/unlink", answer);
        let kim = providers.kakao().await;
        providers.auth.resign(&kim).await.expect(200);
        providers.expect_calls("/unlink", before + 1).await;
        providers.expect_pending(0).await;
    }
    let call = &providers.provider.calls("/unlink")[0];
    assert_eq!(call.authorization.as_deref(), Some("KakaoAK admin-key-of-a-test"));
    assert_eq!(call.form["target_id_type"], "user_id");
    assert_eq!(call.form["target_id"], "kim");

    let faults = [
        CallAnswer::of(401, r#"{"msg": "wrong appKey", "code": -401}"#),
        CallAnswer::of(400, r#"{"msg": "wrong parameter", "code": -2}"#),
        CallAnswer::of(429, r#"{"msg": "api limit has been exceeded", "code": -10}"#),
        CallAnswer::of(500, r#"{"msg": "internal error", "code": -1}"#),
        CallAnswer::of(503, r#"{"msg": "under maintenance", "code": -9798}"#),
        CallAnswer::truncated(400, r#"{"msg": "NotRegisteredUserException", "code": -101}"#),
    ];
    providers.provider.set_call_answer("/unlink", faults[0].clone());
    let kim = providers.kakao().await;
    providers.auth.resign(&kim).await.expect(200);
    providers.expect_calls("/unlink", 3).await;
    for fault in faults.into_iter().skip(1) {
        providers.provider.set_call_answer("/unlink", fault);
        providers.expect_retry("/unlink").await;
        providers.expect_pending(1).await;
    }
    let unlinked = CallAnswer::of(200, r#"{"id": 1}"#);
    providers.provider.set_call_answer("/unlink", unlinked);
    providers.expect_retry("/unlink").await;
    providers.expect_pending(0).await;
}

async fn an_unproven_claim_unlinks_no_account_at_kakao(bed: Bed) {
    let providers = Providers::with(bed, &[("sign-in.kakao.proof", "none")]).await;
    let kim = Person::of(&providers.sign_in("kakao", "", "").await.expect(200));
    providers.auth.resign(&kim).await.expect(200);
    providers.expect_pending(0).await;
    assert!(providers.provider.calls("/unlink").is_empty());
}

impl Providers {
    /// Claims of Apple's notification about `kim`.
    fn apple_event(&self, kind: &str, id: &str) -> Value {
        let now = self.ground.clock.now();
        let event = json!({"type": kind, "sub": "kim", "event_time": now.as_millisecond()});
        json!({
            "iss": "https://appleid.apple.com", "aud": "app", "iat": now.as_second(), "jti": id,
            "events": event.to_string(),
        })
    }

    async fn notify_apple(&self, claims: &Value) -> Answer {
        let payload = ProviderKey::Rsa.sign(Some("rsa"), claims);
        self.notify_apple_with(&payload).await
    }

    async fn notify_apple_with(&self, payload: &str) -> Answer {
        send(self.auth.post("apple/notifications").json(&json!({"payload": payload}))).await
    }

    async fn kakao_unlinks(&self, key: &str, user: &str, kind: &str) -> Answer {
        let fields = [("app_id", "123"), ("user_id", user), ("referrer_type", kind)];
        let request = self.auth.post("kakao/unlink").form(&fields);
        send(request.header("Authorization", format!("KakaoAK {key}"))).await
    }

    async fn kakao_status(&self, user: &str, kind: &str, id: &str) -> Answer {
        let now = self.ground.clock.now().as_second();
        let uri = format!("https://schemas.openid.net/secevent/oauth/event-type/{kind}");
        let subject = json!({"subject": {"subject_type": "iss-sub", "iss": "https://kauth.kakao.com", "sub": user}});
        let claims = json!({
            "iss": "https://kauth.kakao.com", "aud": "app", "iat": now, "toe": now, "jti": id, "events": {uri: subject},
        });
        let token = ProviderKey::Rsa.sign(Some("rsa"), &claims);
        let request = self.auth.post("kakao/accountStatus");
        send(request.header("Content-Type", "application/secevent+jwt").body(token)).await
    }

    /// Notifications of a provider with this outcome.
    async fn counted(&self, provider: &str, outcome: &str) -> u32 {
        let metrics = self.auth.client.get(self.auth.running.at("/actuator/prometheus"));
        let metrics = metrics.send().await.unwrap().text().await.unwrap();
        let labels = [format!("provider=\"{provider}\""), format!("outcome=\"{outcome}\"")];
        let line = metrics.lines().find(|line| {
            line.starts_with("auth_provider_notifications_total") && labels.iter().all(|label| line.contains(label))
        });
        let value = line.and_then(|line| line.rsplit(' ').next()).expect("the counter");
        value.parse().expect("a number")
    }
}

async fn apple_signs_out_and_deletes_by_notification(bed: Bed) {
    let providers = Providers::new(bed).await;
    let kim = providers.apple().await;
    for kind in ["email-disabled", "email-enabled", "a-new-kind"] {
        let event = providers.apple_event(kind, kind);
        providers.notify_apple(&event).await.expect(200);
    }
    assert!(providers.auth.admits(&kim).await);
    let revoked = providers.apple_event("consent-revoked", "n1");
    providers.notify_apple(&revoked).await.expect(200);
    assert!(!providers.auth.admits(&kim).await);
    assert_eq!(providers.ground.rows("account").await, 1, "the account stays");

    providers.ground.clock.advance(Duration::from_secs(1));
    let kim = providers.apple().await;
    // Apple delivers it again: the new session is not part of it.
    providers.notify_apple(&revoked).await.expect(200);
    assert!(providers.auth.admits(&kim).await);
    assert_eq!(providers.counted("apple", "duplicate").await, 1);

    let deleted = providers.apple_event("account-delete", "n2");
    providers.notify_apple(&deleted).await.expect(200);
    assert_eq!(providers.ground.rows("account").await, 0);
    assert_eq!(providers.counted("apple", "resigned").await, 1);
    // The person comes back with a new account at the same subject; an old event does not end it.
    providers.ground.clock.advance(Duration::from_secs(1));
    let kim = providers.apple().await;
    let mut late = deleted.clone();
    late["jti"] = json!("n3");
    providers.notify_apple(&late).await.expect(200);
    assert!(providers.auth.admits(&kim).await);
    assert_eq!(providers.counted("apple", "outdated").await, 1);
}

async fn a_notification_of_a_linked_identity_keeps_the_account(bed: Bed) {
    let providers = Providers::new(bed).await;
    let kim = providers.kakao().await;
    let fields = [
        ("provider", "apple"),
        ("providerId", "kim"),
        ("authorizationCode", &BASE64_STANDARD.encode(CODE)),
    ];
    send(kim.sign(providers.auth.post("linkIdentity").form(&fields)))
        .await
        .expect(200);
    let other = providers.apple().await;
    assert_eq!(other.account, kim.account, "one account");
    let revoked = providers.apple_event("consent-revoked", "n1");
    providers.notify_apple(&revoked).await.expect(200);
    assert!(!providers.auth.admits(&other).await, "opened with Apple");
    assert!(providers.auth.admits(&kim).await, "opened with Kakao");
    assert_eq!(providers.ground.rows("identity").await, 2, "both are left");

    providers.ground.clock.advance(Duration::from_secs(1));
    let other = providers.apple().await;
    let deleted = providers.apple_event("account-delete", "n2");
    providers.notify_apple(&deleted).await.expect(200);
    assert!(!providers.auth.admits(&other).await, "opened with Apple");
    assert!(providers.auth.admits(&kim).await, "opened with Kakao");
    assert_eq!(providers.ground.rows("account").await, 1);
    assert_eq!(providers.ground.rows("identity").await, 1, "Kakao's is left");
    let renewed = providers.auth.reissue(&kim).await;
    assert!(providers.auth.admits(&renewed).await);
    providers.kakao().await;
}

async fn a_notification_counts_once_and_only_from_apple(bed: Bed) {
    let providers = Providers::new(bed).await;
    let kim = providers.apple().await;
    let event = providers.apple_event("account-delete", "n1");
    let with = |name: &str, value: Value| {
        let mut changed = event.clone();
        changed[name] = value;
        changed
    };
    let now = providers.ground.clock.now().as_second();
    for claims in [
        with("iss", json!("https://kauth.kakao.com")),
        with("aud", json!("another-app")),
        with("iat", json!(now + 3600)),
        with("events", json!("{}")),
        with("jti", Value::Null),
    ] {
        let refused = providers.notify_apple(&claims).await.expect(403);
        assert_eq!(refused.code(), "invalid-notification", "{claims}");
    }
    for payload in [
        String::new(),
        "x.y.z".to_owned(),
        ProviderKey::RotatedRsa.sign(Some("rsa"), &event),
        providers.apple_token(),
        ProviderKey::Rsa.sign(Some("rsa"), &event).repeat(100),
    ] {
        let refused = providers.notify_apple_with(&payload).await;
        assert!(refused.status == 403 || refused.status == 400, "{refused:?}");
    }
    assert!(providers.auth.admits(&kim).await);
    let stranger = json!({"type": "account-delete", "sub": "lee", "event_time": now * 1000}).to_string();
    providers
        .notify_apple(&with("events", json!(stranger)))
        .await
        .expect(200);
    assert_eq!(providers.counted("apple", "unknown").await, 1);
    assert!(providers.auth.admits(&kim).await);
}

async fn kakao_signs_out_and_deletes_by_webhook(bed: Bed) {
    let providers = Providers::with(bed, &[("kakao.app-id", "123")]).await;
    let key = "admin-key-of-a-test";
    let kim = providers.kakao().await;
    for wrong in ["", "another-key"] {
        let refused = providers
            .kakao_unlinks(wrong, "kim", "ACCOUNT_DELETE")
            .await
            .expect(403);
        assert_eq!(refused.code(), "invalid-notification");
    }
    let other_app = [
        ("app_id", "124"),
        ("user_id", "kim"),
        ("referrer_type", "ACCOUNT_DELETE"),
    ];
    let request = providers.auth.post("kakao/unlink").form(&other_app);
    send(request.header("Authorization", format!("KakaoAK {key}")))
        .await
        .expect(403);
    providers
        .kakao_unlinks(key, "stranger", "ACCOUNT_DELETE")
        .await
        .expect(200);
    assert!(providers.auth.admits(&kim).await);

    providers
        .kakao_unlinks(key, "kim", "UNLINK_FROM_APPS")
        .await
        .expect(200);
    assert!(!providers.auth.admits(&kim).await);
    assert_eq!(providers.ground.rows("account").await, 1);
    for _ in 0..2 {
        providers.kakao_unlinks(key, "kim", "ACCOUNT_DELETE").await.expect(200);
    }
    assert_eq!(providers.ground.rows("account").await, 0);
}

async fn kakaos_account_status_signs_out(bed: Bed) {
    let providers = Providers::new(bed).await;
    let kim = providers.kakao().await;
    providers.kakao_status("kim", "user-linked", "s1").await.expect(202);
    assert!(providers.auth.admits(&kim).await);
    providers.kakao_status("kim", "tokens-revoked", "s2").await.expect(202);
    assert!(!providers.auth.admits(&kim).await);
    let request = providers.auth.post("kakao/accountStatus");
    let forged = send(
        request
            .header("Content-Type", "application/secevent+jwt")
            .body(vec![0xff, 0xfe]),
    )
    .await;
    assert_eq!(forged.expect(403).code(), "invalid-notification");
}

async fn kakao_gets_its_answers_in_time_about_unknown_people(bed: Bed) {
    const ROUNDS: u32 = 5;
    let providers = Providers::new(bed).await;
    let kim = providers.kakao().await;
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        let unlinked = providers.kakao_unlinks("admin-key-of-a-test", "stranger", "ACCOUNT_DELETE");
        unlinked.await.expect(200);
        let id = format!("s{round}");
        let status = providers.kakao_status("stranger", "account-purged", &id).await;
        status.expect(202);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] < WEBHOOK_TIMEOUT, "{took:?}");
    assert_eq!(providers.counted("kakao", "unknown").await, 2 * ROUNDS);
    assert!(providers.auth.admits(&kim).await);
}

async fn a_flood_of_failures_does_not_slow_who_shows_an_id_token(bed: Bed) {
    let settings = [
        ("sign-in.google.proof", "none"),
        ("sign-in.failures-of-all-per-minute", "1"),
        ("sign-in.slow-down", "1h"),
    ];
    let providers = Providers::with(bed, &settings).await;
    providers.sign_in("google", "", "").await.expect(200);
    let guess = async || {
        let authorize_code = providers.auth.code(VERIFIER).await;
        let fields = [
            ("email", EMAIL),
            ("provider", "google"),
            ("providerId", "another"),
            ("codeVerifier", VERIFIER),
            ("authorizeCode", &authorize_code),
        ];
        send(providers.auth.post("signIn").form(&fields)).await
    };
    guess().await.expect(403);
    // The quota of failures is used: the next guess waits.
    let waiting = tokio::time::timeout(Duration::from_millis(500), guess()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    let slowed = async || providers.auth.metric("auth_sign_ins_slowed_total", &[]).await;
    assert!((slowed().await - 1.0).abs() < 0.5);

    providers.apple().await;
    providers.kakao().await;
    let forged = providers.sign_in("kakao", "", "x.y.z").await.expect(403);
    assert_eq!(forged.code(), "invalid-id-token");
    assert!((slowed().await - 1.0).abs() < 0.5, "proof is not slowed");
}
