//! Responses compared byte by byte with golden files. `SOSOHAPPY_UPDATE_GOLDEN=1` rewrites the files; review the difference.

use reqwest::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use serde_json::Value;

use crate::Fixture;

const V2: &str = "application/vnd.spring-cloud.config-server.v2+json";

const FILES: &[(&str, &str)] = &[
    ("application.yml", "shared: true\nlimits: {size: 7}\n"),
    ("application-eu.properties", "region=eu-1\n"),
    (
        "feed-config.yml",
        "# settings of feed\nlimits:\n  size: 10\n  names: [a, b]\n  ratio: 0.5\n  none:\n  empty: []\ngreeting: hello ${who:you}, \\${kept}\n\
         url: http://${host}:${limits.size}\npassword: '{cipher}00'\n이름: 행복\n",
    ),
    (
        "feed-config-prod.yml",
        "limits.names: [c]\nhost: feed\n---\nspring.config.activate.on-profile: eu & !us\nhost: feed-eu\n",
    ),
    ("feed-config.json", "{\"json\": {\"list\": [{\"a\": 1}, {\"a\": 2.5}]}}"),
    ("v2/feed-config.yml", "limits.size: 12\n"),
    ("nginx.conf", "listen ${limits.size}; # \\${kept} ${unknown}\n"),
];

const OVERRIDES: [(&str, &str); 1] = [("overrides.forced.value", "yes")];

async fn fixture() -> Fixture {
    Fixture::new(FILES, &OVERRIDES).await
}

pub fn golden(name: &str, answer: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("SOSOHAPPY_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, answer).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(kept, answer, "{name}");
}

/// Replaces the parts that differ in each run: the folder of the test.
pub fn steady(fixture: &Fixture, answer: &str) -> String {
    let folder = fixture.bed.folder().join("config").display().to_string();
    answer.replace(&folder, "/srv/config")
}

#[tokio::test]
async fn responses_match_their_golden_files() {
    let fixture = fixture().await;
    for (name, path) in [
        ("environment.json", "/feed-config/prod"),
        ("environment-of-two-profiles.json", "/feed-config/prod,eu"),
        ("environment-at-label.json", "/feed-config/default/v2"),
        ("environment-of-unknown-application.json", "/unknown/default"),
        ("flat.yml", "/feed-config-prod.yml"),
        ("flat.yml", "/feed-config-prod.yaml"),
        ("flat.properties", "/feed-config-prod.properties"),
        ("flat.json", "/feed-config-prod.json"),
        ("flat-at-label.properties", "/v2/feed-config-default.properties"),
        (
            "flat-unresolved.properties",
            "/feed-config-prod.properties?resolvePlaceholders=false",
        ),
        ("file-at-label.conf", "/feed-config/prod/v2/nginx.conf"),
        ("file.conf", "/feed-config/prod/nginx.conf?useDefaultLabel"),
        (
            "file-unresolved.conf",
            "/feed-config/prod/v2/nginx.conf?resolvePlaceholders=false",
        ),
    ] {
        let answer = fixture.text(path).await;
        let answer = match serde_json::from_str::<Value>(&answer) {
            Ok(json) if std::path::Path::new(name).extension() == Some("json".as_ref()) => format!("{json:#}\n"),
            _ => answer,
        };
        golden(name, &steady(&fixture, &answer));
    }
    let v2 = fixture
        .get("/feed-config/prod")
        .header(ACCEPT, V2)
        .send()
        .await
        .unwrap();
    let v2: Value = v2.json().await.unwrap();
    golden("environment-v2.json", &steady(&fixture, &format!("{v2:#}\n")));
}

#[tokio::test]
async fn binary_files_are_served_unchanged() {
    let fixture = fixture().await;
    let bytes = [0_u8, 159, 146, 150, b'$', b'{', b'a', b'}'];
    std::fs::write(fixture.bed.folder().join("config/logo.bin"), bytes).unwrap();
    let fixture = fixture.restart().await;
    for (path, media_type) in [
        ("/feed-config/prod/v2/logo.bin", "*/*"),
        ("/feed-config/prod/logo.bin?useDefaultLabel", "application/octet-stream"),
    ] {
        let response = fixture.get(path).header(ACCEPT, media_type).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/octet-stream", "{path}");
        assert_eq!(response.bytes().await.unwrap(), bytes.as_slice(), "{path}");
    }
    let raw = fixture
        .get("/feed-config/prod/v2/nginx.conf")
        .header(ACCEPT, "application/octet-stream");
    let raw = raw.send().await.unwrap().text().await.unwrap();
    assert_eq!(raw, FILES.last().unwrap().1, "no placeholder is resolved in bytes");
}

#[tokio::test]
async fn a_known_entity_tag_gets_not_modified() {
    let fixture = Fixture::new(FILES, &[("source.poll", "50ms")]).await;
    let paths = [
        "/feed-config/prod",
        "/feed-config/default/v2",
        "/feed-config-prod.yml",
        "/v2/feed-config-default.json",
        "/feed-config/prod/v2/nginx.conf",
    ];
    let mut tags = Vec::new();
    for path in paths {
        let response = fixture.get(path).send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "private, no-cache");
        let tag = response.headers()[ETAG].clone();
        assert!(tag.to_str().unwrap().starts_with('"'), "{tag:?} is a strong tag");
        for known in [
            tag.to_str().unwrap(),
            &format!("\"other\", {}", tag.to_str().unwrap()),
            "*",
        ] {
            let response = fixture.get(path).header(IF_NONE_MATCH, known).send().await.unwrap();
            assert_eq!(
                (response.status().as_u16(), &response.headers()[ETAG]),
                (304, &tag),
                "{path}"
            );
            assert_eq!(response.text().await.unwrap(), "");
        }
        assert_eq!(
            fixture
                .get(path)
                .header(IF_NONE_MATCH, "\"other\"")
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
        tags.push(tag);
    }
    let v2 = fixture.get(paths[0]).header(ACCEPT, V2).send().await.unwrap().headers()[ETAG].clone();
    tags.push(v2);
    let different: std::collections::HashSet<_> = tags.iter().collect();
    assert_eq!(different.len(), tags.len(), "each response has its own tag");
    fixture.write("application.yml", "shared: false\n");
    sosohappy_testkit::eventually("the tag has changed", async || {
        let response = fixture
            .get(paths[0])
            .header(IF_NONE_MATCH, &tags[0])
            .send()
            .await
            .unwrap();
        (response.status() == 200).then_some(())
    })
    .await;
    assert_eq!(
        fixture
            .anonymous(paths[0])
            .header(IF_NONE_MATCH, "*")
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
}

#[tokio::test]
async fn an_application_with_a_token_is_read_with_that_token_only() {
    let feed = "the token of feed only";
    let settings = [
        ("applications.feed-config", feed),
        ("applications.dm-config", "the token of dm only"),
    ];
    let files = [
        ("application.yml", "shared: 1\n"),
        ("feed-config.yml", "mine: feeds-secret\n"),
        ("dm-config.yml", "mine: dms-secret\n"),
        ("auth-config.yml", "mine: auths\n"),
        ("dm-config/key.pem", "dms-secret"),
    ];
    let fixture = Fixture::new(&files, &settings).await;
    let ask = async |token: &str, path: &str| {
        let response = fixture.anonymous(path).bearer_auth(token).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let service = fixture.bed.service_token.clone();
    for (token, path, expected) in [
        (feed, "/feed-config/default", 200),
        (feed, "/application-default.yml", 200),
        (feed, "/feed-config-default.json", 200),
        (feed, "/dm-config/default", 403),
        (feed, "/dm-config-default.yml", 403),
        (feed, "/auth-config/default", 403),
        (feed, "/feed-config,dm-config/default", 403),
        (feed, "/feed-config/default/dm-config.yml?useDefaultLabel", 403),
        (feed, "/feed-config/default/dm-config/key.pem?useDefaultLabel", 403),
        (feed, "/encrypt/status", 401),
        (service.as_str(), "/auth-config/default", 200),
        (service.as_str(), "/feed-config/default", 403),
        (service.as_str(), "/dm/config", 403),
        (fixture.bed.operator_token.as_str(), "/feed-config/default", 200),
        ("an unknown token", "/application/default", 401),
    ] {
        let (status, text) = ask(token, path).await;
        assert_eq!(status, expected, "{path}: {text}");
        let others = if token == feed { "dms-secret" } else { "nothing" };
        assert!(!text.contains(others), "{path}: {text}");
        if status == 403 {
            let problem: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(problem["code"], "not-your-application");
        }
    }
    let header = fixture
        .anonymous("/feed-config/default")
        .header("X-Config-Token", feed)
        .send()
        .await
        .unwrap();
    assert_eq!(header.status(), 200);
}
