use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::environment::Environment;
use crate::domain::snapshot::Snapshot;

fn reader(credential: Credential) -> Reader {
    Reader {
        credential,
        protected: vec!["feed-config".to_owned(), "dm-config".to_owned()],
    }
}

fn reads(credential: &Credential, application: &str, profiles: &str) -> bool {
    let query = Query::new(application, profiles, None).unwrap();
    reader(credential.clone()).may_read(&query, &[view(&[], None)]).is_ok()
}

fn view(paths: &[String], folder: Option<&str>) -> View {
    let content = |path: &String| (path.clone(), Bytes::from_static(b"{\"a\": 1}"));
    let snapshot = Snapshot::new("v".to_owned(), paths.iter().map(content).collect()).unwrap();
    View {
        snapshot: Arc::new(snapshot),
        folder: folder.map(str::to_owned),
        reference: None,
        search_paths: Arc::from(["v1".to_owned()]),
    }
}

#[test]
fn an_application_reads_its_own_and_shared_documents() {
    let feed = Credential::Application("feed-config".to_owned());
    assert!(reads(&feed, "feed-config", "prod,eu"));
    assert!(reads(&feed, "application", "prod"));
    assert!(reads(&feed, "feed-config,application", "prod"));
    for other in [
        "dm-config",
        "auth-config",
        "feed-config,dm-config",
        "a/dm-config",
        "dm-config/a",
    ] {
        assert!(!reads(&feed, other, "prod"), "{other}");
    }
}

#[test]
fn a_profile_does_not_bypass_authorisation() {
    let short = Credential::Application("dm".to_owned());
    assert!(reads(&short, "dm", "prod"));
    assert!(
        !reads(&short, "dm", "config"),
        "dm-config.yml belongs to another application"
    );
    assert!(!reads(&short, "dm", "config-prod"));
    assert!(!reads(&short, "dm", "x/dm-config"));
    assert!(!reads(&Credential::Service, "dm", "config"));
    assert!(
        !reads(&Credential::Service, "dm-config/secrets", "prod"),
        "a folder counts like a file name"
    );
}

#[test]
fn the_service_token_reads_applications_without_a_token() {
    assert!(reads(&Credential::Service, "auth-config", "prod"));
    assert!(reads(&Credential::Service, "application", "prod"));
    assert!(!reads(&Credential::Service, "feed-config", "prod"));
    assert!(reads(&Credential::Operator, "feed-config", "prod"));
}

#[test]
fn a_label_counts_like_a_folder() {
    let query = Query::new("feed-config", "prod", None).unwrap();
    let feed = reader(Credential::Application("feed-config".to_owned()));
    for (folder, reference, expected) in [
        (Some("v2"), None, true),
        (Some("dm-config"), None, false),
        (Some("a/dm-config"), None, false),
        (None, Some("release/2"), true),
        (None, Some("dm-config/next"), false),
        (None, Some("feed-config-next"), true),
    ] {
        let view = View {
            reference: reference.map(str::to_owned),
            ..view(&[], folder)
        };
        assert_eq!(
            feed.may_read(&query, &[view]).is_ok(),
            expected,
            "{folder:?} {reference:?}"
        );
    }
}

#[test]
fn plain_files_follow_the_same_rule() {
    let feed = reader(Credential::Application("feed-config".to_owned()));
    for path in [
        "feed-config.yml",
        "a/feed-config-prod.properties",
        "feed-config/database.yml",
        "application.yml",
        "logback.xml",
        "nginx.conf",
        "dm-config2.pem",
    ] {
        assert!(feed.may_read_file(path), "{path}");
    }
    for path in [
        "dm-config.yml",
        "a/dm-config-prod.yml",
        "auth-config.yml",
        "dm-config/key.pem",
        "dm-config.pem",
        "dm-config.tar.gz",
        "dm-config_keys/feed-config.yml",
    ] {
        assert!(!feed.may_read_file(path), "{path}");
    }
    let service = reader(Credential::Service);
    assert!(service.may_read_file("auth-config.yml"));
    assert!(!service.may_read_file("dm-config.yml"));
}

/// Names that are prefixes of each other, and suffixes for them.
const NAMES: [&str; 7] = [
    "pay",
    "pay-config",
    "ledger",
    "ledger-config",
    "other",
    "v1",
    "application",
];
const TAILS: [&str; 5] = ["", "-prod", "-config", ".local", "/x"];

fn name() -> impl Strategy<Value = String> {
    (
        proptest::sample::select(&NAMES[..]),
        proptest::sample::select(&TAILS[..]),
    )
        .prop_map(|(name, tail)| format!("{name}{tail}"))
}

fn path() -> impl Strategy<Value = String> {
    let folders = proptest::collection::vec(name(), 0..3);
    let extension = proptest::sample::select(&["yml", "properties", "json", "pem"][..]);
    (folders, name(), extension).prop_map(|(folders, stem, extension)| {
        let file = format!("{stem}.{extension}");
        folders.into_iter().chain([file]).collect::<Vec<_>>().join("/")
    })
}

/// The reference model: the applications with a token that a path belongs to. Each part of the path belongs to the application with the longest
/// name that it begins with.
fn model_owners<'a>(path: &str, protected: &'a BTreeSet<String>) -> BTreeSet<&'a str> {
    let mut owners = BTreeSet::new();
    for part in path.split('/') {
        let mut longest: Option<&str> = None;
        for name in protected {
            let next = part.as_bytes().get(name.len());
            let fits = part.starts_with(name.as_str()) && next.is_none_or(|next| !next.is_ascii_alphanumeric());
            if fits && longest.is_none_or(|longest| longest.len() < name.len()) {
                longest = Some(name);
            }
        }
        owners.extend(longest);
    }
    owners
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// For any files, names, labels and token: no response contains a document of another application, and a plain request of an application's
    /// own settings succeeds.
    #[test]
    fn an_answer_holds_no_document_of_another_application(
        paths in proptest::collection::btree_set(path(), 0..24),
        protected in proptest::collection::btree_set(proptest::sample::select(&NAMES[..6]).prop_map(str::to_owned), 0..4),
        own in proptest::option::of(proptest::sample::select(&NAMES[..6]).prop_map(str::to_owned)),
        applications in proptest::collection::vec(name(), 1..3),
        profiles in proptest::collection::vec(name(), 1..3),
        labels in proptest::collection::vec(proptest::option::of(name()), 1..3),
        branch in proptest::bool::ANY,
    ) {
        let paths: Vec<_> = paths.into_iter().collect();
        let mut all: BTreeSet<String> = protected.clone();
        all.extend(own.clone());
        let reader = Reader {
            credential: own.clone().map_or(Credential::Service, Credential::Application),
            protected: protected.iter().cloned().collect(),
        };
        let query = Query::new(&applications.join(",").replace('/', "(_)"), &profiles.join(","), None).unwrap();
        let views: Vec<_> = labels
            .iter()
            .map(|label| View {
                reference: label.clone().filter(|_| branch),
                ..view(&paths, label.as_deref().filter(|_| !branch))
            })
            .collect();
        let is_foreign = |path: &str| model_owners(path, &all).iter().any(|owner| Some(*owner) != own.as_deref());
        if reader.may_read(&query, &views).is_ok() {
            for view in &views {
                let answer = Environment::assemble(std::slice::from_ref(view), query.clone(), "", false);
                for source in answer.sources {
                    let path = view.owned_path(source.name.trim_start_matches('/'));
                    prop_assert!(!is_foreign(&path), "{path} for {own:?} of {all:?}");
                }
            }
        }
        for path in &paths {
            if reader.may_read_file(path) {
                prop_assert!(!is_foreign(path), "{path} for {own:?} of {all:?}");
            } else {
                prop_assert!(is_foreign(path) || own.is_some(), "{path} belongs to no application");
            }
        }
        let plain = Query::new(own.as_deref().unwrap_or("unprotected"), "x", None).unwrap();
        // A search path named like an application with a token belongs to that application.
        let is_search_path_foreign = is_foreign("v1/x.yml");
        prop_assert_eq!(reader.may_read(&plain, &[view(&paths, None)]).is_ok(), !is_search_path_foreign);
    }
}
