//! Reports, decisions, suspensions, roles and the audit.

use std::time::Duration;

use serde_json::{Value, json};
use sosohappy_events::EventId;
use sosohappy_events::types::{
    AccountStateChanged, ContentModerated, ModeratedContent, ModerationAction, ModerationApplied, ModerationOutcome,
    NoticeRaised, ReviewDecision, SessionExpired, State,
};
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use crate::profile::png;
use crate::support::{Answer, Auth, Ground, KIM, LEE, Person, send};

on_both_engines!(
    a_report_is_filed_once_and_has_a_deadline,
    unlawful_imagery_is_hidden_at_once_and_restored_when_the_report_is_dismissed,
    a_graver_reason_replaces_the_one_before,
    a_hidden_profile_is_shown_to_its_owner_and_moderators,
    decisions_take_effect_and_tell_both_sides,
    a_later_decision_replaces_an_earlier_one,
    a_suspended_person_is_out_with_a_reason_until_the_time_comes,
    roles_are_applied_for_and_decided,
    words_of_a_later_release_are_no_corrupt_rows,
    operators_send_notices_to_a_person,
    moderators_act_on_members_only,
    the_audit_shows_what_was_changed_in_it,
    what_is_decided_about_content_is_ordered_until_its_service_answers,
    decisions_about_held_content_are_in_the_audit_once,
    a_resignation_takes_reports_and_notes_along,
    reports_are_limited,
    the_contact_is_published,
);

const PARK: (&str, &str, &str) = ("park@example.com", "google", "park-at-google");
const ADMIN: (&str, &str, &str) = ("admin@example.com", "kakao", "admin-at-kakao");
const DATE: i64 = 2_023_090_513_248_392;
const MESSAGE: &str = "01890000-0000-7000-8000-000000000001";

impl Auth {
    async fn call(&self, who: &Person, call: &str, body: &Value) -> Answer {
        send(who.sign(self.post(call).json(body))).await
    }

    async fn read(&self, who: &Person, call: &str, query: &[(&str, &str)]) -> Answer {
        send(who.sign(self.get(call).query(query))).await
    }

    async fn grant(&self, ground: &Ground, account: &str, role: &str) -> Answer {
        let token = &ground.bed.operator_token;
        let body = json!({ "account": account, "role": role });
        send(self.post("grantRole").bearer_auth(token).json(&body)).await
    }

    async fn person_with_role(&self, ground: &Ground, who: (&str, &str, &str), nickname: &str, role: &str) -> Person {
        let person = self.person(who, nickname).await;
        self.grant(ground, &person.account, role).await.expect(200);
        person
    }

    /// The open reports.
    async fn reports(&self, moderator: &Person) -> Vec<Value> {
        let answer = self.read(moderator, "admin/reports", &[]).await.expect(200);
        answer.body["content"].as_array().expect("a list").clone()
    }

    async fn audit(&self, admin: &Person) -> Value {
        self.read(admin, "admin/audit", &[]).await.expect(200).body
    }
}

async fn a_report_is_filed_once_and_has_a_deadline(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let moderator = auth.person_with_role(&ground, ADMIN, "boss", "moderator").await;
    let mut moderated = ground.watch::<ContentModerated>().await;

    let report = json!({ "nickname": "lee", "post": DATE, "reason": "spam", "text": "again and again" });
    for _ in 0..2 {
        let answer = auth.call(&kim, "report", &report).await.expect(200);
        assert_eq!(answer.body, json!({ "success": true }));
    }
    auth.call(&kim, "report", &json!({ "nickname": "lee", "reason": "harassment" }))
        .await
        .expect(200);
    let event = moderated.next().await.event;
    assert_eq!(event.action, ModerationAction::Reported);
    assert_eq!(event.author.as_str(), lee.account);
    assert_eq!(event.content, ModeratedContent::Post { date: DATE });
    // The service that holds the content learns the reporter, to check that they see it.
    let reporter: Option<sosohappy_common::Account> = Some(kim.account.parse().expect("an account"));
    assert_eq!(event.reporter, reporter);
    moderated.expect_silence().await;
    let message = json!({ "nickname": "lee", "message": MESSAGE, "reason": "harassment" });
    auth.call(&kim, "report", &message).await.expect(200);
    let content = ModeratedContent::Message {
        message: MESSAGE.to_owned(),
    };
    let event = moderated.next().await.event;
    assert_eq!((event.content, event.reporter), (content, reporter));

    for refused in [
        json!({ "nickname": "lee", "reason": "boredom" }),
        json!({ "nickname": "lee", "reason": "spam", "post": 7 }),
        json!({ "nickname": "lee", "reason": "spam", "post": 2_000_000_000_000_000_i64 }),
        json!({ "nickname": "lee", "reason": "spam", "post": 2_023_022_900_000_000_i64 }),
        json!({ "nickname": "lee", "reason": "spam", "comment": -5 }),
        json!({ "nickname": "lee", "reason": "spam", "comment": 0 }),
        json!({ "nickname": "lee", "reason": "spam", "message": "nope" }),
        json!({ "nickname": "lee", "reason": "spam", "post": DATE, "comment": 1 }),
        json!({ "nickname": "lee", "reason": "spam", "message": "a b" }),
        json!({ "nickname": "lee", "reason": "spam", "text": "x".repeat(1001) }),
        json!({ "nickname": "kim", "reason": "spam" }),
    ] {
        auth.call(&kim, "report", &refused).await.expect(400);
    }
    let unknown = auth
        .call(&kim, "report", &json!({ "nickname": "nobody", "reason": "spam" }))
        .await;
    assert_eq!(unknown.expect(404).code(), "no-such-person");

    ground.clock.advance(Duration::from_hours(25));
    let moderator = auth.reissue(&moderator).await;
    let page = auth
        .read(&moderator, "admin/reports", &[("size", "1")])
        .await
        .expect(200)
        .body;
    let first = &page["content"][0];
    assert_eq!(
        (
            &first["nickname"],
            &first["kind"],
            &first["content"],
            &first["reporter"],
            &first["text"]
        ),
        (
            &json!("lee"),
            &json!("post"),
            &json!(DATE.to_string()),
            &json!("kim"),
            &json!("again and again")
        )
    );
    assert_eq!(first["isLate"], true);
    // The clock stands still, and each event is a millisecond later than the one before.
    let age = first["ageSeconds"].as_i64().expect("a number");
    assert!((25 * 3600 - 1..=25 * 3600).contains(&age), "{age} s");
    let cursor = page["nextCursor"].as_str().expect("another page");
    let rest = auth
        .read(&moderator, "admin/reports", &[("cursor", cursor)])
        .await
        .expect(200)
        .body;
    assert_eq!(rest["content"].as_array().expect("a list").len(), 2);
    assert_eq!(rest["content"][0]["kind"], "person");
    assert_eq!(rest["nextCursor"], Value::Null);
    eventually("late reports are counted", async || {
        let metrics = auth
            .client
            .get(auth.running.at("/actuator/prometheus"))
            .send()
            .await
            .ok()?;
        let text = metrics.text().await.ok()?;
        let is_late = |line: &str| line.starts_with("auth_reports_late") && line.ends_with(" 3");
        text.lines().any(is_late).then_some(())
    })
    .await;
}

async fn unlawful_imagery_is_hidden_at_once_and_restored_when_the_report_is_dismissed(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    let mut moderated = ground.watch::<ContentModerated>().await;

    let report = json!({ "nickname": "lee", "post": DATE, "reason": "unlawfulImagery" });
    auth.call(&kim, "report", &report).await.expect(200);
    assert_eq!(moderated.next().await.event.action, ModerationAction::Reported);
    let hidden = moderated.next().await;
    assert_eq!(hidden.event.action, ModerationAction::Hidden);
    assert_eq!(hidden.event.author.as_str(), lee.account);
    assert_eq!(auth.audit(&admin).await["content"][0]["action"], "hiddenAtOnce");

    let id = auth.reports(&admin).await[0]["report"].clone();
    let dismiss = json!({ "report": id, "action": "dismiss", "note": "a sunset" });
    auth.call(&admin, "admin/resolveReport", &dismiss).await.expect(200);
    let restored = moderated.next().await;
    assert_eq!(restored.event.action, ModerationAction::Restored);
    assert!(restored.meta.occurred_at > hidden.meta.occurred_at);
    let closed = moderated.next().await.event;
    assert_eq!((closed.action, closed.report), (ModerationAction::Closed, id.as_i64()));
    assert!(auth.reports(&admin).await.is_empty());
    // Decided, so that the same person may report the same post again, but hides it no more.
    auth.call(&kim, "report", &report).await.expect(200);
    assert_eq!(auth.reports(&admin).await.len(), 1);
    assert_eq!(moderated.next().await.event.action, ModerationAction::Reported);
    moderated.expect_silence().await;
    let park = auth.person(PARK, "park").await;
    auth.call(&park, "report", &report).await.expect(200);
    assert_eq!(moderated.next().await.event.action, ModerationAction::Reported);
    assert_eq!(moderated.next().await.event.action, ModerationAction::Hidden);
}

async fn a_graver_reason_replaces_the_one_before(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    auth.person(LEE, "lee").await;
    let moderator = auth.person_with_role(&ground, ADMIN, "boss", "moderator").await;
    let mut moderated = ground.watch::<ContentModerated>().await;

    let report = |reason: &str, text: &str| json!({ "nickname": "lee", "post": DATE, "reason": reason, "text": text });
    for (reason, text) in [
        ("spam", "an advertisement"),
        ("unlawfulImagery", ""),
        ("spam", "as I said"),
    ] {
        auth.call(&kim, "report", &report(reason, text)).await.expect(200);
    }
    assert_eq!(moderated.next().await.event.action, ModerationAction::Reported);
    assert_eq!(moderated.next().await.event.action, ModerationAction::Hidden);
    moderated.expect_silence().await;
    let reports = auth.reports(&moderator).await;
    assert_eq!(reports.len(), 1);
    assert_eq!(
        (&reports[0]["reason"], &reports[0]["text"]),
        (&json!("unlawfulImagery"), &json!("an advertisement"))
    );
}

async fn a_hidden_profile_is_shown_to_its_owner_and_moderators(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    auth.set_photo(&lee, "lee", png(1)).await.expect(200);
    let shown = async |asker: &Person| {
        let photo = auth.photo(asker, "lee").await;
        let introduction = auth.introduction(asker, "lee").await;
        assert_eq!(photo["nickname"], "lee");
        let is_shown = photo["profileImg"].is_string();
        assert_eq!(introduction["introduction"] != "", is_shown);
        is_shown
    };
    assert!(shown(&kim).await);

    let report = json!({ "nickname": "lee", "reason": "unlawfulImagery" });
    auth.call(&kim, "report", &report).await.expect(200);
    assert!(!shown(&kim).await, "hidden at once");
    assert!(shown(&lee).await && shown(&admin).await);
    assert_eq!(auth.audit(&admin).await["content"][0]["action"], "hiddenAtOnce");

    let id = auth.reports(&admin).await[0]["report"].clone();
    for (action, is_shown) in [("restore", true), ("hide", false), ("dismiss", true)] {
        let decision = json!({ "report": id, "action": action });
        auth.call(&admin, "admin/resolveReport", &decision).await.expect(200);
        assert_eq!(shown(&kim).await, is_shown, "{action}");
        // A new photo is hidden as the one before it.
        auth.set_photo(&lee, "lee", png(2)).await.expect(200);
        assert_eq!(shown(&kim).await, is_shown, "{action}, then a new photo");
    }

    let suspend = json!({ "nickname": "lee", "reason": "spam" });
    auth.call(&admin, "admin/suspend", &suspend).await.expect(200);
    assert!(!shown(&kim).await && shown(&admin).await, "suspended");
    let restore = json!({ "nickname": "lee" });
    auth.call(&admin, "admin/restore", &restore).await.expect(200);
    assert!(shown(&kim).await);
}

async fn decisions_take_effect_and_tell_both_sides(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let moderator = auth.person_with_role(&ground, ADMIN, "boss", "moderator").await;
    let mut notices = ground.watch::<NoticeRaised>().await;
    notices.next().await;
    let mut moderated = ground.watch::<ContentModerated>().await;
    auth.call(
        &kim,
        "report",
        &json!({ "nickname": "lee", "comment": 7, "reason": "hate" }),
    )
    .await
    .expect(200);
    moderated.next().await;
    let id = auth.reports(&moderator).await[0]["report"].clone();

    for (action, effect) in [
        ("hide", Some(ModerationAction::Hidden)),
        ("restore", Some(ModerationAction::Restored)),
        ("warn", None),
    ] {
        let decision = json!({ "report": id, "action": action });
        auth.call(&moderator, "admin/resolveReport", &decision)
            .await
            .expect(200);
        if let Some(effect) = effect {
            let event = moderated.next().await.event;
            assert_eq!(
                (event.action, event.content),
                (effect, ModeratedContent::Comment { comment: 7 })
            );
        }
        assert_eq!(moderated.next().await.event.action, ModerationAction::Closed);
        // Notices of two accounts may be in two partitions, which have no order.
        let mut both = [notices.next().await.event, notices.next().await.event];
        both.sort_by_key(|notice| notice.receiver.as_str() == kim.account);
        let [told, reviewed] = both;
        assert_eq!(
            (told.receiver.as_str(), told.topic.as_str()),
            (&*lee.account, "moderation")
        );
        assert_eq!(
            (&told.data["commentId"], &told.data["reason"]),
            (&json!(7), &json!("hate"))
        );
        assert_eq!(reviewed.receiver.as_str(), kim.account);
        assert_eq!(reviewed.data, json!({ "action": "reviewed", "report": id }));
    }
    let unknown = json!({ "report": 999_999, "action": "dismiss" });
    let unknown = auth.call(&moderator, "admin/resolveReport", &unknown).await.expect(404);
    assert_eq!(unknown.code(), "no-such-report");
    let past = json!({ "report": id, "action": "suspend", "until": "2001-01-01T00:00:00Z" });
    auth.call(&moderator, "admin/resolveReport", &past).await.expect(400);

    let about_moderator = json!({ "nickname": "boss", "reason": "spam" });
    auth.call(&kim, "report", &about_moderator).await.expect(200);
    let reports = auth.reports(&moderator).await;
    let own = reports.iter().find(|report| report["report"] != id);
    let decision = json!({ "report": own.expect("it is listed")["report"], "action": "dismiss" });
    let refused = auth
        .call(&moderator, "admin/resolveReport", &decision)
        .await
        .expect(403);
    assert_eq!(refused.code(), "role-required", "a decision about oneself");
    assert!(auth.admits(&lee).await);
}

async fn a_later_decision_replaces_an_earlier_one(bed: Bed) {
    use ModerationAction::{Closed, Hidden, Reported, Restored};

    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let park = auth.person(PARK, "park").await;
    let moderator = auth.person_with_role(&ground, ADMIN, "boss", "moderator").await;
    let decide = async |report: &Value, action: &str| {
        let decision = json!({ "report": report, "action": action });
        auth.call(&moderator, "admin/resolveReport", &decision)
            .await
            .expect(200);
    };

    let mut states = ground.watch::<AccountStateChanged>().await;
    let report = json!({ "nickname": "lee", "reason": "spam" });
    auth.call(&kim, "report", &report).await.expect(200);
    let person = auth.reports(&moderator).await[0]["report"].clone();
    decide(&person, "suspend").await;
    assert!(!auth.admits(&lee).await);
    decide(&person, "dismiss").await;
    assert!(auth.admits(&lee).await);
    auth.sign_in(LEE).await;
    assert_eq!(states.next().await.event.state, State::Suspended);
    assert_eq!(states.next().await.event.state, State::Restored);
    // Another decision has changed the suspension, which stays.
    decide(&person, "suspend").await;
    let suspend = json!({ "nickname": "lee", "reason": "hate" });
    auth.call(&moderator, "admin/suspend", &suspend).await.expect(200);
    decide(&person, "dismiss").await;
    assert_eq!(auth.try_sign_in(LEE).await.expect(403).code(), "suspended");
    let restore = json!({ "nickname": "lee" });
    auth.call(&moderator, "admin/restore", &restore).await.expect(200);

    let mut moderated = ground.watch::<ContentModerated>().await;
    let report = json!({ "nickname": "lee", "post": DATE, "reason": "spam" });
    auth.call(&kim, "report", &report).await.expect(200);
    let post = auth.reports(&moderator).await[0]["report"].clone();
    assert_eq!(moderated.next().await.event.action, Reported);
    for (action, effect) in [
        ("hide", Some(Hidden)),
        ("dismiss", Some(Restored)),
        ("hide", Some(Hidden)),
        ("warn", Some(Restored)),
        ("dismiss", None),
        ("hide", Some(Hidden)),
    ] {
        decide(&post, action).await;
        if let Some(effect) = effect {
            assert_eq!(moderated.next().await.event.action, effect, "{action}");
        }
        assert_eq!(moderated.next().await.event.action, Closed, "{action}");
    }

    // The first report goes on hiding the post.
    let report = json!({ "nickname": "lee", "post": DATE, "reason": "unlawfulImagery" });
    auth.call(&park, "report", &report).await.expect(200);
    assert_eq!(moderated.next().await.event.action, Reported);
    assert_eq!(moderated.next().await.event.action, Hidden);
    let other = auth.reports(&moderator).await[0]["report"].clone();
    decide(&other, "dismiss").await;
    assert_eq!(moderated.next().await.event.action, Closed);
    moderated.expect_silence().await;
}

async fn a_suspended_person_is_out_with_a_reason_until_the_time_comes(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    let moderator = auth.person_with_role(&ground, ADMIN, "boss", "moderator").await;
    let mut states = ground.watch::<AccountStateChanged>().await;
    let until = (ground.clock_now() + Duration::from_mins(10)).to_string();

    let suspend = json!({ "nickname": "kim", "reason": "harassment", "until": until });
    auth.call(&moderator, "admin/suspend", &suspend).await.expect(200);
    let suspended = states.next().await;
    assert_eq!(
        (suspended.event.account.as_str(), suspended.event.state),
        (&*kim.account, State::Suspended)
    );
    assert!(!auth.admits(&kim).await);
    let other = ground.auth().await;
    assert!(!other.admits(&kim).await, "another replica");
    for refused in [
        auth.try_reissue(&kim.account, &kim.refresh).await,
        auth.try_sign_in(KIM).await,
    ] {
        let refused = refused.expect(403);
        assert_eq!(refused.code(), "suspended");
        assert_eq!(refused.body["detail"], format!("reason: harassment; until: {until}"));
    }

    // Neither replica of before sees the end come.
    drop((auth, other));
    ground.clock.advance(Duration::from_mins(11));
    let auth = ground.auth().await;
    let restored = states.next().await;
    assert_eq!(restored.event.state, State::Restored);
    assert!(restored.meta.occurred_at > suspended.meta.occurred_at);
    assert!(auth.admits(&kim).await, "the session goes on");
    auth.reissue(&kim).await;

    let forever = json!({ "nickname": "kim", "reason": "spam" });
    auth.call(&moderator, "admin/suspend", &forever).await.expect(200);
    let refused = auth.try_sign_in(KIM).await.expect(403);
    assert_eq!(refused.body["detail"], "reason: spam; until: further notice");
    let restore = json!({ "nickname": "kim", "note": "appeal" });
    for success in [true, false] {
        let answer = auth.call(&moderator, "admin/restore", &restore).await.expect(200);
        assert_eq!(answer.body, json!({ "success": success }));
    }
    auth.sign_in(KIM).await;
}

async fn roles_are_applied_for_and_decided(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    let mut notices = ground.watch::<NoticeRaised>().await;
    assert_eq!(notices.next().await.event.topic, "role");

    for (who, text) in [(&kim, "I have time"), (&lee, "me too")] {
        let wish = json!({ "role": "moderator", "text": text });
        auth.call(who, "applyRole", &wish).await.expect(200);
    }
    auth.call(&kim, "applyRole", &json!({ "role": "user" }))
        .await
        .expect(400);
    auth.call(&kim, "applyRole", &json!({ "role": "king" }))
        .await
        .expect(400);
    let waiting = auth.read(&admin, "admin/roleApplications", &[]).await.expect(200).body;
    assert_eq!(waiting["content"].as_array().expect("a list").len(), 2);
    assert_eq!(
        auth.read(&kim, "admin/reports", &[]).await.expect(403).code(),
        "role-required"
    );

    for (nickname, accepted, account) in [("kim", true, &kim.account), ("lee", false, &lee.account)] {
        let decision = json!({ "nickname": nickname, "accepted": accepted });
        auth.call(&admin, "admin/decideRole", &decision).await.expect(200);
        let told = notices.next().await.event;
        assert_eq!(
            (told.receiver.as_str(), told.topic.as_str()),
            (account.as_str(), "role")
        );
        assert_eq!(told.data, json!({ "role": "moderator", "accepted": accepted }));
        assert_eq!(
            auth.call(&admin, "admin/decideRole", &decision)
                .await
                .expect(404)
                .code(),
            "no-such-application"
        );
    }
    auth.reports(&kim).await;
    assert_eq!(
        auth.read(&lee, "admin/reports", &[]).await.expect(403).code(),
        "role-required"
    );
    let refused = auth.read(&kim, "admin/audit", &[]).await.expect(403);
    assert_eq!(refused.code(), "role-required");
    assert_eq!(refused.body["detail"], "the role admin is required", "of a moderator");

    // A lower role ends the sessions: other services know the role by the token.
    let mut expired = ground.watch::<SessionExpired>().await;
    auth.grant(&ground, &kim.account, "user").await.expect(200);
    assert_eq!(expired.next().await.event.account.as_str(), kim.account);
    assert!(!auth.admits(&kim).await);
    assert_eq!(
        auth.grant(&ground, "nobody@example.com+kakao", "admin")
            .await
            .expect(404)
            .code(),
        "no-such-person"
    );
    let body = json!({ "account": lee.account, "role": "admin" });
    assert_eq!(
        auth.call(&lee, "grantRole", &body).await.expect(401).code(),
        "credential-required"
    );
}

/// A later release may have stored words that this one does not know, before it was rolled back.
async fn words_of_a_later_release_are_no_corrupt_rows(bed: Bed) {
    use ModerationAction::{Closed, Hidden, Reported, Restored};

    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;

    auth.grant(&ground, &kim.account, "moderator").await.expect(200);
    let kim = auth.sign_in(KIM).await;
    assert_eq!(auth.reports(&kim).await.len(), 0);
    ground
        .execute("UPDATE account SET role = 'auditor' WHERE nickname = 'kim'")
        .await;
    assert!(auth.admits(&kim).await, "with the rights of a user");
    let refused = auth.read(&kim, "admin/reports", &[]).await.expect(403);
    assert_eq!(refused.code(), "role-required");
    let kim = auth.reissue(&auth.sign_in(KIM).await).await;

    for report in [
        json!({ "nickname": "lee", "post": DATE, "reason": "unlawfulImagery" }),
        json!({ "nickname": "lee", "reason": "spam" }),
    ] {
        auth.call(&kim, "report", &report).await.expect(200);
    }
    ground
        .execute("UPDATE report SET reason = 'scam', kind = 'album' WHERE kind = 'person'")
        .await;
    ground
        .execute("UPDATE report SET reason = 'scam' WHERE kind = 'post'")
        .await;
    let reports = auth.reports(&admin).await;
    assert_eq!(reports.len(), 1, "what is reported is known: {reports:?}");
    let post = &reports[0];
    assert_eq!((&post["kind"], &post["reason"]), (&json!("post"), &json!("other")));
    let album = ground.count("SELECT report FROM report WHERE kind = 'album'").await;
    let hide = json!({ "report": album, "action": "hide" });
    let unknown = auth.call(&admin, "admin/resolveReport", &hide).await.expect(404);
    assert_eq!(unknown.code(), "no-such-report");
    ground.execute("UPDATE report SET due_at = 0").await;
    let is_one = async |gauge: &str| (auth.metric(gauge, &[]).await - 1.0).abs() < 0.5;
    eventually("what moderators cannot list is counted by itself", async || {
        (is_one("auth_reports_late").await && is_one("auth_reports_unknown").await).then_some(())
    })
    .await;
    assert!(is_one("auth_reports_open").await);

    ground
        .execute("UPDATE report SET resolution = 'blur', resolved_at = reported_at WHERE kind = 'post'")
        .await;
    let mut moderated = ground.watch::<ContentModerated>().await;
    let dismiss = json!({ "report": post["report"], "action": "dismiss" });
    auth.call(&admin, "admin/resolveReport", &dismiss).await.expect(200);
    for action in [Reported, Hidden, Restored, Closed] {
        assert_eq!(moderated.next().await.event.action, action);
    }
    // The statement is executed again on its connection.
    let none_is_open = async || (auth.metric("auth_reports_open", &[]).await < 0.5).then_some(());
    eventually("the counts follow", none_is_open).await;

    let wish = json!({ "role": "moderator", "text": "I have time" });
    auth.call(&lee, "applyRole", &wish).await.expect(200);
    ground
        .execute("UPDATE role_application SET role = 'auditor' WHERE role = 'moderator'")
        .await;
    let waiting = auth.read(&admin, "admin/roleApplications", &[]).await.expect(200);
    assert_eq!(waiting.body["content"], json!([]));
    let decision = json!({ "nickname": "lee", "accepted": true });
    let refused = auth.call(&admin, "admin/decideRole", &decision).await.expect(404);
    assert_eq!(refused.code(), "no-such-application");
    assert_eq!(ground.rows("role_application").await, 1, "it waits for that release");

    let suspend = json!({ "nickname": "lee", "reason": "spam" });
    auth.call(&admin, "admin/suspend", &suspend).await.expect(200);
    ground.execute("UPDATE suspension SET reason = 'scam'").await;
    let refused = auth.try_sign_in(LEE).await.expect(403);
    assert_eq!(refused.body["detail"], "reason: other; until: further notice");
    let kept = "SELECT COUNT(*) FROM account, suspension WHERE account.role = 'auditor' AND suspension.reason = 'scam'";
    assert_eq!(ground.count(kept).await, 1, "the words stay in their rows");
    for role in ["moderator", "user"] {
        ground
            .execute("UPDATE account SET role = 'auditor' WHERE nickname = 'kim'")
            .await;
        let kim = auth.sign_in(KIM).await;
        assert!(auth.admits(&kim).await);
        auth.grant(&ground, &kim.account, role).await.expect(200);
        assert!(
            !auth.admits(&kim).await,
            "{role}: a later release may have let it do more"
        );
    }
    let kim = auth.sign_in(KIM).await;
    auth.call(&kim, "applyRole", &wish).await.expect(200);
    ground
        .execute("UPDATE account SET role = 'auditor' WHERE nickname = 'kim'")
        .await;
    let decision = json!({ "nickname": "kim", "accepted": false });
    auth.call(&admin, "admin/decideRole", &decision).await.expect(200);
    assert!(auth.admits(&kim).await, "a refusal changes no role");
    auth.call(&kim, "applyRole", &wish).await.expect(200);
    let decision = json!({ "nickname": "kim", "accepted": true });
    auth.call(&admin, "admin/decideRole", &decision).await.expect(200);
    assert!(!auth.admits(&kim).await, "so does an accepted application");
    let auditors = "SELECT COUNT(*) FROM account WHERE role = 'auditor'";
    assert_eq!(ground.count(auditors).await, 0, "an operator takes such a role back");
}

async fn operators_send_notices_to_a_person(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    let mut notices = ground.watch::<NoticeRaised>().await;
    assert_eq!(notices.next().await.event.topic, "role");

    let notice = |account: &str, title: &str| json!({ "account": account, "title": title, "text": "at 3" });
    let send_notice = async |body: &Value| {
        let request = auth.post("sendSystemNotice");
        send(request.bearer_auth(&ground.bed.operator_token).json(body)).await
    };
    send_notice(&notice(&kim.account, "Maintenance")).await.expect(200);
    let raised = notices.next().await.event;
    assert_eq!(
        (raised.receiver.as_str(), raised.topic.as_str()),
        (kim.account.as_str(), "system")
    );
    assert_eq!(raised.data, json!({ "title": "Maintenance", "text": "at 3" }));
    let newest = auth.audit(&admin).await["content"][0].clone();
    assert_eq!(
        (&newest["action"], &newest["note"]),
        (&json!("sendSystemNotice"), &json!("Maintenance\nat 3"))
    );

    let lengthy = "at most 1000 characters and 8000 bytes, without control characters but line breaks and tabs";
    for (title, text, detail) in [
        (" ", "at 3", "title: one line with at least one visible character"),
        (
            "Main\ntenance",
            "at 3",
            "title: one line with at least one visible character",
        ),
        ("Maintenance", "\n", "text: at least one visible character"),
        ("x", &"공".repeat(1001), &format!("text: {lengthy}")),
        (
            &"공".repeat(400),
            &"공".repeat(1000),
            "title, text: at most 4096 bytes together, as JSON",
        ),
    ] {
        let body = json!({ "account": kim.account, "title": title, "text": text });
        assert_eq!(send_notice(&body).await.expect(400).body["detail"], detail);
    }
    let unknown = send_notice(&notice("nobody@example.com+kakao", "Maintenance")).await;
    assert_eq!(unknown.expect(404).code(), "no-such-person");
    let whole = notice(&kim.account, "Maintenance");
    let by_admin = auth.call(&admin, "sendSystemNotice", &whole).await;
    assert_eq!(by_admin.expect(401).code(), "credential-required");
}

async fn moderators_act_on_members_only(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person_with_role(&ground, KIM, "kim", "moderator").await;
    let lee = auth.person_with_role(&ground, LEE, "lee", "moderator").await;
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    for (by, nickname) in [(&kim, "lee"), (&kim, "boss"), (&kim, "kim"), (&admin, "boss")] {
        let suspend = json!({ "nickname": nickname, "reason": "other" });
        let refused = auth.call(by, "admin/suspend", &suspend).await.expect(403);
        assert_eq!(refused.code(), "role-required", "{nickname}");
    }
    auth.call(
        &admin,
        "admin/suspend",
        &json!({ "nickname": "lee", "reason": "other" }),
    )
    .await
    .expect(200);
    assert!(!auth.admits(&lee).await);
}

async fn what_is_decided_about_content_is_ordered_until_its_service_answers(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    auth.person(LEE, "lee").await;
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    let mut moderated = ground.watch::<ContentModerated>().await;
    let report = json!({ "nickname": "lee", "post": DATE, "reason": "unlawfulImagery" });
    auth.call(&kim, "report", &report).await.expect(200);
    let id = auth.reports(&admin).await[0]["report"].clone();
    let restore = json!({ "report": id, "action": "restore" });
    auth.call(&admin, "admin/resolveReport", &restore).await.expect(200);
    let mut orders = Vec::new();
    while orders.len() < 2 {
        let event = moderated.next().await;
        if matches!(
            event.event.action,
            ModerationAction::Hidden | ModerationAction::Restored
        ) {
            orders.push(event);
        }
    }
    // Of the two entries about content, the last one first.
    let effects = async || {
        let audit = auth.audit(&admin).await;
        assert_eq!(audit["isIntact"], true);
        [0_usize, 1].map(|at| audit["content"][at]["effect"].clone())
    };
    assert_eq!(effects().await, ["ordered", "ordered"]);
    assert_eq!(
        auth.audit(&admin).await["content"][2]["effect"],
        Value::Null,
        "of a role"
    );
    assert_eq!(auth.audit(&admin).await["content"][0]["appliedAt"], Value::Null);

    let answer = async |order: EventId, outcome: Option<ModerationOutcome>| {
        let applied = ModerationApplied {
            author: orders[0].event.author.clone(),
            service: "feed-service".to_owned(),
            order,
            decision: None,
            outcome,
        };
        ground.bed.publish(applied).await;
    };
    // An order that is not known is none of this auth's. The first answer counts, also that of a release without outcomes.
    let unknown = EventId(ground.bed.context.entropy.uuid());
    for (order, outcome) in [
        (unknown, Some(ModerationOutcome::Applied)),
        (orders[1].meta.id, None),
        (orders[1].meta.id, Some(ModerationOutcome::NotFound)),
    ] {
        answer(order, outcome).await;
    }
    eventually("the second order is applied", async || {
        (effects().await == ["applied", "ordered"]).then_some(())
    })
    .await;
    assert!(auth.audit(&admin).await["content"][0]["appliedAt"].is_string());
    answer(orders[0].meta.id, Some(ModerationOutcome::NotFound)).await;
    eventually("the content of the first order is not found", async || {
        (effects().await == ["applied", "notFound"]).then_some(())
    })
    .await;
    assert_eq!(auth.audit(&admin).await["content"][1]["appliedAt"], Value::Null);
    // A replica of a later release has written it.
    ground.execute("UPDATE content_order SET outcome = 'partly'").await;
    assert_eq!(effects().await, ["unknown", "unknown"]);
    assert_eq!(auth.audit(&admin).await["content"][0]["appliedAt"], Value::Null);

    // Introduction and photo are auth's own.
    let report = json!({ "nickname": "lee", "reason": "unlawfulImagery" });
    auth.call(&kim, "report", &report).await.expect(200);
    let entry = auth.audit(&admin).await["content"][0].clone();
    assert_eq!(
        (&entry["action"], &entry["effect"]),
        (&json!("hiddenAtOnce"), &Value::Null)
    );
}

async fn decisions_about_held_content_are_in_the_audit_once(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    let unknown = "resigned@example.com+kakao";
    let decide = async |author: &str, order: EventId, accepted: bool, content: ModeratedContent| {
        let decision = ReviewDecision {
            moderator: admin.account.parse().unwrap(),
            accepted,
            content,
        };
        let applied = ModerationApplied {
            author: author.parse().unwrap(),
            service: "feed-service".to_owned(),
            order,
            decision: Some(decision),
            outcome: None,
        };
        ground.bed.publish(applied).await;
    };
    let new_id = || EventId(ground.bed.context.entropy.uuid());
    let (released, refused) = (new_id(), new_id());
    // Delivered twice, as after a crash of the consumer; each author's in order.
    for _ in 0..2 {
        decide(&kim.account, released, true, ModeratedContent::Post { date: DATE }).await;
        decide(&kim.account, refused, false, ModeratedContent::Comment { comment: 7 }).await;
    }
    decide(unknown, new_id(), false, ModeratedContent::Comment { comment: 8 }).await;
    decide(&kim.account, new_id(), true, ModeratedContent::Comment { comment: 9 }).await;
    let entries = eventually("the decisions are in the audit", async || {
        let audit = auth.audit(&admin).await;
        assert_eq!(audit["isIntact"], true);
        let mut entries: Vec<Value> = audit["content"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|entry| entry["action"] == "releaseHeld" || entry["action"] == "refuseHeld")
            .map(|entry| {
                json!([
                    entry["subject"],
                    entry["action"],
                    entry["actor"],
                    entry["target"],
                    entry["effect"]
                ])
            })
            .collect();
        entries.sort_by_key(ToString::to_string);
        (entries.len() >= 4).then_some(entries)
    })
    .await;
    assert_eq!(
        entries,
        [
            json!(["comment 7", "refuseHeld", "boss", "kim", "applied"]),
            json!(["comment 8", "refuseHeld", "boss", null, "applied"]),
            json!(["comment 9", "releaseHeld", "boss", "kim", "applied"]),
            json!([format!("post {DATE}"), "releaseHeld", "boss", "kim", "applied"]),
        ]
    );
}

async fn the_audit_shows_what_was_changed_in_it(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    auth.person(KIM, "kim").await;
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    for _ in 0..2 {
        let suspend = json!({ "nickname": "kim", "reason": "spam", "note": "three times" });
        auth.call(&admin, "admin/suspend", &suspend).await.expect(200);
        auth.call(&admin, "admin/restore", &json!({ "nickname": "kim" }))
            .await
            .expect(200);
    }
    let audit = auth.audit(&admin).await;
    let entries = audit["content"].as_array().expect("a list");
    let actions: Vec<_> = entries
        .iter()
        .map(|entry| entry["action"].as_str().expect("text"))
        .collect();
    assert_eq!(actions, ["restore", "suspend", "restore", "suspend", "grantRole"]);
    let suspend = &entries[1];
    assert_eq!(
        (
            &suspend["actor"],
            &suspend["target"],
            &suspend["reason"],
            &suspend["note"]
        ),
        (&json!("boss"), &json!("kim"), &json!("spam"), &json!("three times"))
    );
    assert_eq!(
        (&entries[4]["actor"], &entries[4]["actorHash"]),
        (&Value::Null, &json!(""))
    );
    assert_eq!(audit["isIntact"], true);
    let page = auth
        .read(&admin, "admin/audit", &[("size", "2")])
        .await
        .expect(200)
        .body;
    assert_eq!((&page["isIntact"], &page["nextCursor"]), (&json!(true), &json!("4")));
    let rest = auth
        .read(&admin, "admin/audit", &[("cursor", "4")])
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&rest["isIntact"], rest["content"].as_array().map(Vec::len)),
        (&json!(true), Some(3))
    );

    ground.execute("UPDATE audit SET reason = 'hate' WHERE entry = 2").await;
    assert_eq!(auth.audit(&admin).await["isIntact"], false, "an entry was changed");
    ground.execute("UPDATE audit SET reason = 'spam' WHERE entry = 2").await;
    assert_eq!(auth.audit(&admin).await["isIntact"], true);
    ground.execute("DELETE FROM audit WHERE entry = 5").await;
    assert_eq!(auth.audit(&admin).await["isIntact"], false, "the last entry is missing");

    // A person without a profile has a random number as nickname, which identifies no person.
    auth.sign_in(LEE).await;
    auth.grant(&ground, "lee@example.com+google", "moderator")
        .await
        .expect(200);
    let audit = auth.audit(&admin).await;
    assert_eq!(audit["content"][0]["target"], "l…@example.com+google");
}

async fn a_resignation_takes_reports_and_notes_along(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let park = auth.person(PARK, "park").await;
    let admin = auth.person_with_role(&ground, ADMIN, "boss", "admin").await;
    let report = |nickname: &str| json!({ "nickname": nickname, "reason": "privacy", "text": "the words of kim" });
    auth.call(&kim, "report", &report("lee")).await.expect(200);
    auth.call(&kim, "report", &report("park")).await.expect(200);
    let warned = auth.reports(&admin).await[0]["report"].clone();
    let warn = json!({ "report": warned, "action": "warn", "note": "about lee" });
    auth.call(&admin, "admin/resolveReport", &warn).await.expect(200);

    auth.resign(&kim).await.expect(200);
    auth.resign(&lee).await.expect(200);
    let left = auth
        .read(&admin, "admin/reports", &[("open", "false")])
        .await
        .expect(200)
        .body;
    let left = left["content"].as_array().expect("a list");
    assert_eq!(left.len(), 1, "the report of lee is gone");
    assert_eq!((&left[0]["reporter"], &left[0]["text"]), (&Value::Null, &Value::Null));
    let audit = auth.audit(&admin).await;
    assert_eq!(audit["isIntact"], true);
    let entry = &audit["content"][0];
    assert_eq!((&entry["target"], &entry["note"]), (&Value::Null, &Value::Null));
    assert_eq!(entry["targetHash"].as_str().map(str::len), Some(64));
    assert_eq!(ground.rows("audit_note").await, 0);
    assert!(auth.admits(&park).await);
}

async fn reports_are_limited(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("moderation.reports-per-minute", "2")]).await;
    let kim = auth.person(KIM, "kim").await;
    auth.person(LEE, "lee").await;
    let report = json!({ "nickname": "lee", "reason": "other" });
    for _ in 0..2 {
        auth.call(&kim, "report", &report).await.expect(200);
    }
    let refused = auth.call(&kim, "report", &report).await.expect(429);
    refused.header("retry-after");
}

async fn the_contact_is_published(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("contact.email", "help@example.com")]).await;
    let contact = send(auth.get("contact")).await.expect(200);
    assert_eq!(contact.body, json!({ "email": "help@example.com", "url": null }));
}
