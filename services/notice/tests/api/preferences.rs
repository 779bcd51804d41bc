//! `preferences`: they decide on frames and pushes; the inbox keeps every notice.

use serde_json::{Value, json};
use sosohappy_events::types::{AccountResigned, NoticeRaised, Relation, RelationChanged};
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{AT_ONCE, DATE, applied, device, kim, lee, like, pushes, replica};
use crate::pushes::{ROOM, message};
use crate::stream::{next, open};

async fn preferences(notice: &Running, person: &Person) -> Value {
    let request = sosohappy_common::tls::client().get(notice.at("/notice-service/preferences"));
    let answer = person.sign(request).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("JSON")
}

pub(super) async fn set(notice: &Running, person: &Person, form: &[(&str, &str)]) -> (u16, Value) {
    let request = sosohappy_common::tls::client().post(notice.at("/notice-service/preferences"));
    let answer = person.sign(request).form(form).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn inbox_count(notice: &Running, person: &Person) -> Value {
    let request = sosohappy_common::tls::client().get(notice.at("/notice-service/unreadCount"));
    let answer = person.sign(request).send().await.expect("an answer");
    answer.json::<Value>().await.expect("JSON")["count"].clone()
}

fn of_kind<'a>(preferences: &'a Value, kind: &str) -> &'a Value {
    let kinds = preferences["kinds"].as_array().expect("a list");
    kinds.iter().find(|entry| entry["kind"] == kind).expect("the kind")
}

async fn preferences_are_changed_one_by_one(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let first = preferences(&notice, &kim).await;
    assert_eq!(
        (&first["quietHours"], &first["timeZone"]),
        (&Value::Null, &json!("Asia/Seoul"))
    );
    assert_eq!(
        first["advertising"],
        json!({ "allowed": false, "at": null, "wording": null })
    );
    assert_eq!(
        of_kind(&first, "system"),
        &json!({ "kind": "system", "socket": true, "push": true, "urgent": true })
    );

    let (status, changed) = set(
        &notice,
        &kim,
        &[("pushOffList", "like,comment"), ("socketOffList", "follow")],
    )
    .await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(of_kind(&changed, "like")["push"], false);
    assert_eq!(of_kind(&changed, "like")["socket"], true);
    let (_, changed) = set(
        &notice,
        &kim,
        &[("quietHours", "22:30-07:00"), ("timeZone", "America/New_York")],
    )
    .await;
    assert_eq!(changed["quietHours"], "22:30-07:00");
    let (_, changed) = set(
        &notice,
        &kim,
        &[("advertising", "true"), ("advertisingWording", "2026-11")],
    )
    .await;
    assert_eq!(
        (&changed["advertising"]["allowed"], &changed["advertising"]["wording"]),
        (&json!(true), &json!("2026-11"))
    );
    assert!(changed["advertising"]["at"].is_string());
    let (_, changed) = set(
        &notice,
        &kim,
        &[
            ("mutePost", &DATE.to_string()),
            ("muteConversation", "lee"),
            ("muteRoom", ROOM),
        ],
    )
    .await;
    assert_eq!(changed["mutedRoomList"], json!([ROOM]));
    assert_eq!(changed["mutedPostList"], json!([DATE]));
    assert_eq!(changed["mutedConversationList"], json!(["lee"]));
    // Each call changed its part only.
    assert_eq!(preferences(&notice, &kim).await, changed);
    assert_eq!(
        (
            &changed["timeZone"],
            &of_kind(&changed, "comment")["push"],
            &of_kind(&changed, "follow")["socket"]
        ),
        (&json!("America/New_York"), &json!(false), &json!(false))
    );

    let (_, back) = set(
        &notice,
        &kim,
        &[
            ("pushOffList", ""),
            ("quietHours", "off"),
            ("unmutePost", &DATE.to_string()),
            ("unmuteConversation", "lee"),
            ("unmuteRoom", ROOM),
        ],
    )
    .await;
    assert_eq!(of_kind(&back, "like")["push"], true);
    assert_eq!(
        (
            &back["quietHours"],
            &back["mutedPostList"],
            &back["mutedConversationList"]
        ),
        (&Value::Null, &json!([]), &json!([]))
    );
    assert_eq!(back["mutedRoomList"], json!([]));
    assert_eq!(
        preferences(&notice, &lee).await,
        first,
        "another account's are untouched"
    );

    refused_preferences_change_nothing(&notice, &kim, &back).await;
    preferences_end_with_the_account(&bed, &notice, &kim, &lee, &first).await;
}

async fn refused_preferences_change_nothing(notice: &Running, kim: &Person, before: &Value) {
    for form in [
        ("pushOffList", "poke"),
        ("socketOffList", "message"),
        ("quietHours", "22:00-22:00"),
        ("timeZone", "Seoul"),
        ("advertising", "true"),
        ("advertisingWording", "2026-11"),
        ("muteConversation", "somebody unknown"),
        ("muteConversation", "kim"),
        ("muteRoom", "no id"),
        ("mutePost", "0"),
        ("mutePost", "-1"),
        ("mutePost", "20230905"),
        ("mutePost", "2023130100000000"),
        ("mutePost", "2023013200000000"),
        ("mutePost", "2023022900000000"),
    ] {
        assert_eq!(set(notice, kim, &[form]).await.0, 400, "{form:?}");
    }
    let (_, told) = set(notice, kim, &[("unmuteRoom", "no id")]).await;
    assert_eq!(told["detail"], "unmuteRoom: an id of a room is expected");
    for muted_earlier in ["-1", "2023130100000000"] {
        assert_eq!(
            set(notice, kim, &[("unmutePost", muted_earlier)]).await.0,
            200,
            "an earlier release may have muted it"
        );
    }
    assert_eq!(
        preferences(notice, kim).await,
        *before,
        "a refused call changes nothing"
    );
}

/// A resignation erases the account's preferences, and the mutes of its conversations.
async fn preferences_end_with_the_account(bed: &Bed, notice: &Running, kim: &Person, lee: &Person, defaults: &Value) {
    set(notice, kim, &[("muteConversation", "lee")]).await;
    let choi = bed.person("choi@example.com+kakao", "choi").await;
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account: choi.account.clone(),
        other: kim.account.clone(),
    })
    .await;
    eventually("who blocks is as unknown as nobody", async || {
        let unknown = set(notice, kim, &[("unmuteConversation", "somebody unknown")]).await;
        (set(notice, kim, &[("unmuteConversation", "choi")]).await == unknown).then_some(())
    })
    .await;
    set(notice, lee, &[("pushOffList", "like")]).await;
    bed.publish(AccountResigned {
        account: lee.account.clone(),
        nickname: lee.nickname.clone(),
    })
    .await;
    applied(notice, "resign", 1).await;
    assert_eq!(preferences(notice, kim).await["mutedConversationList"], json!([]));
    // The next sign-up has a later millisecond than the resignation.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let again = bed.person("lee@example.com+google", "lee").await;
    assert_eq!(preferences(notice, &again).await, *defaults);
}

async fn changes_of_two_devices_at_once_are_both_kept(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    let changes = [
        ("pushOffList", "like"),
        ("socketOffList", "like"),
        ("quietHours", "22:30-07:00"),
        ("timeZone", "UTC"),
    ];
    let changes = changes.map(|change| {
        let (notice, kim) = (&notice, &kim);
        async move { set(notice, kim, &[change]).await.0 }
    });
    assert_eq!(futures::future::join_all(changes).await, [200; 4]);
    let all = preferences(&notice, &kim).await;
    assert_eq!(
        of_kind(&all, "like"),
        &json!({ "kind": "like", "socket": false, "push": false, "urgent": false })
    );
    assert_eq!(
        (&all["quietHours"], &all["timeZone"]),
        (&json!("22:30-07:00"), &json!("UTC"))
    );
}

async fn what_is_off_or_muted_is_in_the_inbox_only(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let muted_post = (DATE + 1).to_string();
    set(
        &notice,
        &kim,
        &[
            ("pushOffList", "like"),
            ("mutePost", &muted_post),
            ("muteConversation", "lee"),
        ],
    )
    .await;
    bed.publish(like(&lee, &kim, DATE)).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    bed.publish(message(&lee, &kim, false)).await;
    bed.publish(message(&park, &kim, false)).await;
    eventually("neither like is pushed, and no message of lee", async || {
        let unwanted = async |kind: &str| pushes(&notice, kind, "unwanted").await;
        let is_decided = unwanted("like").await == 2 && unwanted("message").await == 1;
        (is_decided && pushes(&notice, "message", "sent").await == 1).then_some(())
    })
    .await;
    set(&notice, &kim, &[("pushOffList", ""), ("socketOffList", "comment")]).await;
    let mut socket = open(&notice, &kim, "").await;
    let comment = NoticeRaised {
        receiver: kim.account.clone(),
        topic: "comment".to_owned(),
        data: json!({ "commenter": "lee", "date": DATE, "commentId": 1 }),
        about: Some(lee.account.clone()),
    };
    bed.publish(comment).await;
    applied(&notice, "notice", 1).await;
    bed.publish(like(&park, &kim, DATE + 1)).await;
    bed.publish(like(&park, &kim, DATE + 2)).await;
    let shown = next(&mut socket).await;
    assert_eq!(
        (&shown["data"]["liker"], &shown["data"]["date"]),
        (&json!("park"), &json!(DATE + 2)),
        "neither the comment nor the muted post: {shown}"
    );
    eventually("all are in the inbox", async || {
        (inbox_count(&notice, &kim).await == 5).then_some(())
    })
    .await;
    assert_eq!(pushes(&notice, "like", "sent").await, 0);
}

/// Whatever the time of day is: quiet hours around it, and none.
async fn quiet_hours_hold_pushes_back_until_they_end(bed: Bed) {
    let notice = replica(&bed, &[AT_ONCE]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let now = bed.context.clock.now().to_zoned(jiff::tz::TimeZone::UTC);
    let hour = |hours: i64| {
        now.saturating_add(jiff::Span::new().hours(hours))
            .strftime("%H:%M")
            .to_string()
    };
    let hours = format!("{}-{}", hour(-2), hour(2));
    set(&notice, &kim, &[("quietHours", &hours), ("timeZone", "UTC")]).await;
    bed.publish(like(&lee, &kim, DATE)).await;
    let system = NoticeRaised {
        receiver: kim.account.clone(),
        topic: "system".to_owned(),
        data: json!({ "title": "점검", "text": "3시에 점검이 있습니다" }),
        about: None,
    };
    bed.publish(system).await;
    eventually("the urgent one is pushed, the like waits", async || {
        let sent = pushes(&notice, "system", "sent").await;
        (sent == 1 && pushes(&notice, "like", "quiet").await == 1).then_some(())
    })
    .await;
    assert_eq!(pushes(&notice, "like", "sent").await, 0);
}

on_both_engines!(
    changes_of_two_devices_at_once_are_both_kept,
    preferences_are_changed_one_by_one,
    quiet_hours_hold_pushes_back_until_they_end,
    what_is_off_or_muted_is_in_the_inbox_only,
);
