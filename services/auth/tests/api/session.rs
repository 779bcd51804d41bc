//! In and out: codes, sign-in, re-issue, sign-out.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use sosohappy_events::types::{
    AccessTokenIssued, DeviceTokenSet, NicknameSet, Role, SessionExpired, SessionId, TokenDigest,
};
use sosohappy_testkit::{Bed, EngineSet, eventually, on_both_engines};
use std::collections::HashSet;
use std::time::Duration;

use crate::support::{Auth, Ground, KIM, LEE, Person, send, sha512};

on_both_engines!(
    signing_up_gives_tokens_that_work_and_tells_everybody,
    signing_in_again_opens_another_session,
    a_code_is_good_for_one_sign_in_of_its_maker,
    one_of_many_takes_a_code,
    an_unused_code_costs_no_row,
    only_the_key_of_a_code_means_that_it_was_used,
    a_code_is_good_while_its_key_is_in_the_ring,
    failed_sign_ins_of_an_account_are_limited,
    people_sign_up_once_however_often_they_try,
    signing_in_as_another_person_is_refused,
    the_answer_names_a_wrong_parameter,
    a_mixed_fleet_gets_the_token_itself,
    reissuing_replaces_the_refresh_token,
    a_lost_answer_is_forgiven,
    all_tokens_of_concurrent_reissues_work,
    a_repeated_reissue_survives_a_change_of_keys_and_the_end_of_its_access_token,
    chaotic_refreshers_are_never_signed_out,
    a_repeated_reissue_writes_nothing,
    a_stolen_refresh_token_closes_the_session,
    reissues_of_a_session_are_limited,
    signing_out_ends_one_session,
    sessions_are_listed_and_closed_by_their_owner,
    signing_out_everywhere_ends_all_sessions,
    a_session_ends_however_often_it_is_used,
    one_device_too_many_costs_the_quietest_one,
    a_restart_changes_nothing_for_people,
);

const HOUR: Duration = Duration::from_hours(1);

fn claims(token: &str) -> (Value, Value) {
    let mut parts = token
        .split('.')
        .map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    let mut part = || serde_json::from_slice(&parts.next().expect("three parts")).expect("JSON");
    (part(), part())
}

async fn signing_up_gives_tokens_that_work_and_tells_everybody(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let answer = auth.try_sign_in(KIM).await.expect(200);
    assert_eq!(
        answer.body,
        serde_json::json!({ "nickname": "" }),
        "the profile is not set"
    );
    let kim = auth.sign_in(KIM).await;
    assert_eq!(kim.account, "kim@example.com+kakao");
    assert!(auth.admits(&kim).await);

    let (header, claims) = claims(&kim.access);
    assert_eq!((&header["alg"], header["kid"].is_string()), (&"HS512".into(), true));
    assert_eq!(
        (&claims["sub"], &claims["email"]),
        (&"AccessToken".into(), &kim.account.clone().into())
    );
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        36_000
    );
    assert_eq!(self::claims(&kim.refresh).1["sub"], "RefreshToken");

    let mut issued = ground.watch::<AccessTokenIssued>().await;
    let first = issued.next().await.event;
    let second = issued.next().await.event;
    assert_eq!(second.account.as_str(), kim.account);
    assert_eq!(second.digest, TokenDigest::of(&kim.access));
    assert_eq!(second.role, Role::User);
    assert_eq!(second.session.to_string(), claims["sid"].as_str().unwrap());
    assert_eq!(second.expires_at, Some(second.issued_at + 10 * HOUR));
    assert_ne!(first.session, second.session);

    let mut names = ground.watch::<NicknameSet>().await;
    let (before, after) = (names.next().await, names.next().await);
    assert_eq!(
        before.event.nickname.as_ref().map(String::len),
        Some(36),
        "a random UUID"
    );
    assert_eq!(before.event, after.event);
    assert!(
        before.meta.occurred_at < after.meta.occurred_at,
        "later even though the clock stands still"
    );

    let mut devices = ground.watch::<DeviceTokenSet>().await;
    let told = devices.next().await.event;
    assert_eq!(told.token.as_deref(), Some("a-push-token"));
    assert_eq!(sessions(&told), [first.session]);
    assert_eq!(sessions(&devices.next().await.event), [first.session, second.session]);
    send(kim.sign(auth.post("signOut"))).await.expect(200);
    let left = devices.next().await.event;
    assert_eq!(left.token.as_deref(), Some("a-push-token"), "the other device stays");
    assert_eq!(sessions(&left), [first.session]);
    assert_eq!(left.sessions, Some(vec![first.session]));
}

fn sessions(told: &DeviceTokenSet) -> Vec<SessionId> {
    let devices = told.devices.iter().flatten();
    devices.map(|device| device.session).collect()
}

async fn signing_in_again_opens_another_session(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let phone = auth.person(KIM, "kim").await;
    let tablet = auth.sign_in(KIM).await;
    assert_eq!(tablet.nickname, "kim");
    assert!(auth.admits(&phone).await && auth.admits(&tablet).await);
}

async fn a_code_is_good_for_one_sign_in_of_its_maker(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let code = auth.code("verifier").await;
    auth.sign_in_with(KIM, &code, "verifier").await.expect(200);
    let again = auth.sign_in_with(KIM, &code, "verifier").await.expect(403);
    assert_eq!(again.code(), "invalid-code");

    let code = auth.code("verifier").await;
    auth.sign_in_with(KIM, &code, "another").await.expect(403);
    auth.sign_in_with(KIM, &code, "verifier").await.expect(403);
    auth.sign_in_with(KIM, "made-up", "verifier").await.expect(403);

    let (early, late) = (auth.code("verifier").await, auth.code("verifier").await);
    ground.clock.advance(Duration::from_secs(599));
    auth.sign_in_with(KIM, &early, "verifier").await.expect(200);
    ground.clock.advance(Duration::from_secs(1));
    auth.sign_in_with(KIM, &late, "verifier").await.expect(403);

    let challenge = [
        ("codeChallenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("codeChallengeMethod", "S256"),
    ];
    let asked = send(auth.post("getAuthorizeCode").query(&challenge)).await.expect(200);
    let code = asked.body["authorizeCode"].as_str().unwrap();
    auth.sign_in_with(KIM, code, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
        .await
        .expect(200);
}

async fn one_of_many_takes_a_code(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    for _ in 0..5 {
        let code = one.code("verifier").await;
        let tries = (0..8).map(|number| {
            let auth = if number % 2 == 0 { &one } else { &other };
            auth.sign_in_with(KIM, &code, "verifier")
        });
        let answers = futures::future::join_all(tries).await;
        let admitted = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(admitted, 1, "{answers:?}");
        assert!(
            answers
                .iter()
                .all(|answer| answer.status == 200 || answer.status == 403),
            "{answers:?}"
        );
    }
}

async fn an_unused_code_costs_no_row(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let mut codes = HashSet::new();
    for _ in 0..20 {
        codes.insert(auth.code("verifier").await);
    }
    assert_eq!(codes.len(), 20, "two codes for one challenge are two");
    assert!(codes.iter().all(|code| code.len() <= 256));
    assert_eq!(ground.rows("used_code").await, 0);
    let code = auth.code("verifier").await;
    auth.sign_in_with(KIM, &code, "verifier").await.expect(200);
    assert_eq!(ground.rows("used_code").await, 1);

    // Remembered for an hour after its end, for replicas whose clocks differ; then forgotten.
    ground.clock.advance(Duration::from_hours(1));
    auth.sign_in_with(KIM, &code, "verifier").await.expect(403);
    assert_eq!(ground.rows("used_code").await, 1);
    ground.clock.advance(Duration::from_mins(11));
    eventually("it is forgotten", async || {
        (ground.rows("used_code").await == 0).then_some(())
    })
    .await;
    auth.sign_in_with(KIM, &code, "verifier").await.expect(403);
}

/// A violation of another rule of the table is an error of the service, not a used code.
async fn only_the_key_of_a_code_means_that_it_was_used(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    ground
        .execute("CREATE UNIQUE INDEX used_code_one_expiry ON used_code (expires_at)")
        .await;
    auth.try_sign_in(KIM).await.expect(200);
    let refused = auth.try_sign_in(KIM).await.expect(500);
    assert_eq!(refused.code(), "internal");
}

async fn a_code_is_good_while_its_key_is_in_the_ring(bed: Bed) {
    let ground = Ground::new(bed);
    let old = ground.auth().await;
    let code = old.code("verifier").await;
    let keys = format!("new:{}", "n".repeat(64));
    let new = ground.auth_with(&[("tokens.keys", &keys)]).await;
    new.sign_in_with(KIM, &code, "verifier").await.expect(200);
    old.sign_in_with(KIM, &code, "verifier").await.expect(403);
    let code = new.code("verifier").await;
    old.sign_in_with(KIM, &code, "verifier").await.expect(403);
    new.sign_in_with(KIM, &code, "verifier").await.expect(200);
}

async fn failed_sign_ins_of_an_account_are_limited(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("sign-in.failures-per-minute", "10")]).await;
    for _ in 0..20 {
        auth.try_sign_in(KIM).await.expect(200);
    }
    let codes = futures::future::join_all((0..40).map(|_| auth.code("verifier"))).await;
    let guesses = codes.iter().map(|code| auth.sign_in_with(KIM, code, "another"));
    let answers = futures::future::join_all(guesses).await;
    let of = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((of(403), of(429)), (10, 30), "{answers:?}");
    assert_eq!(
        ground.rows("used_code").await,
        20 + 10,
        "what is limited is not looked at"
    );

    let right = auth.try_sign_in(KIM).await.expect(429);
    assert_eq!(right.code(), "rate-limited", "a right guess looks as a wrong one does");
    assert_eq!(right.header("retry-after"), "6");
    auth.try_sign_in(LEE).await.expect(200);
    ground.clock.advance(Duration::from_secs(6));
    auth.try_sign_in(KIM).await.expect(200);
    auth.try_sign_in(KIM).await.expect(200);
}

async fn people_sign_up_once_however_often_they_try(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let tries = (0..8).map(|number| {
        if number % 2 == 0 {
            one.sign_in(KIM)
        } else {
            other.sign_in(KIM)
        }
    });
    let people = futures::future::join_all(tries).await;
    let mut names = ground.watch::<NicknameSet>().await;
    let first = names.next().await.event;
    let mut last = None;
    for _ in 1..people.len() {
        let next = names.next().await;
        assert_eq!(next.event, first, "there is one account");
        assert!(
            last.is_none_or(|last| last < next.meta.occurred_at),
            "names come in the order of their times"
        );
        last = Some(next.meta.occurred_at);
    }
    for person in &people {
        assert!(one.admits(person).await && other.admits(person).await);
    }
}

async fn signing_in_as_another_person_is_refused(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(KIM).await;
    let stranger = auth
        .try_sign_in(("kim@example.com", "kakao", "somebody-else"))
        .await
        .expect(403);
    assert_eq!(stranger.code(), "other-identity");
    let namesake = auth.sign_in(("kim@example.com", "google", "kim-at-google")).await;
    assert_eq!(namesake.account, "kim@example.com+google");

    let unknown = auth
        .try_sign_in(("kim@example.com", "myspace", "kim-at-kakao"))
        .await
        .expect(403);
    assert_eq!(unknown.code(), "unknown-provider");

    // Tokens of one account are worth nothing for another, nor is one kind of token for the other.
    let mixed = crate::support::Person {
        account: namesake.account.clone(),
        ..kim.clone()
    };
    assert!(!auth.admits(&mixed).await);
    assert!(
        !auth
            .admits(&crate::support::Person {
                access: kim.refresh.clone(),
                ..kim.clone()
            })
            .await
    );
    auth.try_reissue(&namesake.account, &kim.refresh).await.expect(403);
    auth.try_reissue(&kim.account, &kim.access).await.expect(403);
    auth.try_reissue(&kim.account, "nonsense").await.expect(403);
    send(auth.get("reIssueToken").header("email", &kim.account))
        .await
        .expect(403);
    assert!(auth.admits(&kim).await);
}

async fn the_answer_names_a_wrong_parameter(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    for fields in [vec![], vec![("codeChallenge", "abc")], vec![("codeChallenge", "")]] {
        let answer = send(auth.post("getAuthorizeCode").form(&fields)).await.expect(400);
        assert_eq!(answer.code(), "invalid-parameter");
    }
    let challenge = sha512("verifier");
    let plain = [("codeChallenge", challenge.as_str()), ("codeChallengeMethod", "plain")];
    send(auth.post("getAuthorizeCode").form(&plain)).await.expect(400);
    send(auth.post("signIn").json(&serde_json::json!({ "provider": "kakao" })))
        .await
        .expect(400);
    for who in [
        ("", "kakao", "x"),
        ("kim@example.com", "kakao", ""),
        (&*"k".repeat(250), "kakao", "x"),
    ] {
        auth.try_sign_in(who).await.expect(400);
    }
}

async fn a_mixed_fleet_gets_the_token_itself(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("fleet.spring", "feed")]).await;
    let kim = auth.sign_in(KIM).await;
    let mut issued = ground.watch::<AccessTokenIssued>().await;
    let record = issued.record().await;
    assert_eq!(record.key_text().unwrap(), kim.account);
    assert_eq!(record.value_text().unwrap(), kim.access);

    // Without a Spring service that reads it, and after one has come back.
    for (spring, is_raw) in [("auth", false), ("dm", true)] {
        let values = [("fleet.spring".to_owned(), Value::from(spring))];
        let set = auth.running.context.settings.set(values.into_iter().collect()).await;
        set.unwrap().unwrap();
        let kim = auth.sign_in(KIM).await;
        let record = issued.record().await;
        assert_eq!(record.key_text().unwrap(), kim.account);
        assert_eq!(record.value_text().unwrap() == kim.access, is_raw, "{spring}");
    }
}

async fn reissuing_replaces_the_refresh_token(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let first = auth.sign_in(KIM).await;
    ground.clock.advance(HOUR);
    let second = auth.reissue(&first).await;
    assert_eq!(second.account, first.account);
    assert_ne!(second.access, first.access);
    assert_ne!(second.refresh, first.refresh);
    assert!(auth.admits(&second).await);
    assert!(
        auth.admits(&first).await,
        "the old access token lives until its own end"
    );

    let mut issued = ground.watch::<AccessTokenIssued>().await;
    let (before, after) = (issued.next().await.event, issued.next().await.event);
    assert_eq!(before.session, after.session);
    assert_eq!(after.digest, TokenDigest::of(&second.access));
    assert_eq!(after.issued_at, before.issued_at + HOUR);
}

async fn a_lost_answer_is_forgiven(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let first = one.sign_in(KIM).await;
    let lost = one.reissue(&first).await;
    ground.clock.advance(9 * HOUR);
    let again = other.reissue(&first).await;
    assert_eq!(
        (&again.refresh, &again.access),
        (&lost.refresh, &lost.access),
        "the same successor, so the chain does not fork"
    );
    assert!(one.admits(&again).await);

    let crossing = (0..6).map(|number| {
        if number % 2 == 0 {
            one.reissue(&again)
        } else {
            other.reissue(&again)
        }
    });
    let crossed = futures::future::join_all(crossing).await;
    assert!(crossed.iter().all(|person| person.refresh == crossed[0].refresh));
    assert_ne!(crossed[0].refresh, again.refresh);
    for person in &crossed {
        assert!(one.admits(person).await);
    }
}

async fn a_stolen_refresh_token_closes_the_session(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let stolen = auth.sign_in(KIM).await;
    let owner = auth.reissue(&stolen).await;
    // However late, while the successor is unused: the reply was lost.
    ground.clock.advance(20 * HOUR);
    let owner = auth.reissue(&owner).await;
    let elsewhere = auth.sign_in(KIM).await;
    auth.try_reissue(&stolen.account, &stolen.refresh).await.expect(403);
    auth.try_reissue(&owner.account, &owner.refresh).await.expect(403);
    assert!(!auth.admits(&owner).await && !auth.admits(&stolen).await);
    assert!(auth.admits(&elsewhere).await, "another session is not touched");

    let session = ground.watch::<AccessTokenIssued>().await.next().await.event.session;
    let mut expired = ground.watch::<SessionExpired>().await;
    let event = expired.next().await;
    assert_eq!(
        (event.event.account.as_str(), event.event.session),
        (stolen.account.as_str(), Some(session))
    );
    expired.expect_silence().await;
    let audited =
        format!("audit WHERE action = 'refreshTokenReused' AND subject = 'session {session}' AND reason = ''");
    assert_eq!((ground.rows(&audited).await, ground.rows("audit").await), (1, 1));
}

async fn signing_out_ends_one_session(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (phone, tablet) = (auth.sign_in(KIM).await, auth.sign_in(KIM).await);
    let answer = send(phone.sign(auth.post("signOut"))).await.expect(200);
    assert_eq!(answer.body, serde_json::json!({ "success": true }));
    assert!(!auth.admits(&phone).await && auth.admits(&tablet).await);
    auth.try_reissue(&phone.account, &phone.refresh).await.expect(403);
    auth.reissue(&tablet).await;

    let session = ground.watch::<AccessTokenIssued>().await.next().await.event;
    let event = ground.watch::<SessionExpired>().await.next().await;
    assert_eq!(event.event.session, Some(session.session));
    assert!(
        event.meta.occurred_at > session.issued_at,
        "it covers every token of the session"
    );
}

async fn one_device_too_many_costs_the_quietest_one(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("sessions.per-account", "2")]).await;
    let first = auth.sign_in(KIM).await;
    ground.clock.advance(HOUR);
    let second = auth.sign_in(KIM).await;
    ground.clock.advance(HOUR);
    let first = auth.reissue(&first).await;
    ground.clock.advance(HOUR);
    let third = auth.sign_in(KIM).await;
    assert!(auth.admits(&first).await && auth.admits(&third).await);
    assert!(!auth.admits(&second).await);
    let lee = auth.sign_in(LEE).await;
    assert!(
        auth.admits(&lee).await && auth.admits(&first).await,
        "others are not counted"
    );
}

async fn a_restart_changes_nothing_for_people(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    let code = auth.code("verifier").await;
    auth.running.stop().await;

    let auth = ground.auth().await;
    assert!(auth.admits(&kim).await, "the signing key is kept");
    auth.reissue(&kim).await;
    let answer = auth.sign_in_with(KIM, &code, "verifier").await.expect(200);
    assert_eq!(answer.body["nickname"], "kim");
}

async fn all_tokens_of_concurrent_reissues_work(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let mut kim = one.sign_in(KIM).await;
    for _ in 0..3 {
        ground.clock.advance(HOUR);
        let asked = (0..16).map(|number| {
            if number % 2 == 0 {
                one.reissue(&kim)
            } else {
                other.reissue(&kim)
            }
        });
        let answers = futures::future::join_all(asked).await;
        for person in &answers {
            assert!(one.admits(person).await && other.admits(person).await);
            assert_eq!(person.refresh, answers[0].refresh);
        }
        kim = answers[0].clone();
    }
    assert!(ground.rows("access_token").await <= 4, "one a rotation");
}

async fn a_repeated_reissue_survives_a_change_of_keys_and_the_end_of_its_access_token(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let first = auth.sign_in(KIM).await;
    let lost = auth.reissue(&first).await;
    ground.clock.advance(11 * HOUR);
    let late = futures::future::join_all((0..12).map(|_| auth.reissue(&first))).await;
    assert_ne!(late[0].access, lost.access, "that one has expired");
    let secret = "k".repeat(64);
    let rotated = ground.auth_with(&[("tokens.keys", &format!("new:{secret}"))]).await;
    let signed = futures::future::join_all((0..12).map(|_| rotated.reissue(&first))).await;
    assert_ne!(signed[0].access, late[0].access, "signed by another key");
    for person in late.iter().chain(&signed) {
        assert!(rotated.admits(person).await);
    }
    rotated.reissue(&signed[0]).await;
    rotated.try_reissue(&first.account, &first.refresh).await.expect(403);
}

/// Re-issues of the chaos test on each engine set: fifty of each phone, ten in each way. `SOSOHAPPY_TEST_REISSUES` asks for more.
const REISSUES: u64 = 2_000;

/// Phones that renew at the same time.
const PHONES: u64 = 40;

/// Numbers that are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A phone over a bad network. Its two refreshers (the app and its notification extension) learn of each other's tokens by the store that both
/// share, whenever they look; a lost reply is not in it. Its clock jumps, so that it renews far too early or too late.
struct BadPhone {
    dice: Dice,
    stored: Person,
}

impl BadPhone {
    /// Renews in one of the ways in which networks fail. Returns the number of re-issues; none is refused.
    async fn renew(&mut self, replicas: [&Auth; 2]) -> u64 {
        let auth = |number: u64| if number == 0 { replicas[0] } else { replicas[1] };
        let (first, second) = (auth(self.dice.roll(2)), auth(self.dice.roll(2)));
        let Person { account, refresh, .. } = self.stored.clone();
        match self.dice.roll(5) {
            // The reply is lost, once or several times.
            0 => {
                let lost = self.dice.roll(3) + 1;
                for _ in 0..lost {
                    first.try_reissue(&account, &refresh).await.expect(200);
                }
                lost
            }
            // The network sends the request twice, or both refreshers start from the same token.
            1 => {
                let (app, extension) = tokio::join!(first.reissue(&self.stored), second.reissue(&self.stored));
                assert_eq!(app.refresh, extension.refresh, "{account}");
                assert!(second.admits(&app).await && first.admits(&extension).await, "{account}");
                self.stored = if self.dice.roll(2) == 0 { app } else { extension };
                2
            }
            // The extension's reply is lost, the app's arrives.
            2 => {
                let (_, app) = tokio::join!(first.try_reissue(&account, &refresh), second.reissue(&self.stored));
                self.stored = app;
                2
            }
            // The phone's clock is ahead: it renews again and again.
            3 => {
                let times = self.dice.roll(3) + 2;
                for _ in 0..times {
                    self.stored = first.reissue(&self.stored).await;
                }
                times
            }
            // It is behind: it renews when the access token has expired long ago.
            _ => {
                self.stored = first.reissue(&self.stored).await;
                1
            }
        }
    }
}

async fn chaotic_refreshers_are_never_signed_out(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let mut phones = Vec::new();
    for number in 0..PHONES {
        let email = format!("phone-{number}@example.com");
        let stored = one.sign_in((&email, "kakao", &email)).await;
        let dice = Dice(0x9e37_79b9_7f4a_7c15 + number);
        phones.push(BadPhone { dice, stored });
    }
    let mut dice = Dice(0xd1b5_4a32_d192_ed03);
    let mut reissues = 0;
    let given = std::env::var("SOSOHAPPY_TEST_REISSUES").ok();
    let wanted = given.map_or(REISSUES, |given| {
        given.parse().expect("SOSOHAPPY_TEST_REISSUES is a number")
    });
    while reissues < wanted {
        let round = phones.iter_mut().map(|phone| phone.renew([&one, &other]));
        reissues += futures::future::join_all(round).await.into_iter().sum::<u64>();
        // Time goes on by anything from nothing to most of a day.
        ground
            .clock
            .advance(HOUR * u32::try_from(dice.roll(4) * dice.roll(6)).expect("small"));
    }
    for phone in &phones {
        let renewed = one.reissue(&phone.stored).await;
        assert!(other.admits(&renewed).await, "{}", phone.stored.account);
    }
    assert_eq!(
        ground.rows("session").await,
        i64::try_from(PHONES).expect("small"),
        "no session was closed"
    );
}

async fn a_repeated_reissue_writes_nothing(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(KIM).await;
    ground.clock.advance(HOUR);
    let again = auth.reissue(&kim).await;
    let mut issued = ground.watch::<AccessTokenIssued>().await;
    issued.next().await;
    issued.next().await;
    for _ in 0..5 {
        auth.reissue(&kim).await;
    }
    assert_eq!(ground.rows("access_token").await, 2);
    issued.expect_silence().await;
    assert!(auth.admits(&again).await);
}

async fn reissues_of_a_session_are_limited(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("sessions.reissues-per-minute", "3")]).await;
    let (mut kim, lee) = (auth.sign_in(KIM).await, auth.sign_in(LEE).await);
    // A stranger has the token of a session that is closed.
    let closed = auth.sign_in(KIM).await;
    send(closed.sign(auth.post("signOut"))).await.expect(200);
    for _ in 0..3 {
        auth.try_reissue(&closed.account, &closed.refresh).await.expect(403);
    }
    auth.try_reissue(&closed.account, &closed.refresh).await.expect(429);
    for forged in [kim.access.as_str(), lee.refresh.as_str(), "no.token.atall"] {
        auth.try_reissue(&kim.account, forged).await.expect(403);
    }
    for _ in 0..3 {
        kim = auth.reissue(&kim).await;
    }
    let limited = auth.try_reissue(&kim.account, &kim.refresh).await.expect(429);
    assert_eq!((limited.code(), limited.header("retry-after")), ("rate-limited", "20"));
    assert!(auth.admits(&kim).await, "the session stays");
    auth.reissue(&lee).await;
    ground.clock.advance(Duration::from_secs(20));
    auth.reissue(&kim).await;
}

async fn sessions_are_listed_and_closed_by_their_owner(bed: Bed) {
    let ground = Ground::new(bed);
    let (mut one, other) = (ground.auth().await, ground.auth().await);
    let client = |agent: &str| {
        let named = sosohappy_common::tls::client_builder().user_agent(agent);
        named.build().expect("a client")
    };
    one.client = client("SoSoHappy/2.1 (iPhone)");
    let phone = one.sign_in(KIM).await;
    ground.clock.advance(HOUR);
    one.client = client(&"tablet ".repeat(40));
    let (tablet, lee) = (one.sign_in(KIM).await, one.sign_in(LEE).await);
    let listed = async |person| send(Person::sign(person, other.get("sessions"))).await.expect(200).body;
    let sessions = listed(&phone).await;
    let list = sessions["sessions"].as_array().expect("a list");
    assert_eq!(
        list.iter().map(|one| one["current"] == true).collect::<Vec<_>>(),
        [false, true]
    );
    assert!(
        list.iter()
            .all(|one| one["place"] == "loopback" && one["openedAt"] == one["lastSeen"])
    );
    assert_eq!(list[1]["device"], "SoSoHappy/2.1 (iPhone)");
    assert_eq!(list[0]["device"], "tablet ".repeat(40)[..200], "cut to 200 characters");
    ground.clock.advance(HOUR);
    let phone = one.reissue(&phone).await;
    let again = listed(&phone).await;
    let first = &again["sessions"][0];
    assert_eq!(first["current"], true, "used last");
    assert_eq!(first["device"], "SoSoHappy/2.1 (iPhone)", "as it signed in");

    let id = list[0]["id"].as_str().expect("an id");
    let close = async |person, id: &str| {
        send(Person::sign(
            person,
            other.post("closeSession").json(&serde_json::json!({ "id": id })),
        ))
        .await
    };
    assert_eq!(
        close(&lee, id).await.expect(200).body["success"],
        false,
        "another person's"
    );
    assert_eq!(close(&lee, "no id").await.expect(400).code(), "invalid-parameter");
    assert!(one.admits(&tablet).await);
    assert_eq!(close(&phone, id).await.expect(200).body["success"], true);
    assert!(!one.admits(&tablet).await && one.admits(&phone).await && one.admits(&lee).await);
    one.try_reissue(&tablet.account, &tablet.refresh).await.expect(403);
    let closed = ground.watch::<SessionExpired>().await.next().await.event.session;
    assert_eq!(closed.map(|session| session.to_string()).as_deref(), Some(id));
    assert_eq!(close(&phone, id).await.expect(200).body["success"], false, "gone");
}

async fn signing_out_everywhere_ends_all_sessions(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (phone, tablet, lee) = (
        auth.sign_in(KIM).await,
        auth.sign_in(KIM).await,
        auth.sign_in(LEE).await,
    );
    send(phone.sign(auth.post("signOut").form(&[("all", "true")])))
        .await
        .expect(200);
    for person in [&phone, &tablet] {
        assert!(!auth.admits(person).await);
        auth.try_reissue(&person.account, &person.refresh).await.expect(403);
    }
    assert!(auth.admits(&lee).await);
    let mut expired = ground.watch::<SessionExpired>().await;
    let ended = [expired.next().await, expired.next().await];
    assert!(ended.iter().all(|event| event.event.account.as_str() == phone.account));
    assert_ne!(ended[0].event.session, ended[1].event.session);
}

async fn a_session_ends_however_often_it_is_used(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("sessions.lifetime", "100h")]).await;
    let mut kim = auth.sign_in(KIM).await;
    for _ in 0..9 {
        ground.clock.advance(11 * HOUR);
        kim = auth.reissue(&kim).await;
    }
    ground.clock.advance(HOUR);
    auth.try_reissue(&kim.account, &kim.refresh).await.expect(403);
}

/// The limits are the same on every engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_open_route_is_limited_by_address() {
    let ground = Ground::new(Bed::new(EngineSet::Embedded).await);
    let quota = 3;
    let limits = [
        ("rate-limits.per-address.anonymous", "3"),
        ("rate-limits.per-address.sign-in", "3"),
        ("rate-limits.per-address.read", "3"),
    ];
    let auth = ground.auth_with(&limits).await;
    let document = send(auth.get("openapi.json")).await.expect(200).body;
    let mut open = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if operation["security"].as_array().is_none_or(Vec::is_empty) {
                open.push((method, path));
            }
        }
    }
    assert!(open.len() >= 10, "{open:?}");
    for (method, path) in open {
        // Every quota is full again.
        ground.clock.advance(Duration::from_mins(1));
        let ask = async || {
            let method = method.to_uppercase().parse().expect("a method");
            send(auth.client.request(method, auth.running.at(path))).await
        };
        for _ in 0..quota {
            let answer = ask().await;
            assert_ne!(answer.status, 429, "{method} {path}: {answer:?}");
        }
        let limited = ask().await.expect(429);
        assert_eq!(limited.code(), "rate-limited", "{method} {path}");
        assert!(limited.headers.contains_key("retry-after"), "{method} {path}");
    }
}
