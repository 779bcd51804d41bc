use reqwest::header::{ETAG, IF_NONE_MATCH};
use serde_json::json;
use sosohappy_common::settings::{self, Sources};
use sosohappy_testkit::{Bed, EngineSet};

use crate::Fixture;

#[tokio::test]
async fn operators_encrypt_and_clients_get_decrypted_values() {
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
async fn another_key_changes_the_entity_tag() {
    let bed = Bed::new(EngineSet::Embedded).await;
    let file = bed.folder().join("config/feed-config.yml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, "password: '{cipher}00'\n").unwrap();
    let mut tags = Vec::new();
    for key in ["a wrong key", "a test key", "a test key"] {
        let config = crate::start(&bed, &[("encrypt.key", key)]).await;
        let asked = sosohappy_common::tls::client().get(config.at("/config-service/feed-config/default"));
        let answer = asked.bearer_auth(&bed.service_token).send().await.unwrap();
        tags.push(answer.headers()[ETAG].clone());
        config.stop().await;
    }
    assert_ne!(
        tags[0], tags[1],
        "a client must not keep values that could not be decrypted"
    );
    assert_eq!(
        tags[1], tags[2],
        "the tag is the same after a restart and on another replica"
    );
}

#[tokio::test]
async fn services_may_not_encrypt_and_invalid_ciphertexts_are_refused() {
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
    let status = async |fixture: &Fixture, token: &str| {
        let request = fixture.anonymous("/encrypt/status").bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(&fixture, &operator).await, 200);
    assert_eq!(status(&fixture, &service).await, 401);
    for path in ["/key", "/key/feed-config/default"] {
        for (token, expected) in [(&operator, 404), (&service, 401)] {
            let asked = fixture.anonymous(path).bearer_auth(token).send().await.unwrap();
            assert_eq!(asked.status(), expected, "there is no public key: {path}");
        }
    }
    let keyless = Fixture::new(&[], &[]).await;
    assert_eq!(status(&keyless, &keyless.bed.operator_token).await, 404);
}

#[tokio::test]
async fn values_stay_encrypted_when_clients_decrypt_them() {
    let files = [("feed-config.yml", "password: '{cipher}00'\n")];
    let fixture = Fixture::new(&files, &[("encrypt.enabled", "false")]).await;
    let environment = fixture.json("/feed-config/default").await;
    assert_eq!(
        environment["propertySources"][0]["source"],
        json!({"password": "{cipher}00"})
    );
}

#[tokio::test]
async fn decryption_changes_live_and_changes_the_entity_tag() {
    let bed = Bed::new(EngineSet::Embedded).await;
    let (folder, file) = (bed.folder().join("config"), bed.folder().join("settings.toml"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("feed-config.yml"), "password: '{cipher}00'\n").unwrap();
    let write = |enabled: bool| std::fs::write(&file, format!("[encrypt]\nenabled = {enabled}\n")).unwrap();
    write(true);
    let sources = Sources {
        service: "config",
        defaults: sosohappy_config::DEFAULTS,
        file: Some(file.clone()),
        overrides: [
            ("server.port", "0".to_owned()),
            ("source.url", format!("file:{}", folder.display())),
            ("state.folder", bed.folder().join("state").display().to_string()),
            ("credentials.service-token", bed.service_token.clone()),
            ("credentials.operator-token", bed.operator_token.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec(),
        environment: false,
    };
    let settings = settings::load(&sources).await.unwrap();
    let context = bed.context(sosohappy_config::SERVICE);
    context.settings.attach(&settings);
    let service = sosohappy_config::build(settings, context, bed.bus.clone()).await;
    let config = bed.start(service).await;
    let client = sosohappy_common::tls::client();
    let url = config.at("/config-service/feed-config/default");
    let ask = async |known: &str| {
        let asked = client.get(&url).bearer_auth(&bed.service_token);
        asked.header(IF_NONE_MATCH, known).send().await.unwrap()
    };
    let opened = ask("none").await;
    let tag = opened.headers()[ETAG].to_str().unwrap().to_owned();
    assert!(opened.text().await.unwrap().contains("invalid.password"));
    assert_eq!(ask(&tag).await.status(), 304);

    write(false);
    let refresh = client
        .post(config.at("/actuator/refresh"))
        .bearer_auth(&bed.operator_token);
    let refreshed = refresh.send().await.unwrap().error_for_status().unwrap();
    assert_eq!(refreshed.headers()["x-needs-restart"], "");
    assert_eq!(refreshed.json::<Vec<String>>().await.unwrap(), ["encrypt.enabled"]);
    let closed = ask(&tag).await;
    assert_eq!(closed.status(), 200);
    assert!(closed.text().await.unwrap().contains("{cipher}00"));
}

#[tokio::test]
async fn prefixes_select_key_and_form() {
    let settings = [("encrypt.key", "a test key"), ("encrypt.keys.next", "another test key")];
    let fixture = Fixture::new(&[], &settings).await;
    let operator = fixture.bed.operator_token.clone();
    let post = async |path: &str, body: &str| {
        let response = fixture.post(path, &operator, body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    for (path, text, begins) in [
        ("/encrypt", "{key:next}s3cret", "{key:next}"),
        (
            "/encrypt/feed-config/prod",
            "{key:next}{alg:gcm}s3cret",
            "{key:next}{alg:gcm}",
        ),
        ("/encrypt/feed-config/prod", "s3cret", ""),
    ] {
        let (status, encrypted) = post(path, text).await;
        assert_eq!(status, 200, "{text}");
        assert!(encrypted.starts_with(begins), "{encrypted}");
        assert_eq!(
            post(&path.replace("encrypt", "decrypt"), &encrypted).await,
            (200, "s3cret".to_owned())
        );
    }
    assert_eq!(post("/encrypt", "{key:unknown}x").await.0, 404);
}
