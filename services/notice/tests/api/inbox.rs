//! `findNotice`, `readNotice`, `handledNotice`, `unreadCount`.

use serde_json::{Value, json};
use sosohappy_events::types::{NoticeRaised, Relation, RelationChanged};
use sosohappy_testkit::{Bed, Person, Running, on_both_engines};

use crate::fleet::{DATE, applied, kim, lee, like, replica};

async fn get(notice: &Running, person: &Person, path: &str) -> (u16, Value) {
    let request = sosohappy_common::tls::client().get(notice.at(&format!("/notice-service/{path}")));
    let answer = person.sign(request).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn read(notice: &Running, person: &Person, seq: &str) -> (u16, Value) {
    let request = sosohappy_common::tls::client().post(notice.at("/notice-service/readNotice"));
    let answer = person
        .sign(request)
        .form(&[("seq", seq)])
        .send()
        .await
        .expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn notices_are_listed_counted_and_read(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    assert_eq!(
        get(&notice, &kim, "findNotice").await,
        (200, json!({ "content": [], "nextCursor": null }))
    );
    bed.publish(like(&lee, &kim, DATE)).await;
    applied(&notice, "noticeLike", 1).await;
    bed.publish(like(&park, &kim, DATE)).await;
    applied(&notice, "noticeLike", 2).await;
    bed.publish(NoticeRaised {
        receiver: kim.account.clone(),
        topic: "comment".to_owned(),
        data: json!({ "text": "좋아요" }),
        about: None,
    })
    .await;
    applied(&notice, "notice", 1).await;

    let (status, page) = get(&notice, &kim, "findNotice?cursor=start&size=1&date=").await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["content"][0]["topic"], "comment");
    assert_eq!(page["content"][0]["data"], json!({ "text": "좋아요" }));
    let cursor = page["nextCursor"].as_str().expect("another page");
    let (_, page) = get(&notice, &kim, &format!("findNotice?size=1&cursor={cursor}")).await;
    assert_eq!(page["nextCursor"], Value::Null);
    let group = &page["content"][0];
    assert_eq!(
        group["data"],
        json!({ "liker": "park", "date": DATE, "count": 2, "likers": ["park", "lee"] })
    );
    assert_eq!(group["isRead"], false);
    let (_, likes) = get(&notice, &kim, &format!("findNotice?date={DATE}")).await;
    assert_eq!(likes["content"].as_array().map(Vec::len), Some(2));
    assert_eq!(likes["content"][1]["data"]["liker"], "lee");

    assert_eq!(get(&notice, &kim, "unreadCount").await.1["count"], 3);
    let seq = group["seq"].as_i64().expect("a number");
    assert_eq!(
        read(&notice, &kim, &seq.to_string()).await,
        (200, json!({ "count": 1, "readSeq": seq }))
    );
    let (_, page) = get(&notice, &kim, "findNotice").await;
    assert_eq!(
        (&page["content"][0]["isRead"], &page["content"][1]["isRead"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(read(&notice, &kim, "99999999999999999999").await.0, 400);
    assert_eq!(read(&notice, &kim, &u64::MAX.to_string()).await.1["count"], 0);
    assert_eq!(
        get(&notice, &lee, "unreadCount").await,
        (200, json!({ "count": 0, "readSeq": 0 }))
    );
    assert_eq!(get(&notice, &kim, "findNotice?cursor=x").await.0, 400);
    assert_eq!(get(&notice, &kim, "findNotice?size=51").await.0, 400);
}

async fn a_device_learns_which_banners_are_handled(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    for day in 0..2 {
        bed.publish(like(&lee, &kim, DATE + day)).await;
    }
    applied(&notice, "noticeLike", 2).await;
    let (_, page) = get(&notice, &kim, "findNotice").await;
    let [newer, older] = [0, 1].map(|index| page["content"][index]["id"].as_str().expect("an id").to_owned());
    let handled = async |ids: &str| {
        let request = sosohappy_common::tls::client().post(notice.at("/notice-service/handledNotice"));
        let answer = kim
            .sign(request)
            .form(&[("idList", ids)])
            .send()
            .await
            .expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let banners = format!("{newer},{older},another-service");
    assert_eq!(handled(&banners).await, (200, json!({ "idList": [] })));
    let seq = page["content"][1]["seq"].as_i64().expect("a number");
    read(&notice, &kim, &seq.to_string()).await;
    assert_eq!(handled(&banners).await, (200, json!({ "idList": [older] })));
    assert_eq!(handled(&["x"; 101].join(",")).await.0, 400);
}

async fn an_inbox_shows_present_names_and_no_blocked_account(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let park = bed.person("park@example.com+apple", "park").await;
    bed.publish(like(&lee, &kim, DATE)).await;
    bed.publish(like(&park, &kim, DATE + 1)).await;
    applied(&notice, "noticeLike", 2).await;
    bed.rename(&lee.account, "leeds").await;
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account: kim.account.clone(),
        other: park.account.clone(),
    })
    .await;
    applied(&notice, "relation", 1).await;
    let names = sosohappy_testkit::eventually("the new name is known", async || {
        let (_, page) = get(&notice, &kim, "findNotice").await;
        let content = page["content"].as_array().expect("a list").clone();
        (content[0]["data"]["liker"] == "leeds").then_some(content)
    })
    .await;
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(get(&notice, &kim, "unreadCount").await.1["count"], 1);
}

on_both_engines!(
    a_device_learns_which_banners_are_handled,
    an_inbox_shows_present_names_and_no_blocked_account,
    notices_are_listed_counted_and_read,
);
