use serde_json::json;

use crate::Fixture;

#[tokio::test]
async fn operators_encrypt_and_clients_read_plain_values() {
    let fixture = Fixture::new(&[], &[("encrypt.key", "a test key"), ("source.poll", "50ms")]).await;
    let operator = fixture.bed.operator_token.clone();
    let text = fixture
        .post("/encrypt", &operator, "s3cret")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let again = fixture.post("/decrypt", &operator, &text).send().await.unwrap();
    assert_eq!(again.text().await.unwrap(), "s3cret");

    fixture.write(
        "feed-config.yml",
        &format!("password: '{{cipher}}{text}'\nother: '{{cipher}}00'\n"),
    );
    sosohappy_testkit::eventually("the file is served", async || {
        let environment = fixture.json("/feed-config/default").await;
        let source = &environment["propertySources"][0]["source"];
        (*source == json!({"password": "s3cret", "invalid.other": "<n/a>"})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn services_may_not_encrypt_and_garbage_is_refused() {
    let fixture = Fixture::new(&[], &[("encrypt.key", "a test key")]).await;
    let service = fixture.bed.service_token.clone();
    assert_eq!(
        fixture.post("/encrypt", &service, "x").send().await.unwrap().status(),
        401
    );
    assert_eq!(
        fixture.post("/decrypt", &service, "x").send().await.unwrap().status(),
        401
    );
    let operator = fixture.bed.operator_token.clone();
    assert_eq!(
        fixture.post("/decrypt", &operator, "zz").send().await.unwrap().status(),
        400
    );
    assert_eq!(fixture.status("/encrypt/status").await, 200);
    let keyless = Fixture::new(&[], &[]).await;
    assert_eq!(keyless.status("/encrypt/status").await, 404);
}

#[tokio::test]
async fn values_stay_closed_where_the_client_opens_them() {
    let files = [("feed-config.yml", "password: '{cipher}00'\n")];
    let fixture = Fixture::new(&files, &[("encrypt.enabled", "false")]).await;
    let environment = fixture.json("/feed-config/default").await;
    assert_eq!(
        environment["propertySources"][0]["source"],
        json!({"password": "{cipher}00"})
    );
}
