//! Leaving for good.

use std::time::Duration;

use serde_json::json;
use sosohappy_events::types::{
    AccountErased, AccountResigned, DeviceTokenSet, NicknameSet, Relation, RelationChanged, SessionExpired,
};
use sosohappy_events::{Envelope, EventId};
use sosohappy_testkit::{Bed, PATIENCE, eventually, on_both_engines};

use crate::profile::{picture_files, stored_pictures};
use crate::support::{Auth, Ground, KIM, LEE, Person, Watch, send};

on_both_engines!(
    a_resigned_account_is_gone_at_once,
    a_resignation_is_published_to_all_services,
    signing_up_again_starts_empty,
    a_sign_up_waits_for_the_erasure_of_the_account_before_it,
    admins_see_pending_resignations,
    one_of_many_resigns,
    resigning_for_another_account_is_refused,
    a_resignation_is_called_for_until_every_service_has_erased,
    a_spring_feed_gets_a_resignation_once_and_its_receipt_is_not_awaited,
    tombstones_wait_until_no_spring_service_reads_them,
    receipts_count_once_and_only_for_resignations,
    the_end_of_a_block_is_later_than_the_block_whatever_the_clocks_say,
    a_picture_that_cannot_be_deleted_keeps_no_other_waiting,
    accounts_that_have_resigned_since_a_backup_are_resigned_again,
);

const SERVICES: [&str; 3] = ["feed-service", "dm-service", "notice-service"];

impl Auth {
    async fn unfinished(&self) -> String {
        let metrics = self
            .client
            .get(self.running.at("/actuator/prometheus"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("auth_resignations_unfinished"));
        line.expect("the gauge").rsplit(' ').next().expect("a value").to_owned()
    }

    /// As the health check counts them.
    async fn unfinished_now(&self, ground: &Ground) -> i64 {
        let health = self
            .client
            .get(self.running.at("/actuator/health"))
            .bearer_auth(&ground.bed.operator_token);
        let health = send(health).await.expect(200).body;
        let unfinished = &health["components"]["resignations"]["details"]["unfinished"];
        unfinished.as_i64().unwrap_or_else(|| panic!("no count: {health}"))
    }

    async fn expect_unfinished(&self, count: &str) {
        eventually("the gauge follows", async || {
            (self.unfinished().await == count).then_some(())
        })
        .await;
    }
}

impl Ground {
    async fn acknowledge(&self, resigned: &Envelope<AccountResigned>, service: &str) -> Envelope<AccountErased> {
        let account = resigned.event.account.clone();
        self.bed
            .publish(AccountErased {
                account,
                service: service.to_owned(),
                resignation: resigned.meta.id,
            })
            .await
    }
}

async fn with_photo(auth: &Auth, person: &Person) {
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, png).unwrap();
    let form = reqwest::multipart::Form::new()
        .text("email", person.account.clone())
        .text("nickname", person.nickname.clone())
        .text("introduction", "about me")
        .part("profileImg", reqwest::multipart::Part::bytes(bytes).file_name("me.png"));
    send(person.sign(auth.post("setProfile").multipart(form)))
        .await
        .expect(200);
}

async fn a_resigned_account_is_gone_at_once(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let (phone, lee) = (one.person(KIM, "kim").await, one.person(LEE, "lee").await);
    with_photo(&one, &phone).await;
    let tablet = one.sign_in(KIM).await;

    let answer = one.resign(&phone).await.expect(200);
    assert_eq!(answer.body, json!({ "email": phone.account, "success": true }));
    for auth in [&one, &other] {
        for device in [&phone, &tablet] {
            assert!(!auth.admits(device).await);
            auth.try_reissue(&device.account, &device.refresh).await.expect(403);
        }
    }
    let photo = send(lee.sign(one.post("findProfileImg").form(&[("nickname", "kim")])))
        .await
        .expect(200);
    assert_eq!(photo.body, json!({ "nickname": null, "profileImg": null }));
    assert!(!other.set_nickname(&lee, "kim").await, "reserved for its former bearer");
    eventually("the photo goes", async || (stored_pictures(&ground) == 0).then_some(())).await;
}

async fn a_resignation_is_published_to_all_services(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    for (by, source, destination) in [(&kim, "kim", "lee"), (&lee, "lee", "kim")] {
        let pair = json!({ "srcNickname": source, "dstNickname": destination });
        send(by.sign(auth.post("block").json(&pair))).await.expect(200);
    }
    auth.resign(&kim).await.expect(200);

    let resigned = ground.watch::<AccountResigned>().await.next().await;
    assert_eq!(
        (resigned.event.account.as_str(), resigned.event.nickname.as_str()),
        (&*kim.account, "kim")
    );
    let at = resigned.meta.occurred_at;

    let mut names = ground.watch::<NicknameSet>().await;
    let nameless = eventually("the name goes", async || {
        let event = names.next().await;
        event.event.nickname.is_none().then_some(event)
    })
    .await;
    assert_eq!(
        (nameless.event.account.as_str(), nameless.meta.occurred_at),
        (&*kim.account, at)
    );

    let mut devices = ground.watch::<DeviceTokenSet>().await;
    let forgotten = eventually("all devices go", async || {
        let event = devices.next().await.event;
        event.token.is_none().then_some(event)
    })
    .await;
    assert_eq!(forgotten.account.as_str(), kim.account);

    let closed = ground.watch::<SessionExpired>().await.next().await;
    assert_eq!(closed.event.account.as_str(), kim.account);
    assert!(closed.meta.occurred_at <= at);

    // Two pairs of people are two keys, which have no order between them.
    let mut relations = ground.watch::<RelationChanged>().await;
    let mut lifted = Vec::new();
    for _ in 0..4 {
        let changed = relations.next().await;
        if changed.event.relation == Relation::Unblock {
            assert_eq!(changed.meta.occurred_at, at);
            lifted.push(changed.event.account.as_str().to_owned());
        }
    }
    lifted.sort();
    assert_eq!(lifted, [kim.account, lee.account], "in both directions");
}

async fn signing_up_again_starts_empty(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    with_photo(&auth, &kim).await;
    auth.resign(&kim).await.expect(200);
    let resigned = ground.watch::<AccountResigned>().await.next().await;

    // The address may belong to another person: the provider has assigned it again.
    let again = auth.sign_in((KIM.0, KIM.1, "another-subject")).await;
    assert_eq!((again.account.as_str(), again.nickname.as_str()), (&*kim.account, ""));
    assert!(auth.admits(&again).await && !auth.admits(&kim).await);
    assert!(auth.set_nickname(&again, "kim").await);
    let photo = send(lee.sign(auth.post("findProfileImg").form(&[("nickname", "kim")])))
        .await
        .expect(200);
    assert_eq!(photo.body, json!({ "nickname": "kim", "profileImg": null }));
    let told = send(lee.sign(auth.post("findIntroduction").form(&[("nickname", "kim")])))
        .await
        .expect(200);
    assert_eq!(told.body, json!({ "introduction": "" }));

    let mut names = ground.watch::<NicknameSet>().await;
    let later = eventually("the new name is told", async || {
        let event = names.next().await;
        let is_later = event.meta.occurred_at > resigned.meta.occurred_at;
        (is_later && event.event.account.as_str() == kim.account).then_some(event)
    })
    .await;
    assert!(
        later.event.nickname.is_some(),
        "what comes after the resignation is later, though the clock stands still"
    );
}

async fn a_sign_up_waits_for_the_erasure_of_the_account_before_it(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground
        .auth_with(&[
            ("resignation.sign-up-wait", "10m"),
            ("resignation.services", "feed-service"),
        ])
        .await;
    let kim = auth.person(KIM, "kim").await;
    auth.resign(&kim).await.expect(200);
    let resigned = ground.watch::<AccountResigned>().await.next().await;
    let signing_up = auth.sign_in(KIM);
    tokio::pin!(signing_up);
    let early = tokio::time::timeout(Duration::from_millis(700), &mut signing_up).await;
    assert!(early.is_err(), "feed has not erased yet");
    ground.acknowledge(&resigned, "feed-service").await;
    let again = tokio::time::timeout(PATIENCE, signing_up)
        .await
        .expect("the erasure is complete");
    assert!(auth.admits(&again).await);

    let hasty = ground
        .auth_with(&[
            ("resignation.sign-up-wait", "100ms"),
            ("resignation.services", "feed-service"),
        ])
        .await;
    hasty.resign(&again).await.expect(200);
    assert!(
        hasty.admits(&hasty.sign_in(KIM).await).await,
        "an unavailable service keeps nobody away"
    );
}

async fn admins_see_pending_resignations(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground
        .auth_with(&[("resignation.services", "feed-service,dm-service")])
        .await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let ask = async || send(lee.sign(auth.get("admin/resignations"))).await;
    assert_eq!(ask().await.expect(403).code(), "role-required");
    ground
        .execute("UPDATE account SET role = 'admin' WHERE nickname = 'lee'")
        .await;
    auth.resign(&kim).await.expect(200);
    let resigned = ground.watch::<AccountResigned>().await.next().await;
    ground.acknowledge(&resigned, "dm-service").await;
    let pending = eventually("the receipt of dm is listed", async || {
        let pending = ask().await.expect(200).body;
        (pending["content"][0]["acknowledged"] == json!(["dm-service"])).then_some(pending)
    })
    .await;
    assert_eq!(pending["count"], 1);
    let one = &pending["content"][0];
    assert_eq!(one["id"], resigned.meta.id.to_string());
    assert_eq!(one["missing"], json!(["feed-service"]));
    assert_eq!(one["ageSeconds"], 0);
    assert!(!pending.to_string().contains("kim"), "it names nobody");
    let for_operators = async |token: &str| send(auth.get("pendingResignations").bearer_auth(token)).await;
    assert_eq!(
        for_operators(&ground.bed.operator_token).await.expect(200).body,
        pending
    );
    assert_eq!(
        for_operators(&ground.bed.service_token).await.expect(401).code(),
        "credential-required"
    );
    ground.clock.advance(Duration::from_hours(1));
    assert!(
        ask().await.expect(200).body["content"][0]["ageSeconds"]
            .as_i64()
            .expect("seconds")
            >= 3599
    );

    ground.acknowledge(&resigned, "feed-service").await;
    eventually("none is pending", async || {
        (ask().await.expect(200).body == json!({ "count": 0, "content": [] })).then_some(())
    })
    .await;
}

async fn one_of_many_resigns(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let kim = one.person(KIM, "kim").await;
    let answers = futures::future::join_all((0..6).map(|number| {
        if number % 2 == 0 {
            one.resign(&kim)
        } else {
            other.resign(&kim)
        }
    }))
    .await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1,
        "{answers:?}"
    );
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let told = (answer.status.as_u16(), answer.code());
        assert!(
            matches!(told, (401, "unknown-account") | (403, "access-denied")),
            "{answer:?}"
        );
    }
    let mut resigned = ground.watch::<AccountResigned>().await;
    resigned.next().await;
    resigned.expect_silence().await;
}

async fn resigning_for_another_account_is_refused(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let answer = send(lee.sign(auth.post("resign").form(&[("email", &kim.account)])))
        .await
        .expect(403);
    assert_eq!(answer.code(), "not-yourself");
    send(lee.sign(auth.post("resign"))).await.expect(400);
    assert!(auth.admits(&kim).await && auth.admits(&lee).await);
}

async fn a_resignation_is_called_for_until_every_service_has_erased(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    auth.resign(&kim).await.expect(200);
    let mut resignations = ground.watch::<AccountResigned>().await;
    let first = resignations.next().await;
    auth.expect_unfinished("1").await;
    assert_eq!(auth.unfinished_now(&ground).await, 1);
    for service in &SERVICES[..2] {
        ground.acknowledge(&first, service).await;
    }
    resignations.expect_silence().await;

    ground.clock.advance(Duration::from_mins(10));
    let again = resignations.next_within(PATIENCE).await.expect("published again");
    assert_eq!(again.event, first.event);
    assert_eq!(
        (again.meta.id, again.meta.occurred_at),
        (first.meta.id, first.meta.occurred_at),
        "the very same event"
    );

    ground.acknowledge(&first, SERVICES[2]).await;
    auth.expect_unfinished("0").await;
    ground.clock.advance(Duration::from_mins(100));
    resignations.expect_silence().await;
}

async fn accounts_that_have_resigned_since_a_backup_are_resigned_again(bed: Bed) {
    let ground = Ground::new(bed);
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("resigned");
    let with_ledger = [("resignation.ledger", ledger.to_str().unwrap())];
    let lines = || {
        let text = std::fs::read_to_string(&ledger).unwrap();
        text.lines().filter(|line| !line.is_empty()).count()
    };

    // Resigns where there is no ledger yet, as in a release without one or at a crash before the line is written.
    let before = ground.auth().await;
    before.resign(&before.person(LEE, "lee").await).await.expect(200);
    let auth = ground.auth_with(&with_ledger).await;
    assert_eq!(lines(), 1, "resignations of before are written at the start");
    auth.resign(&auth.person(KIM, "kim").await).await.expect(200);
    assert_eq!(lines(), 2, "a resignation is written before its answer");

    // Who has signed up again stays, also where the proof is lost.
    ground.clock.advance(Duration::from_secs(1));
    let (kim, lee) = (auth.person(KIM, "kim2").await, auth.person(LEE, "lee2").await);
    ground.execute("DELETE FROM resignation_receipt").await;
    ground.execute("DELETE FROM resignation").await;
    let again = ground.auth_with(&with_ledger).await;
    assert!(again.admits(&kim).await && again.admits(&lee).await);

    // As in a backup of before the resignations, when kim's account was there.
    ground
        .execute("UPDATE account SET created_at = 0 WHERE nickname = 'kim2'")
        .await;
    let mut resigned = ground.watch::<AccountResigned>().await;
    for _ in 0..2 {
        resigned.next().await;
    }
    let restored = ground.auth_with(&with_ledger).await;
    assert!(!restored.admits(&kim).await && restored.admits(&lee).await);
    let event = resigned.next().await.event;
    assert_eq!(
        (event.account.as_str(), event.nickname.as_str()),
        (&*kim.account, "kim2")
    );
    assert_eq!(lines(), 3, "this resignation is in the ledger, too");
    ground.auth_with(&with_ledger).await;
    resigned.expect_silence().await;
}

const WEEK: Duration = Duration::from_hours(24 * 7);

async fn a_spring_feed_gets_a_resignation_once_and_its_receipt_is_not_awaited(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground
        .auth_with(&[
            ("fleet.spring", "feed"),
            ("resignation.retry-after", "10s"),
            // The name of the release before.
            ("resignation.nickname-reservation", "7d"),
        ])
        .await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    auth.resign(&kim).await.expect(200);
    let mut resignations = ground.watch::<AccountResigned>().await;
    let resigned = resignations.next().await;

    // Feed may still erase by the name.
    let asked = auth.client.get(auth.running.at("/auth-service/checkDuplicateNickname"));
    let asked = send(lee.sign(asked.query(&[("nickname", "kim")]))).await.expect(200);
    assert_eq!(asked.body, json!({ "email": null, "isPresent": true }));
    assert!(!auth.set_nickname(&lee, "kim").await, "reserved");

    ground.clock.advance(Duration::from_secs(11));
    resignations.expect_silence().await;
    assert!(
        resignations.next_within(Duration::from_millis(100)).await.is_none(),
        "published again"
    );
    assert_eq!(auth.unfinished_now(&ground).await, 1);

    for service in ["dm-service", "notice-service"] {
        ground.acknowledge(&resigned, service).await;
    }
    eventually("the resignation is complete", async || {
        (auth.unfinished_now(&ground).await == 0).then_some(())
    })
    .await;
    let proven = "resignation WHERE account IS NULL AND not_awaited = 'feed-service'";
    assert_eq!(ground.rows(proven).await, 1);

    ground.clock.advance(WEEK);
    let lee = auth.sign_in(LEE).await;
    assert!(auth.set_nickname(&lee, "kim").await, "the reservation has ended");
}

async fn tombstones_wait_until_no_spring_service_reads_them(bed: Bed) {
    let ground = Ground::new(bed);
    let spring = |names: &str| [("fleet.spring".to_owned(), serde_json::Value::from(names))];
    let auth = ground.auth_with(&[("fleet.spring", "notice")]).await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    for person in [&kim, &lee] {
        auth.resign(person).await.expect(200);
    }
    // The tombstones of lee's resignation must not delete the new records of lee.
    let lee = auth.person(LEE, "lee2").await;

    let mut names = ground.watch::<NicknameSet>().await;
    let mut devices = ground.watch::<DeviceTokenSet>().await;
    // The new nickname is published last; a tombstone would come before it, or soon after.
    loop {
        let nickname = names.next().await.event.nickname.expect("no null value");
        if nickname == "lee2" {
            break;
        }
    }
    while let Some(event) = names.next_within(Duration::from_secs(2)).await {
        assert!(event.event.nickname.is_some(), "a null value");
    }
    while let Some(event) = devices.next_within(Duration::from_secs(1)).await {
        assert!(event.event.token.is_some(), "a null value");
    }
    assert_eq!(ground.rows("withheld_tombstone").await, 4);

    auth.running
        .context
        .settings
        .set(spring("auth").into_iter().collect())
        .await
        .unwrap()
        .unwrap();
    let nameless = names.next().await;
    assert_eq!(
        (nameless.event.account.as_str(), nameless.event.nickname),
        (&*kim.account, None)
    );
    assert_eq!(devices.next().await.event.token, None);
    eventually("nothing is withheld", async || {
        (ground.rows("withheld_tombstone").await == 0).then_some(())
    })
    .await;
    assert!(
        names.next_within(Duration::from_millis(500)).await.is_none(),
        "{} has a name",
        lee.account
    );
}

async fn receipts_count_once_and_only_for_resignations(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    auth.resign(&kim).await.expect(200);
    let resigned = ground.watch::<AccountResigned>().await.next().await;
    auth.expect_unfinished("1").await;

    let mut unknown = resigned.clone();
    unknown.meta.id = EventId(ground.bed.context.entropy.uuid());
    for service in SERVICES {
        ground.acknowledge(&unknown, service).await;
    }
    let receipt = ground.acknowledge(&resigned, SERVICES[0]).await;
    for _ in 0..3 {
        ground.bed.publish_again(&receipt).await;
        ground.acknowledge(&resigned, SERVICES[0]).await;
    }
    ground.acknowledge(&resigned, SERVICES[1]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Counted when it is asked for; the gauge is of some seconds ago.
    assert_eq!(auth.unfinished_now(&ground).await, 1);
    ground.acknowledge(&resigned, SERVICES[2]).await;
    eventually("it is finished", async || {
        (auth.unfinished_now(&ground).await == 0).then_some(())
    })
    .await;
}

/// The clock of the replica that set a block may be ahead of the one that lifts it, or sets the next. Not by so much that each takes
/// the other's lease for over.
async fn the_end_of_a_block_is_later_than_the_block_whatever_the_clocks_say(bed: Bed) {
    let ground = Ground::new(bed);
    let (auth, ahead) = (ground.auth().await, ground.auth_ahead(Duration::from_secs(2)).await);
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let mut relations = ground.watch::<RelationChanged>().await;
    let pair = json!({ "srcNickname": "kim", "dstNickname": "lee" });
    let block = async |by: &Auth, person: &Person| {
        send(person.sign(by.post("block").json(&pair))).await.expect(200);
    };

    block(&ahead, &kim).await;
    auth.resign(&lee).await.expect(200);
    let (first, over) = (relations.next().await, relations.next().await);
    assert_eq!(
        (first.event.relation, over.event.relation),
        (Relation::Block, Relation::Unblock)
    );
    assert!(over.meta.occurred_at > first.meta.occurred_at);

    let lee = auth.person(LEE, "lee").await;
    ahead.resign(&lee).await.expect(200);
    auth.person(LEE, "lee").await;
    let resigned = ground.watch::<AccountResigned>().await;
    let last = latest(resigned, 2).await;
    block(&auth, &kim).await;
    let second = relations.next().await;
    assert_eq!(second.event.relation, Relation::Block);
    assert!(
        second.meta.occurred_at > last,
        "a new block is not older than the end of the old one"
    );
}

async fn latest(mut resigned: Watch<AccountResigned>, number: usize) -> jiff::Timestamp {
    let mut last = jiff::Timestamp::MIN;
    for _ in 0..number {
        last = resigned.next().await.meta.occurred_at;
    }
    last
}

/// A folder in the place of a picture: the store cannot delete it.
async fn a_picture_that_cannot_be_deleted_keeps_no_other_waiting(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    with_photo(&auth, &kim).await;
    let stuck = picture_files(&ground).pop().expect("kim's photo");
    std::fs::remove_file(&stuck).expect("it can go");
    std::fs::create_dir_all(stuck.join("in-the-way")).expect("a folder");
    auth.resign(&kim).await.expect(200);
    ground.clock.advance(Duration::from_secs(1));

    let lee = auth.person(LEE, "lee").await;
    with_photo(&auth, &lee).await;
    assert_eq!(picture_files(&ground).len(), 1);
    auth.resign(&lee).await.expect(200);
    eventually("lee's goes", async || picture_files(&ground).is_empty().then_some(())).await;
}
