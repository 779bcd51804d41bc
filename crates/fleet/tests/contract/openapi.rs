//! The requirements of OpenAPI 3.1 that the generator of the documents could violate.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sosohappy_testkit::Cluster;

const SERVICES: [&str; 5] = ["auth", "config", "dm", "feed", "notice"];

/// The violations in a document, each with its place.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn expect(&mut self, is_fine: bool, place: &str, what: &str) {
        if !is_fine {
            self.0.push(format!("{place}: {what}"));
        }
    }

    fn document(&mut self, document: &Value) {
        let version = document["openapi"].as_str().unwrap_or_default();
        self.expect(version.starts_with("3.1."), "openapi", "is not 3.1");
        for field in ["title", "version"] {
            self.expect(is_text(&document["info"][field]), "info", field);
        }
        let mut ids = BTreeSet::new();
        for (path, item) in entries(&document["paths"]) {
            let names = self.names(path);
            for (method, operation) in entries(item) {
                let place = format!("{method} {path}");
                if let Some(id) = operation["operationId"].as_str() {
                    self.expect(ids.insert(id), &place, "its operationId is not unique");
                }
                self.parameters(&place, &names, &operation["parameters"]);
                self.responses(&place, &operation["responses"]);
                if let Some(body) = operation.get("requestBody") {
                    self.contents(&place, &body["content"]);
                    self.expect(
                        entries(&body["content"]).next().is_some(),
                        &place,
                        "its body has no media type",
                    );
                }
                for requirement in operation["security"].as_array().into_iter().flatten() {
                    for (name, _) in entries(requirement) {
                        let scheme = &document["components"]["securitySchemes"][name];
                        self.expect(is_text(&scheme["type"]), &place, &format!("no security scheme {name}"));
                    }
                }
            }
        }
        self.references(document, document, "");
    }

    /// Returns the names of the parameters in a path template.
    fn names<'a>(&mut self, path: &'a str) -> BTreeSet<&'a str> {
        let names: BTreeSet<_> = path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}'))
            .map(|(name, _)| name)
            .collect();
        let is_word = |name: &&str| name.chars().all(|char| char.is_ascii_alphanumeric());
        let is_template = path.starts_with('/') && names.iter().all(is_word);
        self.expect(is_template, path, "is not a path template");
        names
    }

    fn parameters(&mut self, place: &str, in_path: &BTreeSet<&str>, parameters: &Value) {
        let mut seen = BTreeSet::new();
        for parameter in parameters.as_array().into_iter().flatten() {
            let (name, within) = (&parameter["name"], &parameter["in"]);
            let place = format!("{place}, parameter {name}");
            let within = within.as_str().unwrap_or_default();
            let name = name.as_str().unwrap_or_default();
            self.expect(
                ["path", "query", "header", "cookie"].contains(&within),
                &place,
                "has no valid `in`",
            );
            self.expect(parameter["schema"].is_object(), &place, "has no schema");
            self.expect(seen.insert((within, name)), &place, "is a duplicate");
            if within == "path" {
                self.expect(parameter["required"] == true, &place, "is not required");
            }
        }
        let declared: BTreeSet<_> = seen
            .into_iter()
            .filter(|(within, _)| *within == "path")
            .map(|(_, name)| name)
            .collect();
        self.expect(
            declared == *in_path,
            place,
            "its parameters differ from those of its path",
        );
    }

    fn responses(&mut self, place: &str, responses: &Value) {
        self.expect(entries(responses).next().is_some(), place, "has no response");
        for (status, response) in entries(responses) {
            let place = format!("{place}, response {status}");
            self.expect(is_text(&response["description"]), &place, "has no description");
            self.contents(&place, &response["content"]);
            for (kind, content) in entries(&response["content"]) {
                let is_problem = content["schema"]["$ref"] == "#/components/schemas/Problem";
                let is_problem_type = kind == "application/problem+json";
                self.expect(
                    is_problem == is_problem_type,
                    &place,
                    "problems are application/problem+json",
                );
            }
        }
    }

    fn contents(&mut self, place: &str, contents: &Value) {
        for (kind, content) in entries(contents) {
            self.expect(content["schema"].is_object(), place, &format!("{kind} has no schema"));
        }
    }

    /// Checks that every `$ref` in a part of the document exists.
    fn references(&mut self, document: &Value, part: &Value, place: &str) {
        if let Some(reference) = part["$ref"].as_str() {
            let found = reference
                .strip_prefix('#')
                .and_then(|pointer| document.pointer(pointer));
            self.expect(found.is_some(), place, &format!("{reference} does not exist"));
        }
        for (name, part) in entries(part) {
            self.references(document, part, &format!("{place}/{name}"));
        }
        for part in part.as_array().into_iter().flatten() {
            self.references(document, part, place);
        }
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

/// Returns the entries of an object; none for any other value.
fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

pub async fn the_documents_are_valid_openapi(fleet: &Cluster) {
    let ports = fleet.replicas[0];
    let ports = [ports.auth, fleet.config, ports.dm, ports.feed, ports.notice];
    for (service, port) in SERVICES.into_iter().zip(ports) {
        let document = document(service, port).await;
        let mut faults = Faults::default();
        faults.document(&document);
        assert!(faults.0.is_empty(), "{service}:\n{}", faults.0.join("\n"));
    }
}

async fn document(service: &str, port: u16) -> Value {
    let url = format!("http://127.0.0.1:{port}/{service}-service/openapi.json");
    let answer = sosohappy_common::tls::client()
        .get(url)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    answer.json().await.unwrap()
}

/// Requests without a credential get 401 where the document requires the credential of a service or an operator, and only there.
pub async fn documented_service_and_operator_credentials_are_required(fleet: &Cluster) {
    let mut closed = 0;
    for (service, port) in [("auth", fleet.replicas[0].auth), ("config", fleet.config)] {
        let document = document(service, port).await;
        for (path, item) in entries(&document["paths"]) {
            for (method, operation) in entries(item) {
                let required = operation["security"].as_array().into_iter().flatten();
                let required: Vec<_> = required.flat_map(entries).map(|(name, _)| name.as_str()).collect();
                let is_closed = required
                    .iter()
                    .any(|name| ["serviceToken", "operatorToken"].contains(name));
                let url = format!("http://127.0.0.1:{port}{}", path.replace(['{', '}'], ""));
                let method = method.to_uppercase().parse().unwrap();
                let answer = sosohappy_common::tls::client()
                    .request(method, url)
                    .send()
                    .await
                    .unwrap();
                assert_eq!(answer.status() == 401, is_closed, "{path}: {required:?}, {answer:?}");
                closed += usize::from(is_closed);
            }
        }
    }
    assert!(closed > 15, "only {closed} operations require a credential");
}

/// Schema names are unique in a document: if two types share a name, one would be described as the other.
#[test]
fn schema_names_are_unique() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for service in SERVICES {
        let mut places = BTreeMap::new();
        let shared = ["access", "common", "realtime"].map(|name| workspace.join("crates").join(name));
        for folder in shared.into_iter().chain([workspace.join("services").join(service)]) {
            collect_schemas(&folder.join("src"), &mut places);
        }
        for (schema, places) in places {
            assert_eq!(places.len(), 1, "{service} has several schemas {schema}: {places:?}");
        }
    }
}

fn collect_schemas(folder: &std::path::Path, places: &mut BTreeMap<String, Vec<std::path::PathBuf>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_schemas(&path, places);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for schema in schemas(&std::fs::read_to_string(&path).unwrap()) {
                places.entry(schema).or_default().push(path.clone());
            }
        }
    }
}

/// Returns the schema names of the types in a source file that derive a schema: from `#[schema(as = …)]`, or the type's name.
fn schemas(source: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|char| char.is_alphanumeric())
            .collect::<String>()
    };
    let derives = source.split("#[derive(").skip(1);
    let documented = derives.filter(|item| item.split(')').next().is_some_and(|traits| traits.contains("ToSchema")));
    documented
        .map(|item| {
            let (attributes, declaration) = ["struct ", "enum "]
                .into_iter()
                .filter_map(|keyword| item.split_once(keyword))
                .min_by_key(|(attributes, _)| attributes.len())
                .unwrap_or_else(|| panic!("a type is expected after {item}"));
            let renamed = attributes.split_once("schema(as = ").map(|(_, name)| name);
            word(renamed.unwrap_or(declaration))
        })
        .collect()
}
