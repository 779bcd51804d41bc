//! The documented routes with the names of their parameters.

use std::collections::BTreeSet;

use serde_json::Value;
use sosohappy_fleet::app::Addresses;

/// A documented route.
#[derive(Debug, Clone)]
pub struct Route {
    /// The full URL, with values for path parameters.
    pub url: String,
    pub method: reqwest::Method,
    /// The documented path.
    pub path: String,
    /// Query and body parameters, without files.
    pub parameters: BTreeSet<String>,
    /// Whether it requires an access token.
    pub closed: bool,
}

/// Returns the documented routes of auth, feed, dm and notice.
pub async fn all(addresses: &Addresses) -> Vec<Route> {
    let services = [
        ("auth-service", &addresses.auth),
        ("feed-service", &addresses.feed),
        ("dm-service", &addresses.dm),
        ("notice-service", &addresses.notice),
    ];
    let mut routes = Vec::new();
    for (service, address) in services {
        let url = format!("{address}/{service}/openapi.json");
        let document: Value = sosohappy_common::tls::client()
            .get(url)
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap()
            .json()
            .await
            .unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{service}");
        for (path, item) in document["paths"].as_object().unwrap() {
            assert!(
                path.starts_with(&format!("/{service}/")),
                "{path} is outside the prefix"
            );
            for (method, operation) in item.as_object().unwrap() {
                routes.push(Route {
                    url: format!("{address}{}", path.replace("{imageId}", "1")),
                    method: method.to_uppercase().parse().unwrap(),
                    path: path.clone(),
                    parameters: parameters(&document, operation),
                    closed: is_closed(operation),
                });
            }
        }
    }
    assert!(routes.len() > 25, "only {} routes are documented", routes.len());
    routes
}

fn is_closed(operation: &Value) -> bool {
    let requirements = operation["security"].as_array();
    requirements.is_some_and(|all| all.iter().any(|required| required.get("accessToken").is_some()))
}

fn parameters(document: &Value, operation: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "query" {
            names.insert(parameter["name"].as_str().unwrap().to_owned());
        }
    }
    for content in operation["requestBody"]["content"]
        .as_object()
        .into_iter()
        .flat_map(|content| content.values())
    {
        fields(document, &content["schema"], &mut names);
    }
    names
}

fn fields(document: &Value, schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        return fields(document, document.pointer(pointer).unwrap(), names);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        fields(document, part, names);
    }
    for name in schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|properties| properties.keys())
    {
        names.insert(name.clone());
    }
}
