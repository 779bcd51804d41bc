//! A client that sends requests as Spring's does (spring-cloud-config-client, `ConfigServerConfigDataLoader`): one label after the other, the
//! media type with origins, Basic with a user, the last state; and interprets the response in the same way.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Fixture;

struct SpringClient<'a> {
    fixture: &'a Fixture,
    name: &'a str,
    profiles: &'a str,
    /// `spring.cloud.config.label`: tried from the first to the last.
    labels: &'a [&'a str],
}

impl SpringClient<'_> {
    /// Returns the environment; none without configuration for any label.
    async fn environment(&self) -> Option<Value> {
        let none = [""];
        let labels = if self.labels.is_empty() { &none } else { self.labels };
        for label in labels {
            let mut path = format!("/{}/{}", self.name, self.profiles);
            if !label.is_empty() {
                path = format!("{path}/{}", label.replace('/', "(_)"));
            }
            let response = self
                .fixture
                .get(&path)
                .header("Accept", "application/vnd.spring-cloud.config-server.v2+json")
                .header("Accept-Charset", "utf-8")
                .header("X-Config-State", "the state of an earlier response")
                .send()
                .await
                .unwrap();
            match response.status().as_u16() {
                200 => return Some(response.json().await.unwrap()),
                404 => {}
                status => panic!("a Spring client fails on {status}"),
            }
        }
        None
    }

    /// Returns the properties that the application sees: profile-specific sources before the others, each in the order of the response.
    async fn properties(&self) -> BTreeMap<String, String> {
        let environment = self.environment().await.unwrap();
        let profiles: Vec<_> = self.profiles.split(',').collect();
        let mut properties = BTreeMap::new();
        for source in environment["propertySources"].as_array().unwrap().iter().rev() {
            let name = source["name"].as_str().unwrap();
            let file = name.rsplit('/').next().unwrap();
            let specific = profiles.iter().any(|profile| file.contains(&format!("-{profile}.")));
            assert!(specific || file.starts_with("application.") || file.starts_with(self.name) || file == "overrides");
            for (key, value) in source["source"].as_object().unwrap() {
                // Recognised as value and origin with exactly these keys.
                assert_eq!(
                    value.as_object().unwrap().keys().collect::<Vec<_>>(),
                    ["value", "origin"]
                );
                assert!(value["origin"].is_string());
                properties.insert(key.clone(), value["value"].to_string().trim_matches('"').to_owned());
            }
        }
        properties
    }
}

#[tokio::test]
async fn a_spring_client_starts_as_with_springs_server() {
    let files = [
        ("application.yml", "server.port: 1\nshared: yes\n"),
        (
            "feed-config.yml",
            "server:\n  port: 8891\nspring.datasource.url: jdbc\nlist: [a, b]\n",
        ),
        ("feed-config-prod.yml", "spring.datasource.url: jdbc-prod\n"),
        ("release/1/feed-config.yml", "label: release\n"),
    ];
    let fixture = Fixture::new(&files, &[("overrides.forced", "1")]).await;
    let client = SpringClient {
        fixture: &fixture,
        name: "feed-config",
        profiles: "prod",
        labels: &[],
    };
    let expected = [
        ("forced", "1"),
        ("list[0]", "a"),
        ("list[1]", "b"),
        ("server.port", "8891"),
        ("shared", "yes"),
        ("spring.datasource.url", "jdbc-prod"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(client.properties().await, BTreeMap::from(expected));
    let environment = client.environment().await.unwrap();
    assert_eq!(
        (&environment["label"], &environment["state"]),
        (&Value::Null, &Value::Null)
    );
    assert!(environment["version"].is_string());
    assert_eq!(environment["profiles"], json!(["prod"]));
    assert_eq!(environment["propertySources"][0]["name"], "overrides");

    let labelled = SpringClient {
        labels: &["not-there", "release/1"],
        ..client
    };
    assert_eq!(labelled.environment().await.unwrap()["label"], "release/1");
    assert_eq!(labelled.properties().await["label"], "release");
    let nowhere = SpringClient {
        labels: &["not-there"],
        ..labelled
    };
    assert!(nowhere.environment().await.is_none());
}
