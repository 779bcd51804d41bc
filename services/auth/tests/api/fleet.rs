//! Routes that other services call.

use serde_json::{Value, json};
use sosohappy_events::types::{AccessTokenIssued, TokenDigest};
use sosohappy_testkit::{Bed, on_both_engines};
use std::time::Duration;

use crate::support::{Answer, Auth, Ground, KIM, LEE, send};

on_both_engines!(
    a_block_is_known_the_moment_it_is_made,
    a_token_is_known_the_moment_it_is_issued,
    names_and_accounts_are_resolved_in_both_directions,
    only_services_may_ask
);

impl Auth {
    async fn ask(&self, ground: &Ground, call: &str, body: Value) -> Answer {
        send(self.post(call).bearer_auth(&ground.bed.service_token).json(&body)).await
    }
}

fn about(account: &str, token: &str) -> Value {
    json!({ "account": account, "tokenDigest": TokenDigest::of(token).to_string() })
}

async fn a_token_is_known_the_moment_it_is_issued(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let kim = one.sign_in(KIM).await;
    let answer = other
        .ask(&ground, "introspect", about(&kim.account, &kim.access))
        .await
        .expect(200);
    let issued = ground.watch::<AccessTokenIssued>().await.next().await.event;
    let expected = json!({
        "active": true,
        "session": issued.session.to_string(),
        "issuedAt": issued.issued_at.as_millisecond(),
        "expiresAt": issued.expires_at.unwrap().as_millisecond(),
        "role": "user",
    });
    assert_eq!(answer.body, expected, "the same as on the topic");

    let inactive = json!({ "active": false });
    for body in [
        about("lee@example.com+google", &kim.access),
        about(&kim.account, &kim.refresh),
        about(&kim.account, "x"),
    ] {
        assert_eq!(one.ask(&ground, "introspect", body).await.expect(200).body, inactive);
    }
    ground.clock.advance(Duration::from_hours(10));
    let late = one
        .ask(&ground, "introspect", about(&kim.account, &kim.access))
        .await
        .expect(200);
    assert_eq!(late.body, inactive);
    for body in [
        json!({}),
        json!({ "account": "kim", "tokenDigest": "x" }),
        about("nobody", "x"),
    ] {
        one.ask(&ground, "introspect", body).await.expect(400);
    }
}

async fn names_and_accounts_are_resolved_in_both_directions(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "김 씨").await;
    let both = json!({ "account": kim.account, "nickname": "김 씨" });
    let neither = json!({ "account": null, "nickname": null });
    let lookup = async |body: Value| auth.ask(&ground, "lookup", body).await.expect(200).body;
    assert_eq!(lookup(json!({ "nickname": "김 씨" })).await, both);
    assert_eq!(lookup(json!({ "account": kim.account })).await, both);
    // Any spelling of a nickname finds it; an account is found by the very same text only.
    assert_eq!(lookup(json!({ "nickname": "김 씨 " })).await, both);
    assert_eq!(lookup(json!({ "account": "Kim@example.com+kakao" })).await, neither);
    assert_eq!(lookup(json!({ "account": "kim@example.com+kakao " })).await, neither);
    auth.ask(&ground, "lookup", json!({})).await.expect(400);
    auth.ask(&ground, "lookup", json!({ "nickname": "a", "account": "b@c+d" }))
        .await
        .expect(400);
}

async fn a_block_is_known_the_moment_it_is_made(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let (kim, lee) = (one.person(KIM, "kim").await, one.person(LEE, "lee").await);
    let is_blocked = async |account: &str, with: &str| {
        let body = json!({ "account": account, "other": with });
        other.ask(&ground, "lookup", body).await.expect(200).body["isBlocked"].clone()
    };
    assert_eq!(is_blocked(&kim.account, &lee.account).await, false);
    one.set_block("block", &lee, "lee", "kim").await.expect(200);
    assert_eq!(is_blocked(&kim.account, &lee.account).await, true);
    assert_eq!(is_blocked(&lee.account, &kim.account).await, true);
    one.set_block("unblock", &lee, "lee", "kim").await.expect(200);
    assert_eq!(is_blocked(&kim.account, &lee.account).await, false);
    assert_eq!(is_blocked("nobody@example.com+kakao", &lee.account).await, Value::Null);
    let body = json!({ "account": kim.account, "other": "lee" });
    other.ask(&ground, "lookup", body).await.expect(400);
}

async fn only_services_may_ask(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    for call in ["introspect", "lookup"] {
        let body = json!({ "nickname": "kim" });
        send(auth.post(call).json(&body)).await.expect(401);
        send(auth.post(call).bearer_auth("wrong").json(&body)).await.expect(401);
        send(kim.sign(auth.post(call).json(&body))).await.expect(401);
    }
}
