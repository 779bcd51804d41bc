//! E-mail accounts: codes by mail, passwords, and faults of mail servers.

use std::io::{self, Write as _};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use sosohappy_testkit::{Bed, FakeSmtp, SmtpBehavior, SmtpTls, eventually, on_both_engines, statements};
use tempfile::NamedTempFile;
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::subscriber::subscribe;
use crate::support::{Answer, Auth, Ground, KIM, Person, answer_of, send};

on_both_engines!(
    a_person_signs_up_and_in_with_an_address,
    codes_are_valid_once_for_five_minutes_and_five_tries,
    known_and_unknown_addresses_get_the_same_answers,
    weak_passwords_are_refused_by_every_call,
    a_reset_closes_every_session,
    a_change_closes_the_other_sessions,
    guesses_and_codes_are_limited,
    one_of_many_signs_up,
    mails_survive_a_misbehaving_server,
    a_queued_mail_is_sent_by_the_next_process,
    mails_leave_by_tls_of_the_given_authority,
    no_mail_leaves_without_a_trusted_certificate,
    wrong_authorities_of_mail_servers_are_refused_at_the_start,
    a_flood_of_failures_slows_guesses_and_locks_no_account,
    a_password_is_hashed_anew_when_its_cost_has_changed,
    too_many_passwords_at_one_time_are_refused,
    an_address_is_linked_to_an_account_and_unlinked,
    without_a_mail_server_there_are_no_email_accounts,
    the_log_is_no_mail_server_where_proof_is_required,
    no_secret_token_code_or_address_is_logged,
);

pub const ADDRESS: &str = "lim@example.com";
pub const PASSWORD: &str = "plain battery horse moon";
const OTHER: &str = "quiet river lamp seventeen";

/// Auth that sends its mails to a fake server.
pub struct Mailing {
    pub ground: Ground,
    pub auth: Auth,
    smtp: FakeSmtp,
}

/// The settings of a mail server.
fn mail(smtp: &FakeSmtp) -> Vec<(&str, &str)> {
    vec![
        ("mail.url", smtp.url()),
        ("mail.from", "SoSoHappy <no-reply@example.org>"),
    ]
}

impl Mailing {
    pub async fn new(bed: Bed) -> Self {
        Self::with(bed, &[]).await
    }

    async fn with(bed: Bed, more: &[(&str, &str)]) -> Self {
        let ground = Ground::new(bed);
        let smtp = FakeSmtp::start().await;
        let mut settings = mail(&smtp);
        settings.extend(more);
        let auth = ground.auth_with(&settings).await;
        drop(settings);
        Self { ground, auth, smtp }
    }

    async fn post(&self, call: &str, fields: &[(&str, &str)]) -> Answer {
        send(self.auth.post(call).form(fields)).await
    }

    /// Asks for the `count`th code of an address and returns it.
    async fn code(&self, address: &str, count: usize) -> String {
        let asked = self.post("requestEmailCode", &[("email", address)]).await.expect(200);
        assert_eq!(asked.body, json!({"success": true}));
        self.smtp.mail_to(address, count).await.code()
    }

    async fn sign_up_with(&self, code: &str, password: &str) -> Answer {
        let fields = [("email", ADDRESS), ("code", code), ("password", password)];
        self.post("signUp", &fields).await
    }

    /// Signed up, with the first code of the address.
    pub async fn sign_up(&self) -> Person {
        let code = self.code(ADDRESS, 1).await;
        Person::of(&self.sign_up_with(&code, PASSWORD).await.expect(200))
    }

    async fn sign_in(&self, address: &str, password: &str) -> Answer {
        let fields = [("email", address), ("provider", "email"), ("password", password)];
        self.post("signIn", &fields).await
    }

    async fn reset(&self, code: &str, password: &str) -> Answer {
        let fields = [("email", ADDRESS), ("code", code), ("password", password)];
        self.post("resetPassword", &fields).await
    }

    /// So slowly that codes and mails do not expire before the timers have fired on a busy machine.
    async fn pass_a_second(&self) {
        self.ground.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }

    async fn change(&self, person: &Person, present: &str, new: &str) -> Answer {
        let fields = [("password", present), ("newPassword", new)];
        send(person.sign(self.auth.post("changePassword").form(&fields))).await
    }
}

async fn a_person_signs_up_and_in_with_an_address(bed: Bed) {
    let mailing = Mailing::new(bed).await;
    let code = mailing.code("Lim@example.com", 1).await;
    let sent = mailing.smtp.mail_to("Lim@example.com", 1).await;
    assert!(sent.data.contains("no-reply@example.org"), "{}", sent.data);
    // As people type it.
    let typed = format!(" {}-{} ", code[..4].to_lowercase(), &code[4..]);
    let fields = [
        ("email", "lim@example.com"),
        ("code", &typed),
        ("password", PASSWORD),
        ("deviceToken", "a-push-token"),
    ];
    let answer = mailing.post("signUp", &fields).await.expect(200);
    assert_eq!(answer.body, json!({"nickname": ""}));
    let person = Person::of(&answer);
    assert_eq!(person.account, format!("{ADDRESS}+email"));
    assert!(mailing.auth.admits(&person).await);
    mailing.auth.set_nickname(&person, "임꺽정").await;

    for address in [ADDRESS, " LIM@EXAMPLE.COM "] {
        let answer = mailing.sign_in(address, PASSWORD).await.expect(200);
        assert_eq!(answer.header("email"), person.account);
        assert_eq!(answer.body, json!({"nickname": "임꺽정"}));
        assert!(mailing.auth.admits(&Person::of(&answer)).await);
    }
    let refused = mailing.sign_in(ADDRESS, "plain battery horse sun").await.expect(403);
    assert_eq!(refused.code(), "invalid-credentials");
    let identities = send(person.sign(mailing.auth.get("identities"))).await.expect(200);
    assert_eq!(identities.body["identities"][0]["provider"], "email");
    assert_eq!(identities.body["identities"][0]["providerId"], ADDRESS);

    mailing.auth.resign(&person).await.expect(200);
    mailing.sign_in(ADDRESS, PASSWORD).await.expect(403);
    assert_eq!(mailing.ground.rows("password").await, 0);
    let code = mailing.code(ADDRESS, 1).await;
    mailing.sign_up_with(&code, OTHER).await.expect(200);
}

async fn codes_are_valid_once_for_five_minutes_and_five_tries(bed: Bed) {
    let mailing = Mailing::new(bed).await;
    let first = mailing.code(ADDRESS, 1).await;
    let code = mailing.code(ADDRESS, 2).await;
    let wrong = |answer: Answer| assert_eq!(answer.expect(403).code(), "invalid-email-code");
    wrong(mailing.sign_up_with(&first, PASSWORD).await);
    let other = [("email", "lee@example.com"), ("code", &code), ("password", PASSWORD)];
    wrong(mailing.post("signUp", &other).await);
    for _ in 0..4 {
        wrong(mailing.sign_up_with("AAAAAAAA", PASSWORD).await);
    }
    // That were five tries at the second code: the right one counts no more.
    wrong(mailing.sign_up_with(&code, PASSWORD).await);

    let code = mailing.code(ADDRESS, 3).await;
    mailing.ground.clock.advance(Duration::from_mins(5));
    wrong(mailing.sign_up_with(&code, PASSWORD).await);

    let code = mailing.code(ADDRESS, 4).await;
    mailing.sign_up_with(&code, PASSWORD).await.expect(200);
    wrong(mailing.sign_up_with(&code, PASSWORD).await);
    wrong(mailing.reset(&code, OTHER).await);

    // The owner of the address may learn that it has an account, or has none.
    let code = mailing.code(ADDRESS, 5).await;
    let taken = mailing.sign_up_with(&code, PASSWORD).await.expect(409);
    assert_eq!(taken.code(), "account-exists");
    mailing.reset(&code, OTHER).await.expect(200);
    let code = mailing.code("lee@example.com", 1).await;
    let other = [
        ("email", "lee@example.com"),
        ("code", code.as_str()),
        ("password", PASSWORD),
    ];
    mailing.post("resetPassword", &other).await.expect(401);
    mailing.post("signUp", &other).await.expect(200);

    // Used codes and sent mails are deleted.
    assert_eq!(mailing.ground.rows("email_code").await, 0);
    eventually("sent mails are deleted", async || {
        (mailing.ground.rows("external_call").await == 0).then_some(())
    })
    .await;
}

async fn known_and_unknown_addresses_get_the_same_answers(bed: Bed) {
    subscribe();
    let mailing = Mailing::new(bed).await;
    mailing.sign_up().await;
    for call in ["requestEmailCode", "signIn", "resetPassword", "signUp"] {
        let ask = async |email: &str| {
            let fields = [
                ("email", email),
                ("provider", "email"),
                ("password", OTHER),
                ("code", "AAAAAAAA"),
            ];
            let hashes = async || mailing.auth.metric("auth_password_hashes_total", &[]).await;
            let before = hashes().await;
            let request = mailing.auth.post(call).form(&fields);
            let (cost, response) = statements::cost(call, &mailing.ground.bed, request).await;
            let answer = answer_of(response).await;
            (cost, hashes().await - before, answer.status, answer.body)
        };
        let known = ask(ADDRESS).await;
        assert!(known.0.reads + known.0.writes > 0, "{call}: {known:?}");
        assert_eq!(known, ask("nobody@example.com").await, "{call}");
    }
    mailing.smtp.mail_to("nobody@example.com", 1).await;
    for wrong in [
        "nobody",
        "nobody@",
        "a b@example.com",
        "kim@example.com\r\nBcc: lee@example.com",
    ] {
        let refused = mailing.post("requestEmailCode", &[("email", wrong)]).await.expect(400);
        assert_eq!(refused.code(), "invalid-parameter", "{wrong:?}");
    }
}

async fn weak_passwords_are_refused_by_every_call(bed: Bed) {
    let mailing = Mailing::new(bed).await;
    let person = mailing.sign_up().await;
    let code = mailing.code(ADDRESS, 2).await;
    let long = "a long one ".repeat(1_000);
    for weak in ["password1", "short", "lim@example.com", &long] {
        for answer in [
            mailing.sign_up_with(&code, weak).await,
            mailing.reset(&code, weak).await,
            mailing.change(&person, PASSWORD, weak).await,
        ] {
            assert_eq!(answer.expect(400).code(), "weak-password");
        }
    }
    let refused = mailing.sign_in(ADDRESS, &long).await.expect(400);
    assert_eq!(refused.code(), "weak-password");
    // None of them has used up the code.
    mailing.reset(&code, OTHER).await.expect(200);
}

async fn a_reset_closes_every_session(bed: Bed) {
    let mailing = Mailing::new(bed).await;
    let sessions = [
        mailing.sign_up().await,
        Person::of(&mailing.sign_in(ADDRESS, PASSWORD).await.expect(200)),
    ];
    let code = mailing.code(ADDRESS, 2).await;
    let answer = mailing.reset(&code, OTHER).await.expect(200);
    assert_eq!(answer.body, json!({"success": true}));
    for session in &sessions {
        assert!(!mailing.auth.admits(session).await);
        mailing
            .auth
            .try_reissue(&session.account, &session.refresh)
            .await
            .expect(403);
    }
    mailing.sign_in(ADDRESS, PASSWORD).await.expect(403);
    mailing.sign_in(ADDRESS, OTHER).await.expect(200);
}

async fn a_change_closes_the_other_sessions(bed: Bed) {
    let mailing = Mailing::new(bed).await;
    let other = mailing.sign_up().await;
    let own = Person::of(&mailing.sign_in(ADDRESS, PASSWORD).await.expect(200));
    let refused = mailing.change(&own, OTHER, OTHER).await.expect(403);
    assert_eq!(refused.code(), "invalid-credentials");
    assert!(mailing.auth.admits(&other).await);
    mailing.change(&own, PASSWORD, OTHER).await.expect(200);
    assert!(mailing.auth.admits(&own).await);
    assert!(!mailing.auth.admits(&other).await);
    mailing.sign_in(ADDRESS, PASSWORD).await.expect(403);
    mailing.sign_in(ADDRESS, OTHER).await.expect(200);
    let kim = mailing.auth.sign_in(KIM).await;
    assert_eq!(
        mailing.change(&kim, PASSWORD, OTHER).await.expect(409).code(),
        "no-password"
    );
}

async fn guesses_and_codes_are_limited(bed: Bed) {
    let limits = [("sign-in.failures-per-minute", "3"), ("email.codes-per-minute", "2")];
    let mailing = Mailing::with(bed, &limits).await;
    let person = mailing.sign_up().await;
    for address in [ADDRESS, "nobody@example.com"] {
        for _ in 0..3 {
            mailing.sign_in(address, OTHER).await.expect(403);
        }
        let limited = mailing.sign_in(address, PASSWORD).await.expect(429);
        assert!(limited.headers.contains_key("retry-after"), "{limited:?}");
    }
    // One limit for all guesses at a password.
    mailing.change(&person, OTHER, OTHER).await.expect(429);
    mailing.ground.clock.advance(Duration::from_mins(1));
    mailing.sign_in(ADDRESS, PASSWORD).await.expect(200);

    for address in ["LEE@example.com", "lee@example.com"] {
        mailing
            .post("requestEmailCode", &[("email", address)])
            .await
            .expect(200);
    }
    mailing
        .post("requestEmailCode", &[("email", "lee@example.com")])
        .await
        .expect(429);
}

async fn one_of_many_signs_up(bed: Bed) {
    let mailing = Mailing::new(bed).await;
    let code = mailing.code(ADDRESS, 1).await;
    let all = futures::future::join_all((0..4).map(|_| mailing.sign_up_with(&code, PASSWORD))).await;
    let of = |status: u16| all.iter().filter(|answer| answer.status == status).count();
    assert_eq!((of(200), of(403)), (1, 3), "{all:?}");
    assert_eq!(mailing.ground.rows("account").await, 1);
}

async fn mails_survive_a_misbehaving_server(bed: Bed) {
    let mailing = Mailing::new(bed).await;
    let clock = &mailing.ground.clock;
    // Retried until the server takes it.
    for behavior in [SmtpBehavior::Refuse("450 busy"), SmtpBehavior::Drop] {
        let sent = mailing.smtp.mails().len();
        let before = mailing.smtp.connections();
        mailing.smtp.set_behavior(behavior.clone());
        mailing
            .post("requestEmailCode", &[("email", ADDRESS)])
            .await
            .expect(200);
        eventually("the mail was tried", async || {
            (mailing.smtp.connections() > before).then_some(())
        })
        .await;
        assert_eq!(mailing.smtp.mails().len(), sent, "{behavior:?}");
        mailing.smtp.set_behavior(SmtpBehavior::Accept);
        eventually("the mail is sent", async || {
            mailing.pass_a_second().await;
            (mailing.smtp.mails().len() > sent).then_some(())
        })
        .await;
    }
    let code = mailing.smtp.mails().last().expect("a mail").code();
    mailing.sign_up_with(&code, PASSWORD).await.expect(200);

    // A mail that the server took without saying so is sent again, under the same id.
    mailing.smtp.set_behavior(SmtpBehavior::TakeAndDrop);
    let sent = mailing.smtp.mails().len();
    mailing
        .post("requestEmailCode", &[("email", ADDRESS)])
        .await
        .expect(200);
    eventually("the mail is taken", async || {
        (mailing.smtp.mails().len() > sent).then_some(())
    })
    .await;
    mailing.smtp.set_behavior(SmtpBehavior::Accept);
    eventually("the mail is sent", async || {
        mailing.pass_a_second().await;
        (mailing.ground.rows("external_call").await == 0).then_some(())
    })
    .await;
    let mails = mailing.smtp.mails();
    let ids: Vec<_> = mails[sent..]
        .iter()
        .map(|mail| mail.data.lines().find(|line| line.starts_with("Message-ID")))
        .collect();
    assert!(
        ids.len() >= 2 && ids.iter().all(|id| id.is_some() && *id == ids[0]),
        "{ids:?}"
    );

    // Refused for good, and expired: given up.
    mailing.smtp.set_behavior(SmtpBehavior::Refuse("550 no such mailbox"));
    let before = mailing.smtp.connections();
    mailing
        .post("requestEmailCode", &[("email", ADDRESS)])
        .await
        .expect(200);
    eventually("the mail is given up", async || {
        (mailing.ground.rows("external_call").await == 0).then_some(())
    })
    .await;
    assert_eq!(mailing.smtp.connections(), before + 1);
    mailing.smtp.set_behavior(SmtpBehavior::Refuse("450 busy"));
    mailing
        .post("requestEmailCode", &[("email", ADDRESS)])
        .await
        .expect(200);
    eventually("the mail is given up", async || {
        clock.advance(Duration::from_secs(30));
        (mailing.ground.rows("external_call").await == 0).then_some(())
    })
    .await;

    // A slow server keeps no request waiting, and a mail to another one neither.
    mailing.smtp.set_behavior(SmtpBehavior::Slow(Duration::from_mins(10)));
    mailing
        .post("requestEmailCode", &[("email", ADDRESS)])
        .await
        .expect(200);
}

async fn a_queued_mail_is_sent_by_the_next_process(bed: Bed) {
    let ground = Ground::new(bed);
    let smtp = FakeSmtp::start().await;
    smtp.set_behavior(SmtpBehavior::Slow(Duration::from_mins(10)));
    let settings = mail(&smtp);
    let first = ground.auth_with(&settings).await;
    send(first.post("requestEmailCode").form(&[("email", ADDRESS)]))
        .await
        .expect(200);
    eventually("the mail is being sent", async || {
        (smtp.connections() > 0).then_some(())
    })
    .await;
    // The process dies in the middle of it.
    drop(first);
    smtp.set_behavior(SmtpBehavior::Accept);
    let _second = ground.auth_with(&settings).await;
    ground.clock.advance(Duration::from_mins(1));
    assert_eq!(smtp.mail_to(ADDRESS, 1).await.code().len(), 8);
}

/// A file with the authority of a mail server.
fn authority(smtp: &FakeSmtp) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(smtp.ca().as_bytes()).unwrap();
    file
}

async fn mails_leave_by_tls_of_the_given_authority(bed: Bed) {
    let ground = Ground::new(bed);
    for tls in [SmtpTls::StartTls, SmtpTls::Implicit] {
        let smtp = FakeSmtp::start_with(tls, "localhost").await;
        let ca = authority(&smtp);
        let settings = [("mail.url", smtp.url()), ("mail.ca", ca.path().to_str().unwrap())];
        let auth = ground.auth_with(&settings).await;
        for (count, behavior) in [
            SmtpBehavior::Refuse("450 busy"),
            SmtpBehavior::Refuse("550 no such mailbox"),
        ]
        .into_iter()
        .enumerate()
        {
            let before = smtp.mails().len();
            let outcome = ["outcome=\"failed\"", "outcome=\"refused\""][count];
            smtp.set_behavior(behavior);
            send(auth.post("requestEmailCode").form(&[("email", ADDRESS)]))
                .await
                .expect(200);
            eventually("the mail was tried", async || {
                let tried = auth
                    .metric("auth_external_calls_total", &["kind=\"mail\"", outcome])
                    .await;
                (tried > 0.0).then_some(())
            })
            .await;
            assert_eq!(smtp.mails().len(), before, "{tls:?}");
            smtp.set_behavior(SmtpBehavior::Accept);
            eventually("the queue is empty", async || {
                ground.clock.advance(Duration::from_secs(1));
                tokio::time::sleep(Duration::from_millis(250)).await;
                (ground.rows("external_call").await == 0).then_some(())
            })
            .await;
        }
        assert_eq!(smtp.mail_to(ADDRESS, 1).await.code().len(), 8, "{tls:?}");
        assert_eq!(smtp.mails().len(), 1, "the refused mail was given up");
        drop(auth);
    }
}

async fn no_mail_leaves_without_a_trusted_certificate(bed: Bed) {
    let ground = Ground::new(bed);
    let other = FakeSmtp::start_with(SmtpTls::Implicit, "localhost").await;
    let untrusted = authority(&other);
    for (what, tls, name, ca) in [
        (
            "the certificate of another host",
            SmtpTls::StartTls,
            "mail.example.com",
            None,
        ),
        (
            "the certificate of another host",
            SmtpTls::Implicit,
            "mail.example.com",
            None,
        ),
        ("another authority", SmtpTls::StartTls, "localhost", Some(&untrusted)),
        ("another authority", SmtpTls::Implicit, "localhost", Some(&untrusted)),
        ("no STARTTLS", SmtpTls::Off, "localhost", None),
    ] {
        let smtp = FakeSmtp::start_with(tls, name).await;
        let own = authority(&smtp);
        let ca = ca.unwrap_or(&own);
        let url = smtp.url().replace("smtp+plaintext:", "smtp:");
        let settings = [("mail.url", url.as_str()), ("mail.ca", ca.path().to_str().unwrap())];
        let auth = ground.auth_with(&settings).await;
        send(auth.post("requestEmailCode").form(&[("email", ADDRESS)]))
            .await
            .expect(200);
        eventually("the mail was tried", async || {
            let failed = ["kind=\"mail\"", "outcome=\"failed\""];
            (auth.metric("auth_external_calls_total", &failed).await > 0.0).then_some(())
        })
        .await;
        assert_eq!(smtp.mails(), [], "{what}");
        assert_eq!(ground.rows("external_call").await, 1, "{what}: the mail waits");
        // Its code expires.
        ground.clock.advance(Duration::from_mins(6));
        eventually("the mail is given up", async || {
            ground.clock.advance(Duration::from_secs(30));
            (ground.rows("external_call").await == 0).then_some(())
        })
        .await;
        assert_eq!(smtp.mails(), [], "{what}");
        drop(auth);
    }
}

async fn wrong_authorities_of_mail_servers_are_refused_at_the_start(bed: Bed) {
    let ground = Ground::new(bed);
    let mut empty = NamedTempFile::new().unwrap();
    empty.write_all(b"no certificate").unwrap();
    let (empty, missing) = (empty.path().to_str().unwrap(), "/nowhere/ca.pem");
    for (url, ca, told) in [
        ("smtps://mail.example.com", missing, "mail.ca: /nowhere/ca.pem"),
        ("smtp://mail.example.com", empty, "no certificate"),
        ("smtp+plaintext://localhost:25", missing, "mail.ca"),
    ] {
        let error = ground
            .build(&[("mail.url", url), ("mail.ca", ca)])
            .await
            .expect_err("refused");
        assert!(format!("{error:#}").contains(told), "{error:#}");
    }
    let smtp = FakeSmtp::start().await;
    let ca = authority(&smtp);
    let without_effect = [("mail.url", smtp.url()), ("mail.ca", ca.path().to_str().unwrap())];
    let error = ground.build(&without_effect).await.expect_err("refused");
    assert!(format!("{error:#}").contains("no effect"), "{error:#}");
}

async fn a_flood_of_failures_slows_guesses_and_locks_no_account(bed: Bed) {
    let slow_down = Duration::from_millis(700);
    let limits = [
        ("sign-in.failures-of-all-per-minute", "5"),
        ("sign-in.slow-down", "700ms"),
        ("passwords.waiting", "100"),
    ];
    let mailing = Mailing::with(bed, &limits).await;
    mailing.sign_up().await;
    let slowed = async || mailing.auth.metric("auth_sign_ins_slowed_total", &[]).await;
    // Successful sign-ins count for nothing.
    for _ in 0..7 {
        mailing.sign_in(ADDRESS, PASSWORD).await.expect(200);
    }
    assert!(slowed().await.abs() < 0.5);

    // One leaked password for each of many accounts, all at once: the quota is exact.
    let guesses = (0..20).map(|number| {
        let mailing = &mailing;
        async move { mailing.sign_in(&format!("person{number}@example.com"), OTHER).await }
    });
    for guess in futures::future::join_all(guesses).await {
        assert_eq!(guess.expect(403).code(), "invalid-credentials");
    }
    assert!((slowed().await - 15.0).abs() < 0.5, "{}", slowed().await);

    // The right password still signs in, later; so does a claim that no provider proves.
    let began = std::time::Instant::now();
    mailing.sign_in(ADDRESS, PASSWORD).await.expect(200);
    assert!(began.elapsed() >= slow_down);
    mailing.auth.sign_in(KIM).await;
    assert!((slowed().await - 17.0).abs() < 0.5, "{}", slowed().await);

    mailing.ground.clock.advance(Duration::from_mins(1));
    mailing.sign_in(ADDRESS, PASSWORD).await.expect(200);
    assert!((slowed().await - 17.0).abs() < 0.5, "the flood has ended");
}

async fn a_password_is_hashed_anew_when_its_cost_has_changed(bed: Bed) {
    let mailing = Mailing::with(bed, &[("passwords.cost.memory", "64")]).await;
    mailing.sign_up().await;
    let hash = "SELECT COUNT(*) FROM password WHERE hash LIKE '$argon2id$v=19$m=64,t=2,p=1$%'";
    assert_eq!(mailing.ground.count(hash).await, 1);
    let mut settings = mail(&mailing.smtp);
    settings.push(("passwords.cost.memory", "128"));
    let dearer = mailing.ground.auth_with(&settings).await;
    for _ in 0..2 {
        let fields = [("email", ADDRESS), ("provider", "email"), ("password", PASSWORD)];
        send(dearer.post("signIn").form(&fields)).await.expect(200);
        let hash = "SELECT COUNT(*) FROM password WHERE hash LIKE '$argon2id$v=19$m=128,t=2,p=1$%'";
        assert_eq!(mailing.ground.count(hash).await, 1);
    }
    mailing.sign_in(ADDRESS, PASSWORD).await.expect(200);
}

async fn too_many_passwords_at_one_time_are_refused(bed: Bed) {
    let limits = [
        ("passwords.at-once", "1"),
        ("passwords.waiting", "1"),
        ("passwords.cost.memory", "131072"),
    ];
    let mailing = Mailing::with(bed, &limits).await;
    let all = futures::future::join_all((0..12).map(|_| mailing.sign_in(ADDRESS, PASSWORD))).await;
    let busy: Vec<_> = all.iter().filter(|answer| answer.status == 503).collect();
    assert!(!busy.is_empty(), "{all:?}");
    for answer in &busy {
        assert_eq!(answer.code(), "unavailable");
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert!(all.iter().any(|answer| answer.status == 403), "{all:?}");
}

async fn an_address_is_linked_to_an_account_and_unlinked(bed: Bed) {
    let mailing = Mailing::new(bed).await;
    let kim = mailing.auth.sign_in(KIM).await;
    let code = mailing.code(ADDRESS, 1).await;
    let link = async |person: &Person, code: &str| {
        let fields = [
            ("provider", "email"),
            ("providerId", ADDRESS),
            ("code", code),
            ("password", PASSWORD),
        ];
        send(person.sign(mailing.auth.post("linkIdentity").form(&fields))).await
    };
    assert_eq!(link(&kim, "AAAAAAAA").await.expect(403).code(), "invalid-email-code");
    link(&kim, &code).await.expect(200);
    let by_password = mailing.sign_in(ADDRESS, PASSWORD).await.expect(200);
    assert_eq!(by_password.header("email"), kim.account);
    let by_password = Person::of(&by_password);

    // The address is taken from now on.
    let code = mailing.code(ADDRESS, 2).await;
    mailing.sign_up_with(&code, OTHER).await.expect(409);
    let lee = mailing.auth.sign_in(crate::support::LEE).await;
    assert_eq!(link(&lee, &code).await.expect(409).code(), "identity-taken");

    let fields = [("provider", "email"), ("providerId", "LIM@example.com")];
    let unlinked = send(kim.sign(mailing.auth.post("unlinkIdentity").form(&fields))).await;
    assert_eq!(unlinked.expect(200).body, json!({"success": true}));
    mailing.sign_in(ADDRESS, PASSWORD).await.expect(403);
    assert!(!mailing.auth.admits(&by_password).await);
    assert!(mailing.auth.admits(&kim).await);
    assert_eq!(mailing.ground.rows("password").await, 0);
}

async fn without_a_mail_server_there_are_no_email_accounts(bed: Bed) {
    let auth = Ground::new(bed).auth().await;
    for call in ["requestEmailCode", "signUp", "resetPassword"] {
        let fields = [("email", ADDRESS), ("code", "AAAAAAAA"), ("password", PASSWORD)];
        let answer = send(auth.post(call).form(&fields)).await.expect(403);
        assert_eq!(answer.code(), "unknown-provider", "{call}");
    }
}

async fn the_log_is_no_mail_server_where_proof_is_required(bed: Bed) {
    let ground = Ground::new(bed);
    for (url, told) in [
        ("log:", "a mail server is required"),
        ("smtp+plaintext://mail.example.com:25", "unencrypted"),
        ("http://mail.example.com", "not by http:"),
    ] {
        let settings = [
            ("mail.url", url),
            ("sign-in.proof", "id-token"),
            ("sign-in.apple.audience", "app"),
            ("sign-in.google.audience", "app"),
            ("sign-in.kakao.audience", "app"),
        ];
        let error = ground.build(&settings).await.expect_err("refused");
        assert!(format!("{error:#}").contains(told), "{error:#}");
    }
}

/// Every log line of this process, of all its tests.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static LOG: LazyLock<Log> = LazyLock::new(Log::default);

/// Writes lines to [`LOG`].
pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>() -> impl Layer<S> {
    let filter = "info,sosohappy_auth=trace,sosohappy_common=trace,sosohappy_access=trace,lettre=trace,reqwest=trace";
    fmt::layer()
        .with_writer(|| LOG.clone())
        .with_ansi(false)
        .with_filter(EnvFilter::new(filter))
}

impl Log {
    /// Starts to write down what is logged from now on.
    fn start() -> Self {
        subscribe();
        LOG.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

async fn no_secret_token_code_or_address_is_logged(bed: Bed) {
    let log = Log::start();
    let mailing = Mailing::new(bed).await;
    // Names that no other test of this process uses.
    let address = "canary-in-the-log@example.com";
    let (password, other) = ("canary password of birch", "canary password of maple");
    let mut secrets: Vec<String> = [
        address,
        "canary-in-the-log",
        password,
        other,
        "canary-push-token",
        "canary-subject",
    ]
    .map(str::to_owned)
    .to_vec();

    mailing.smtp.set_behavior(SmtpBehavior::Refuse("450 busy"));
    mailing
        .post("requestEmailCode", &[("email", address)])
        .await
        .expect(200);
    // Counted here: the log is that of all tests. The clock stands still, so that this mail is not sent again.
    eventually("the mail was tried", async || {
        let metrics = mailing.auth.client.get(mailing.auth.running.at("/actuator/prometheus"));
        let metrics = metrics.send().await.unwrap().text().await.unwrap();
        let is_counted = |line: &str| {
            line.starts_with("auth_external_calls_total")
                && ["kind=\"mail\"", "outcome=\"failed\""]
                    .iter()
                    .all(|label| line.contains(label))
                && !line.ends_with(" 0")
        };
        metrics.lines().any(is_counted).then_some(())
    })
    .await;
    mailing.smtp.set_behavior(SmtpBehavior::Accept);
    let code = mailing.code(address, 1).await;
    let fields = [
        ("email", address),
        ("code", &code),
        ("password", password),
        ("deviceToken", "canary-push-token"),
    ];
    let person = Person::of(&mailing.post("signUp", &fields).await.expect(200));
    let again = Person::of(&mailing.sign_in(address, password).await.expect(200));
    let renewed = mailing.auth.reissue(&again).await;
    mailing.sign_in(address, other).await.expect(403);
    mailing.change(&renewed, password, other).await.expect(200);
    let reset = mailing.code(address, 2).await;
    let fields = [("email", address), ("code", &reset), ("password", password)];
    mailing.post("resetPassword", &fields).await.expect(200);
    mailing.post("resetPassword", &fields).await.expect(403);
    let social = mailing
        .auth
        .sign_in(("canary-in-the-log@example.com", "kakao", "canary-subject"))
        .await;
    mailing
        .auth
        .try_reissue(&social.account, "canary-in-the-log")
        .await
        .expect(403);
    mailing.auth.resign(&social).await.expect(200);

    for person in [person, again, renewed, social] {
        secrets.extend([person.access, person.refresh]);
    }
    secrets.extend([code, reset]);
    let text = log.text();
    assert!(text.contains("/auth-service/signUp"), "requests are logged");
    for secret in &secrets {
        let line = text.lines().find(|line| line.contains(secret.as_str()));
        assert!(line.is_none(), "{secret} is logged: {line:?}");
    }
}
