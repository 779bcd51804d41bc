use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use sosohappy_common::clock::ManualClock;
use sosohappy_testkit::push_providers::{Misbehaviour, PushProviders, TOKEN_ENDPOINT};
use sosohappy_testkit::{Bed, EngineSet, eventually};

use super::*;
use crate::{DEFAULTS, Settings};

const PHONE: &str = "fcm-registration:token";
const PAD: &str = "a1a1a1a1";

/// The clients of both providers, with the fakes that they send to.
struct Bench {
    fcm: Fcm,
    apns: Apns,
    providers: PushProviders,
    clock: Arc<ManualClock>,
    context: Context,
    _bed: Bed,
}

async fn bench() -> Bench {
    bench_with(TIMEOUT).await
}

async fn bench_with(timeout: Duration) -> Bench {
    let bed = Bed::new(EngineSet::Embedded).await;
    let providers = PushProviders::start().await;
    let settings = providers.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let settings = bed.settings::<Settings>("notice", DEFAULTS, &settings).await.get();
    // The fake of the token endpoint reads the machine's clock.
    let clock = ManualClock::at(bed.context.clock.now());
    let mut context = bed.context("notice-service");
    context.clock = clock.clone();
    Bench {
        fcm: Fcm::new(&settings.push.fcm, timeout, &context).expect("a service account"),
        apns: Apns::new(&settings.push.apns, timeout, &context).expect("a key"),
        providers,
        clock,
        context,
        _bed: bed,
    }
}

impl Bench {
    async fn to_fcm(&self, device: &str) -> Result<(), PushError> {
        let event = EventId::new(&self.context);
        self.fcm.push(device, event, &PushMessage::Badge(1)).await
    }

    async fn to_apns(&self, device: &str) -> Result<(), PushError> {
        let event = EventId::new(&self.context);
        self.apns.push(device, event, &PushMessage::Badge(1)).await
    }

    fn after_minutes(&self, minutes: u64) {
        self.clock.advance(Duration::from_mins(minutes));
    }
}

fn meaning(answer: &Result<(), PushError>) -> &'static str {
    match answer {
        Ok(()) => "accepted",
        Err(PushError::Gone { .. }) => "gone",
        Err(PushError::ForeignToken) => "foreign",
        Err(PushError::Refused(_)) => "refused",
        Err(PushError::Credential(_)) => "credential",
        Err(PushError::Unavailable { .. }) => "unavailable",
    }
}

/// <https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns>.
const APNS_REASONS: [(u16, &str, &str); 33] = [
    (400, "BadDeviceToken", "gone"),
    (410, "Unregistered", "gone"),
    (410, "ExpiredToken", "gone"),
    (400, "DeviceTokenNotForTopic", "foreign"),
    (400, "BadTopic", "credential"),
    (400, "MissingTopic", "credential"),
    (400, "TopicDisallowed", "credential"),
    (400, "InvalidPushType", "credential"),
    (403, "BadCertificate", "credential"),
    (403, "BadCertificateEnvironment", "credential"),
    (403, "ExpiredProviderToken", "credential"),
    (403, "Forbidden", "credential"),
    (403, "InvalidProviderToken", "credential"),
    (403, "MissingProviderToken", "credential"),
    (403, "UnrelatedKeyIdInToken", "credential"),
    (403, "BadEnvironmentKeyIdInToken", "credential"),
    (400, "BadCollapseId", "refused"),
    (400, "BadExpirationDate", "refused"),
    (400, "BadMessageId", "refused"),
    (400, "BadPriority", "refused"),
    (400, "DuplicateHeaders", "refused"),
    (400, "MissingDeviceToken", "refused"),
    (400, "PayloadEmpty", "refused"),
    (404, "BadPath", "refused"),
    (405, "MethodNotAllowed", "refused"),
    (413, "PayloadTooLarge", "refused"),
    (400, "IdleTimeout", "unavailable"),
    (429, "TooManyProviderTokenUpdates", "unavailable"),
    (429, "TooManyRequests", "unavailable"),
    (500, "InternalServerError", "unavailable"),
    (503, "ServiceUnavailable", "unavailable"),
    (503, "Shutdown", "unavailable"),
    (502, "", "unavailable"),
];

async fn every_reason_of_apns_is_understood(bench: &Bench) {
    for (number, (status, reason, expected)) in APNS_REASONS.into_iter().enumerate() {
        let device = format!("{number:064x}");
        bench.providers.misbehave(&device, [Misbehaviour::apns(status, reason)]);
        let answer = bench.to_apns(&device).await;
        assert_eq!(meaning(&answer), expected, "{status} {reason}: {answer:?}");
        let again = bench.to_apns(&device).await;
        assert_eq!(meaning(&again), "accepted", "after {status} {reason}: {again:?}");
    }

    let body = json!({ "reason": "Unregistered", "timestamp": 1_700_000_000_123_i64 }).to_string();
    bench
        .providers
        .misbehave(PAD, [Misbehaviour::Answer(410, Vec::new(), body)]);
    let moment = Timestamp::from_millisecond(1_700_000_000_123).ok();
    let answer = bench.to_apns(PAD).await;
    assert!(
        matches!(answer, Err(PushError::Gone { since }) if since == moment),
        "{answer:?}"
    );
    for status in [429, 503] {
        let later = Misbehaviour::apns(status, "TooManyRequests").retry_after("7");
        bench.providers.misbehave(PAD, [later]);
        let answer = bench.to_apns(PAD).await;
        let seven = Some(Duration::from_secs(7));
        assert!(
            matches!(answer, Err(PushError::Unavailable { retry_after, .. }) if retry_after == seven),
            "{status}: {answer:?}"
        );
    }
}

/// <https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>.
const FCM_ERRORS: [(u16, &str, &str); 12] = [
    (404, "UNREGISTERED", "gone"),
    (403, "SENDER_ID_MISMATCH", "foreign"),
    (401, "THIRD_PARTY_AUTH_ERROR", "credential"),
    (401, "", "credential"),
    (403, "", "credential"),
    (400, "INVALID_ARGUMENT", "refused"),
    (413, "", "refused"),
    (429, "QUOTA_EXCEEDED", "unavailable"),
    (500, "INTERNAL", "unavailable"),
    (500, "UNSPECIFIED_ERROR", "unavailable"),
    (502, "", "unavailable"),
    (503, "UNAVAILABLE", "unavailable"),
];

async fn every_error_of_fcm_is_understood(bench: &Bench) {
    for (number, (status, code, expected)) in FCM_ERRORS.into_iter().enumerate() {
        let device = format!("fcm:{number}");
        let error = Misbehaviour::fcm(status, code);
        // After 401 the request is sent once more, with another OAuth token.
        let times = if status == 401 { 2 } else { 1 };
        bench.providers.misbehave(&device, vec![error; times]);
        let answer = bench.to_fcm(&device).await;
        assert_eq!(meaning(&answer), expected, "{status} {code}: {answer:?}");
        let again = bench.to_fcm(&device).await;
        assert_eq!(meaning(&again), "accepted", "after {status} {code}: {again:?}");
    }

    for (field, expected) in [
        ("message.token", "gone"),
        ("message.fid", "gone"),
        ("message.data[0].value", "refused"),
    ] {
        let details = json!([{ "errorCode": "INVALID_ARGUMENT" }, { "fieldViolations": [{ "field": field }] }]);
        let body = json!({ "error": { "code": 400, "details": details } }).to_string();
        bench
            .providers
            .misbehave(PHONE, [Misbehaviour::Answer(400, Vec::new(), body)]);
        let answer = bench.to_fcm(PHONE).await;
        assert_eq!(meaning(&answer), expected, "{field}: {answer:?}");
    }
    let quota = Misbehaviour::fcm(429, "QUOTA_EXCEEDED");
    let seconds = [(quota.clone(), 60), (quota.retry_after("90"), 90)];
    for (error, seconds) in seconds {
        bench.providers.misbehave(PHONE, [error]);
        let answer = bench.to_fcm(PHONE).await;
        let wait = Some(Duration::from_secs(seconds));
        assert!(
            matches!(answer, Err(PushError::Unavailable { retry_after, .. }) if retry_after == wait),
            "{answer:?}"
        );
    }
}

async fn a_broken_response_is_unavailable(bench: &Bench) {
    let faults = [Misbehaviour::Huge(503), Misbehaviour::Reset];
    bench.providers.misbehave(PHONE, faults.clone());
    bench.providers.misbehave(PAD, faults.clone());
    for fault in &faults {
        for answer in [bench.to_fcm(PHONE).await, bench.to_apns(PAD).await] {
            assert_eq!(meaning(&answer), "unavailable", "{fault:?}: {answer:?}");
        }
    }
}

/// It says nothing about the credential.
async fn a_token_endpoint_that_fails_is_unavailable(bench: &Bench) {
    let answer = |status, body: &str| Misbehaviour::Answer(status, Vec::new(), body.to_owned());
    let faults = [
        answer(500, ""),
        answer(503, "").retry_after("7"),
        answer(429, "<html>"),
        answer(200, "{}"),
        Misbehaviour::Huge(200),
        Misbehaviour::Reset,
    ];
    bench.providers.misbehave(TOKEN_ENDPOINT, faults.clone());
    for fault in &faults {
        let answer = bench.to_fcm(PHONE).await;
        assert_eq!(meaning(&answer), "unavailable", "{fault:?}: {answer:?}");
    }
    assert_eq!(bench.providers.requests(), 0, "nothing is sent without a token");
    let answer = bench.to_fcm(PHONE).await;
    assert_eq!(meaning(&answer), "accepted", "{answer:?}");
}

#[tokio::test]
async fn every_documented_answer_is_understood() {
    let bench = bench().await;
    // First: later there is a token.
    a_token_endpoint_that_fails_is_unavailable(&bench).await;
    every_error_of_fcm_is_understood(&bench).await;
    every_reason_of_apns_is_understood(&bench).await;
    a_broken_response_is_unavailable(&bench).await;
}

/// The fakes would answer after a minute.
#[tokio::test]
async fn a_request_that_hangs_is_unavailable_in_time() {
    let bench = bench_with(Duration::from_secs(1)).await;
    for device in [TOKEN_ENDPOINT, PAD] {
        bench.providers.misbehave(device, [Misbehaviour::Hang]);
    }
    let begun = Instant::now();
    let (fcm, apns) = tokio::join!(bench.to_fcm(PHONE), bench.to_apns(PAD));
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    assert_eq!([meaning(&fcm), meaning(&apns)], ["unavailable"; 2], "{fcm:?}, {apns:?}");
    // A busy machine may take longer for an answer, too.
    eventually("the next ones are accepted", async || {
        let (fcm, apns) = tokio::join!(bench.to_fcm(PHONE), bench.to_apns(PAD));
        ([meaning(&fcm), meaning(&apns)] == ["accepted"; 2]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_closed_is_replaced() {
    let bench = bench().await;
    let accepted = async |of_fcm: bool| {
        eventually("the push is accepted", async || {
            let answer = if of_fcm {
                bench.to_fcm(PHONE).await
            } else {
                bench.to_apns(PAD).await
            };
            match meaning(&answer) {
                "accepted" => Some(()),
                // The client has not read yet that the connection is closed.
                "unavailable" => None,
                _ => panic!("{answer:?}"),
            }
        })
        .await;
    };
    for rounds in 1..=3 {
        accepted(true).await;
        accepted(false).await;
        assert_eq!(bench.providers.sent().len(), 2 * rounds);
        bench.providers.go_away().await;
    }
}

#[tokio::test]
async fn tokens_are_renewed_in_time() {
    let bench = bench().await;
    a_provider_token_is_renewed_after_45_minutes(&bench).await;
    an_expired_provider_token_is_replaced_after_20_minutes(&bench).await;
    an_oauth_token_is_renewed_before_its_end(&bench).await;
}

async fn a_provider_token_is_renewed_after_45_minutes(bench: &Bench) {
    let mut tokens = Vec::new();
    // At the minutes 0, 44, 46, 89 and 92.
    for minutes in [0, 44, 2, 43, 3] {
        bench.after_minutes(minutes);
        bench.to_apns(PAD).await.expect("accepted");
        tokens.push(bench.providers.provider_tokens());
    }
    assert_eq!(tokens, [1, 1, 2, 2, 3]);
}

/// APNs refuses new tokens more often than every 20 minutes. The present one was issued now.
async fn an_expired_provider_token_is_replaced_after_20_minutes(bench: &Bench) {
    let expired = async |minutes: u64| {
        bench.after_minutes(minutes);
        let before = (bench.providers.requests(), bench.providers.provider_tokens());
        bench
            .providers
            .misbehave(PAD, [Misbehaviour::apns(403, "ExpiredProviderToken")]);
        let answer = bench.to_apns(PAD).await;
        let requests = bench.providers.requests() - before.0;
        let new_tokens = bench.providers.provider_tokens() - before.1;
        (meaning(&answer), requests, new_tokens)
    };
    for _ in 0..2 {
        assert_eq!(expired(19).await, ("credential", 1, 0), "19 minutes after its issue");
        assert_eq!(expired(2).await, ("accepted", 2, 1), "21 minutes after its issue");
    }
}

/// Google gives it an hour; five minutes before the end there is another one.
async fn an_oauth_token_is_renewed_before_its_end(bench: &Bench) {
    let mut grants = Vec::new();
    for minutes in [0, 54, 1] {
        bench.after_minutes(minutes);
        bench.to_fcm(PHONE).await.expect("accepted");
        grants.push(bench.providers.grants());
    }
    assert_eq!(grants, [1, 1, 2]);
}
