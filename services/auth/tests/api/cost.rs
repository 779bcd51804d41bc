//! Cost of a sign-in and a re-issue: the statements of one request.

use std::time::Duration;

use sosohappy_testkit::statements::{self, Cost};
use sosohappy_testkit::{Bed, on_both_engines};

use crate::email::{ADDRESS, Mailing, PASSWORD};
use crate::subscriber::subscribe;
use crate::support::{Answer, Auth, Ground, KIM, Person, answer_of};

on_both_engines!(
    statements_of_a_sign_in_and_a_reissue_are_counted,
    statements_of_a_password_log_in_are_counted,
);

async fn cost(name: &str, bed: &Bed, request: reqwest::RequestBuilder) -> (Cost, Answer) {
    let (cost, response) = statements::cost(name, bed, request).await;
    (cost, answer_of(response).await.expect(200))
}

async fn sign_in(auth: &Auth, bed: &Bed) -> (Cost, Person) {
    let verifier = "abcdefghijklmnopqrst";
    let code = auth.code(verifier).await;
    let (email, provider, subject) = KIM;
    let form = [
        ("email", email),
        ("provider", provider),
        ("providerId", subject),
        ("codeVerifier", verifier),
        ("authorizeCode", &code),
        ("authorizationCode", ""),
        ("deviceToken", "a-push-token"),
    ];
    let (cost, answer) = cost("sign-in", bed, auth.post("signIn").form(&form)).await;
    (cost, Person::of(&answer))
}

async fn reissue(auth: &Auth, bed: &Bed, person: &Person) -> (Cost, Person) {
    let request = auth.get("reIssueToken").header("email", &person.account);
    let request = request.header("Authorization-refresh", format!("Bearer {}", person.refresh));
    let (cost, answer) = cost("re-issue", bed, request).await;
    (cost, Person::of(&answer))
}

/// docs/performance.md has the same numbers.
async fn statements_of_a_sign_in_and_a_reissue_are_counted(bed: Bed) {
    subscribe();
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (first, _) = sign_in(&auth, &ground.bed).await;
    ground.clock.advance(Duration::from_mins(1));
    let (again, kim) = sign_in(&auth, &ground.bed).await;
    ground.clock.advance(Duration::from_mins(1));
    let (renewed, fresh) = reissue(&auth, &ground.bed, &kim).await;
    let (repeated, _) = reissue(&auth, &ground.bed, &kim).await;
    // When no access token of the session lives any more, its timer is set again.
    ground.clock.advance(Duration::from_hours(11));
    let (late, _) = reissue(&auth, &ground.bed, &fresh).await;

    assert_eq!(first, Cost { reads: 9, writes: 10 }, "the first sign-in of an account");
    assert_eq!(again, Cost { reads: 6, writes: 10 }, "another sign-in");
    assert_eq!(renewed, Cost { reads: 4, writes: 3 }, "a re-issue");
    assert_eq!(repeated, Cost { reads: 3, writes: 0 }, "a repeated re-issue");
    assert_eq!(
        late,
        Cost { reads: 4, writes: 4 },
        "a re-issue after the access token has expired"
    );
}

/// docs/performance.md has the same numbers.
async fn statements_of_a_password_log_in_are_counted(bed: Bed) {
    subscribe();
    let mailing = Mailing::new(bed).await;
    mailing.sign_up().await;
    mailing.ground.clock.advance(Duration::from_mins(1));
    let form = [
        ("email", ADDRESS),
        ("provider", "email"),
        ("password", PASSWORD),
        ("deviceToken", "a-push-token"),
    ];
    let request = mailing.auth.post("signIn").form(&form);
    let (logged_in, _) = cost("password-log-in", &mailing.ground.bed, request).await;
    assert_eq!(logged_in, Cost { reads: 7, writes: 9 });
}
