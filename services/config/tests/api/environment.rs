use serde_json::{Value, json};
use sosohappy_testkit::eventually;

use crate::Fixture;

const FILES: &[(&str, &str)] = &[
    ("application.yml", "shared: true\nlimits: {size: 7}\n"),
    (
        "feed-config.yml",
        "limits:\n  size: 10\n  names: [a, b]\ngreeting: hello ${who:you}\nurl: http://${host}:${limits.size}\n",
    ),
    (
        "feed-config-prod.yml",
        "limits.names: [c]\nhost: feed\n---\nspring.config.activate.on-profile: eu\nhost: feed-eu\n",
    ),
    ("dm-config.properties", "a.b=1\nname = 행복\n"),
    ("v2/feed-config.yml", "limits.size: 12\n"),
    ("motd.txt", "plain"),
    ("motd-prod.txt", "plain for prod"),
    ("v2/banner.bin", "banner"),
];

/// Removes the folder of the test from the names of sources.
fn without_folder(mut environment: Value) -> Value {
    for source in environment["propertySources"].as_array_mut().unwrap() {
        let name = source["name"].as_str().unwrap();
        let name = name.rsplit_once("/config/").unwrap().1.to_owned();
        source["name"] = name.into();
    }
    environment["version"] = "v".into();
    environment
}

#[tokio::test]
async fn sources_are_listed_by_precedence() {
    let fixture = Fixture::new(FILES, &[]).await;
    let environment = without_folder(fixture.json("/feed-config/prod").await);
    assert_eq!(
        environment,
        json!({
            "name": "feed-config", "profiles": ["prod"], "label": null, "version": "v", "state": null,
            "propertySources": [
                {"name": "feed-config-prod.yml (document #0)", "source": {"limits.names[0]": "c", "host": "feed"}},
                {"name": "feed-config.yml", "source": {
                    "limits.size": 10, "limits.names[0]": "a", "limits.names[1]": "b",
                    "greeting": "hello ${who:you}", "url": "http://${host}:${limits.size}"
                }},
                {"name": "application.yml", "source": {"shared": true, "limits.size": 7}}
            ]
        })
    );
    let both = without_folder(fixture.json("/feed-config/prod,eu").await);
    assert_eq!(both["propertySources"][0]["name"], "feed-config-prod.yml (document #1)");
}

#[tokio::test]
async fn boot_clients_get_values_with_origins() {
    let fixture = Fixture::new(FILES, &[]).await;
    let v2 = "application/vnd.spring-cloud.config-server.v2+json";
    let response = fixture
        .get("/feed-config/default")
        .header("Accept", v2)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], v2);
    let environment: Value = response.json().await.unwrap();
    let value = &environment["propertySources"][0]["source"]["limits.size"];
    assert_eq!(value["value"], 10);
    assert!(
        value["origin"].as_str().unwrap().ends_with("/feed-config.yml:2:3"),
        "{value}"
    );
    assert_eq!(value.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn flat_forms_are_merged_and_resolved() {
    let fixture = Fixture::new(FILES, &[]).await;
    let expected =
        "greeting: hello you\nhost: feed\nlimits.names[0]: c\nlimits.size: 10\nshared: true\nurl: http://feed:10\n";
    assert_eq!(fixture.text("/feed-config-prod.properties").await, expected);
    assert_eq!(
        fixture.json("/feed-config-prod.json").await,
        json!({
            "greeting": "hello you", "host": "feed", "limits": {"names": ["c"], "size": 10}, "shared": true, "url": "http://feed:10"
        })
    );
    let yaml =
        "greeting: hello you\nhost: feed\nlimits:\n  names:\n  - c\n  size: 10\nshared: true\nurl: http://feed:10\n";
    assert_eq!(fixture.text("/feed-config-prod.yml").await, yaml);
    assert_eq!(fixture.text("/feed-config-prod.yaml").await, yaml);
    assert_eq!(
        fixture.text("/dm-config-default.properties").await,
        "a.b: 1\nlimits.size: 7\nname: 행복\nshared: true\n"
    );
    let raw = fixture
        .text("/feed-config-prod.properties?resolvePlaceholders=false")
        .await;
    assert!(raw.contains("greeting: hello ${who:you}\n"), "{raw}");
}

#[tokio::test]
async fn a_label_is_a_folder_and_an_unknown_one_is_404() {
    let fixture = Fixture::new(FILES, &[]).await;
    let environment = without_folder(fixture.json("/feed-config/default/v2").await);
    assert_eq!(environment["label"], "v2");
    assert_eq!(environment["propertySources"][0]["name"], "v2/feed-config.yml");
    assert_eq!(fixture.json("/v2/feed-config-default.json").await["limits"]["size"], 12);
    assert_eq!(fixture.status("/feed-config/default/v3").await, 404);
    assert_eq!(fixture.status("/v3/feed-config-default.json").await, 404);
}

#[tokio::test]
async fn files_are_served_and_paths_stay_inside_the_source() {
    let fixture = Fixture::new(FILES, &[]).await;
    assert_eq!(fixture.text("/feed-config/default/v2/motd.txt").await, "plain");
    assert_eq!(fixture.text("/feed-config/prod/v2/motd.txt").await, "plain for prod");
    assert_eq!(fixture.text("/feed-config/default/v2/banner.bin").await, "banner");
    assert_eq!(fixture.status("/feed-config/default/v2/none.txt").await, 404);
    for path in [
        "/feed-config/default/v2/..%2f..%2fservice-token",
        "/feed-config/default/..%2f..",
        "/..%2fx/default",
        "/feed-config/%2e%2e",
        "/feed-config/default/v2/%2fetc%2fpasswd",
    ] {
        let status = fixture.status(path).await;
        assert!(status == 400 || status == 404, "{path} answered {status}");
    }
}

#[tokio::test]
async fn a_token_is_required() {
    let fixture = Fixture::new(FILES, &[]).await;
    for path in [
        "/feed-config/prod",
        "/feed-config-prod.yml",
        "/feed-config/default/v2",
        "/feed-config/default/v2/motd.txt",
    ] {
        let anonymous = fixture.anonymous(path).send().await.unwrap();
        assert_eq!(anonymous.status(), 401, "{path}");
        assert_eq!(anonymous.headers()["content-type"], "application/problem+json");
        let wrong = fixture.anonymous(path).bearer_auth("wrong").send().await.unwrap();
        assert_eq!(wrong.status(), 401, "{path}");
        let bearer = fixture
            .anonymous(path)
            .bearer_auth(&fixture.bed.service_token)
            .send()
            .await
            .unwrap();
        assert_eq!(bearer.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn an_application_without_files_is_empty_or_404() {
    let fixture = Fixture::new(&[], &[]).await;
    assert_eq!(fixture.json("/feed-config/default").await["propertySources"], json!([]));
    let strict = Fixture::new(&[], &[("source.accept-empty", "false")]).await;
    assert_eq!(strict.status("/feed-config/default").await, 404);
}

#[tokio::test]
async fn a_change_is_served_and_an_invalid_one_refused() {
    let fixture = Fixture::new(FILES, &[("source.poll", "50ms")]).await;
    let shared = async || fixture.json("/dm-config-default.json").await["shared"].clone();
    let refused = async || fixture.ask("/status").await["refused"][0]["version"].clone();
    fixture.write("application.yml", "shared: [");
    let first = eventually("the change is refused", async || {
        let refused = refused().await;
        refused.is_string().then_some(refused)
    })
    .await;
    fixture.write("dm-config.properties", "a.b=2");
    eventually("the change with a valid file is refused too", async || {
        let refused = refused().await;
        (refused.is_string() && refused != first).then_some(())
    })
    .await;
    assert_eq!(
        shared().await,
        true,
        "the last valid version stays published as a whole"
    );
    assert_eq!(fixture.json("/dm-config-default.json").await["a"]["b"], "1");
    fixture.write("application.yml", "shared: again\n");
    eventually("the change is served", async || {
        (shared().await == "again").then_some(())
    })
    .await;
    assert_eq!(fixture.json("/dm-config-default.json").await["a"]["b"], "2");
}
