//! The connection log: off by default, sealed, kept after a resignation, deleted by expiry.

use std::time::Duration;

use serde_json::{Value, json};
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use crate::support::{Answer, Auth, Ground, KIM, LEE, send};

on_both_engines!(
    no_connection_is_logged_unless_the_operator_wants_it,
    connections_are_sealed_and_shown_to_operators,
    the_log_outlives_the_account_and_ends_with_its_retention,
);

async fn open(ground: &Ground, auth: &Auth, account: &str, note: &str) -> Answer {
    let request = auth.post("openConnectionLog");
    let request = request.bearer_auth(&ground.bed.operator_token);
    send(request.form(&[("account", account), ("note", note)])).await
}

fn kinds(answer: &Answer) -> Vec<&str> {
    let entries = answer.body["content"].as_array().expect("a list");
    entries
        .iter()
        .map(|entry| entry["kind"].as_str().expect("text"))
        .collect()
}

async fn no_connection_is_logged_unless_the_operator_wants_it(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(KIM).await;
    auth.reissue(&kim).await;
    assert_eq!(ground.rows("connection_log").await, 0);
    let answer = open(&ground, &auth, &kim.account, "warrant 1").await.expect(200);
    assert_eq!(answer.body, json!({"content": [], "unreadable": 0}));
}

async fn connections_are_sealed_and_shown_to_operators(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("connection-log.enabled", "true")]).await;
    let (kim, lee) = (auth.sign_in(KIM).await, auth.sign_in(LEE).await);
    ground.clock.advance(Duration::from_secs(1));
    let first = auth.reissue(&kim).await;
    // A repeated re-issue is the same connection.
    auth.reissue(&kim).await;
    assert_eq!(ground.rows("connection_log").await, 3);
    let plain = "connection_log WHERE sealed LIKE '%127.0.0.1%' OR sealed LIKE '%kim%'";
    assert_eq!(ground.rows(plain).await, 0);

    for refused in [
        send(auth.post("openConnectionLog").form(&[("account", &kim.account)])).await,
        send(first.sign(auth.post("openConnectionLog").form(&[("account", &kim.account)]))).await,
    ] {
        refused.expect(401);
    }
    open(&ground, &auth, &kim.account, " ").await.expect(400);
    let answer = open(&ground, &auth, "KIM@example.com+kakao", "warrant 1")
        .await
        .expect(200);
    assert_eq!(kinds(&answer), ["reissue", "signIn"]);
    assert_eq!(answer.body["content"][0]["address"], "127.0.0.1");
    assert_eq!(answer.body["content"][0]["at"], ground.clock_now().to_string());
    let answer = open(&ground, &auth, &lee.account, "warrant 2").await.expect(200);
    assert_eq!(kinds(&answer), ["signIn"]);
    assert_eq!(ground.rows("audit WHERE action = 'openConnectionLog'").await, 2);
    assert_eq!(ground.rows("audit_note WHERE text = 'warrant 1'").await, 1);

    // Other keys: counted, and nothing is lost.
    ground
        .execute("UPDATE connection_log SET sealed = 'v1:gone:AAAA'")
        .await;
    let answer = open(&ground, &auth, &lee.account, "warrant 3").await.expect(200);
    assert_eq!(answer.body, json!({"content": [], "unreadable": 1}));
}

async fn the_log_outlives_the_account_and_ends_with_its_retention(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("connection-log.enabled", "true")]).await;
    let kim = auth.sign_in(KIM).await;
    auth.resign(&kim).await.expect(200);
    let answer = open(&ground, &auth, &kim.account, "warrant 1").await.expect(200);
    assert_eq!(kinds(&answer), ["signIn"]);
    assert_eq!(ground.rows("audit_account").await, 0, "the audit has a keyed hash only");
    assert_eq!(ground.rows("audit_note").await, 0);

    ground.clock.advance(Duration::from_hours(24 * 89));
    let lee = auth.sign_in(LEE).await;
    let answer = open(&ground, &auth, &kim.account, "warrant 2").await.expect(200);
    assert_eq!(kinds(&answer), ["signIn"], "three months");
    ground.clock.advance(Duration::from_hours(25));
    let answer = open(&ground, &auth, &kim.account, "warrant 3").await.expect(200);
    assert_eq!(answer.body["content"], Value::Array(Vec::new()), "expiry is read");
    eventually("the expired entry is deleted", async || {
        (ground.rows("connection_log").await == 1).then_some(())
    })
    .await;
    let answer = open(&ground, &auth, &lee.account, "warrant 4").await.expect(200);
    assert_eq!(kinds(&answer), ["signIn"]);
}
