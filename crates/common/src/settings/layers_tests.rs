use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::*;
use crate::rate::Rate;
use crate::settings::{Live, Log, RateLimits, Refreshed, SecretUrl, Server, load, valid};

const DEFAULTS: &str = r#"
live = ["post"]

[server]
port = 8891

[database]
url = "sqlite:data/feed.db"

[post]
posts = 5
words = ["a", "b"]
"#;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    server: Server,
    rate_limits: RateLimits,
    log: Log,
    tracing: crate::settings::Tracing,
    events: crate::settings::Events,
    fleet: crate::settings::Fleet,
    #[serde(rename = "erasure")]
    _erasure: crate::settings::Erasure,
    credentials: crate::settings::Credentials,
    config: crate::settings::ConfigClient,
    database: Database,
    post: Post,
    sockets: Option<Sockets>,
    range: Option<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Database {
    url: SecretUrl,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Post {
    #[serde(deserialize_with = "valid::at_least_one")]
    posts: u32,
    words: Vec<String>,
}

fn sources(overrides: &[(&str, &str)]) -> Sources {
    let mut all = vec![
        ("credentials.service-token", "service-token-of-a-test"),
        ("credentials.operator-token", "operator-token-of-a-test"),
    ];
    all.extend(overrides);
    let overrides = all
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Sources {
        service: "feed",
        defaults: DEFAULTS,
        file: None,
        overrides,
        environment: false,
    }
}

async fn read(overrides: &[(&str, &str)]) -> Result<Live<Settings>, String> {
    load(&sources(overrides)).await.map_err(|error| error.to_string())
}

fn environment(variables: &[(&str, &str)]) -> Result<Layer, String> {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    Layer::environment("feed", variables).map_err(|error| error.to_string())
}

fn with_environment(variables: &[(&str, &str)]) -> Result<Settings, String> {
    let mut layers = Layers::at_hand(&sources(&[("post.posts", "7")])).map_err(|error| error.to_string())?;
    layers.stack.push(environment(variables)?);
    layers
        .typed()
        .map(|typed| typed.settings)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn defaults_come_over_shared_defaults() {
    let settings = read(&[]).await.expect("the defaults are complete").get();
    assert_eq!(
        (settings.server.port, settings.server.drain_budget),
        (8891, Duration::from_secs(20))
    );
    assert_eq!(settings.database.url.expose(), "sqlite:data/feed.db");
    assert_eq!((settings.post.posts, settings.post.words.len()), (5, 2));
    assert_eq!(
        (settings.config.url.as_ref(), settings.config.profiles.as_slice()),
        (None, &["default".to_owned()][..])
    );
    assert_eq!(settings.events.topics.len(), 0);
    assert_eq!(settings.log.level, "info");
    assert_eq!(settings.tracing.otlp_endpoint, None);
    assert_eq!(settings.rate_limits.per_address.sign_in, Rate::per_minute(300));
    assert_eq!(settings.rate_limits.trusted_proxies.len(), 2);
}

#[tokio::test]
async fn the_spring_services_of_a_mixed_fleet_are_named() {
    use crate::Service;
    use crate::settings::{AccessTokenForm, SpringNoticeLike};

    let fleet = |settings: Live<Settings>| settings.get().fleet.clone();
    let none = fleet(read(&[]).await.expect("valid"));
    assert_eq!(
        (none.spring.len(), none.spring_notice_like),
        (0, SpringNoticeLike::Account)
    );

    let some = fleet(
        read(&[
            ("fleet.spring", "notice, feed"),
            ("fleet.spring-notice-like", "nickname"),
        ])
        .await
        .expect("valid"),
    );
    assert!(some.spring.iter().eq(&[Service::Feed, Service::Notice]));
    assert_eq!(some.spring_notice_like, SpringNoticeLike::Nickname);

    let told = read(&[("fleet.spring", "feed,gateway")])
        .await
        .expect_err("no service of ours");
    assert_eq!(
        told,
        "fleet.spring: services are expected: config, auth, feed, dm, notice (in the launcher)"
    );

    let renamed = fleet(read(&[("events.access-token-form", "raw")]).await.expect("valid"));
    assert_eq!(renamed.access_token_form, Some(AccessTokenForm::Raw));
}

#[tokio::test]
async fn a_file_comes_over_defaults_and_under_overrides() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("feed.toml");
    std::fs::write(&file, "[post]\nposts = 6\nwords = [\"c\"]\n[server]\nport = 1\n").expect("written");
    let mut sources = sources(&[("server.port", "2"), ("log.level", "warn,hyper=off")]);
    sources.file = Some(file.clone());
    let settings = load::<Settings>(&sources).await.expect("valid").get();
    assert_eq!((settings.server.port, settings.post.posts), (2, 6));
    assert_eq!(settings.post.words, ["c"], "a list is replaced as a whole");

    std::fs::write(&file, "[post]\npost = 6\n").expect("written");
    let told = load::<Settings>(&sources)
        .await
        .expect_err("a typing error")
        .to_string();
    assert_eq!(told, format!("post.post: unknown key (in {})", file.display()));
    std::fs::write(&file, "[post\n").expect("written");
    let told = load::<Settings>(&sources).await.expect_err("not TOML").to_string();
    assert!(
        told.starts_with(&format!("cannot read settings from {}: ", file.display())),
        "{told}"
    );
    std::fs::write(&file, "live = [\"server\"]\n").expect("written");
    let told = load::<Settings>(&sources).await.expect_err("not for files").to_string();
    assert_eq!(told, format!("live: unknown key (in {})", file.display()));
    sources.file = Some(folder.path().join("none.toml"));
    assert!(
        load::<Settings>(&sources).await.is_err(),
        "a file that was asked for must be there"
    );
}

#[test]
fn the_environment_comes_last() {
    let settings = with_environment(&[
        ("SOSOHAPPY_FEED__POST__POSTS", "8"),
        ("SOSOHAPPY_FEED__SERVER__BODY_LIMIT", "1000"),
        ("SOSOHAPPY_FEED__CONFIG__PROFILES", "default,prod"),
        ("SOSOHAPPY_FEED__TRACING__OTLP_ENDPOINT", ""),
        ("SOSOHAPPY_AUTH__POST__POSTS", "9"),
        ("SOSOHAPPY_SERVICE_TOKEN", "service-token-of-the-fleet"),
        ("SOSOHAPPY_OPERATOR_TOKEN", "operator-token-of-the-fleet"),
        ("SOSOHAPPY_FEED__CREDENTIALS__OPERATOR_TOKEN", "operator-token-of-feed"),
        ("SOSOHAPPY_DATA", "/var/lib/sosohappy"),
    ]);
    let settings = settings.expect("valid");
    assert_eq!((settings.post.posts, settings.server.body_limit), (8, 1000));
    assert_eq!(settings.config.profiles, ["default", "prod"]);
    assert_eq!(
        settings.credentials.service_token.expose_secret(),
        "service-token-of-the-fleet"
    );
    assert_eq!(
        settings.credentials.operator_token.expose_secret(),
        "operator-token-of-feed"
    );
    let told = with_environment(&[("SOSOHAPPY_FEED__POST__POST", "8")]).expect_err("a typing error");
    assert_eq!(told, "post.post: unknown key (in the environment)");
}

#[test]
fn the_config_service_comes_over_files_and_under_the_environment() {
    let with = |variables: Option<&[(&str, &str)]>| {
        let mut layers = Layers::at_hand(&sources(&[("post.posts", "7")])).expect("valid");
        if let Some(variables) = variables {
            layers.stack.push(environment(variables).expect("valid"));
        }
        let remote = [
            serde_json::json!({"post.posts": 1, "server.body-limit": 1000}),
            serde_json::json!({"post.posts": 2}),
        ]
        .map(|source| Layer::foreign("a source", &object(source)).0);
        layers.insert_remote(remote.into(), variables.is_some());
        let settings: Settings = layers.typed().expect("valid").settings;
        (settings.post.posts, settings.server.body_limit)
    };
    assert_eq!(with(None), (2, 1000), "the last source comes over the others");
    assert_eq!(with(Some(&[("SOSOHAPPY_FEED__POST__POSTS", "8")])), (8, 1000));
}

#[tokio::test]
async fn limits_are_read_from_texts() {
    let settings = read(&[
        ("rate-limits.per-address.read", "off"),
        ("rate-limits.per-account.read", "7"),
        ("rate-limits.trusted-proxies", "10.0.0.0/8, 192.0.2.1"),
    ]);
    let limits = &settings.await.expect("valid").get().rate_limits;
    assert_eq!(
        (limits.per_address.read, limits.per_account.read),
        (Rate::Off, Rate::per_minute(7))
    );
    let trusted: Vec<_> = limits.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(trusted, ["10.0.0.0/8", "192.0.2.1/32"]);
}

#[tokio::test]
async fn nonsense_is_refused_with_its_place() {
    for (key, value, told) in [
        ("post.posts", "0", "post.posts: must be at least 1 (in the launcher)"),
        (
            "post.posts",
            "many",
            "post.posts: a whole number (u32) is expected (in the launcher)",
        ),
        (
            "tracing.sample-ratio",
            "1.5",
            "tracing.sample-ratio: must be between 0 and 1 (in the launcher)",
        ),
        (
            "post.posts",
            "99999999999999999999999999",
            "post.posts: a whole number (u32) is expected (in the launcher)",
        ),
        (
            "post.posts",
            "4294967295",
            "post.posts: must be at most 2147483647 (in the launcher)",
        ),
        (
            "server.upload-memory",
            "18446744073709551615",
            "server.upload-memory: must be at most 1099511627776 (in the launcher)",
        ),
        (
            "server.body-timeout",
            "101y",
            "server.body-timeout: must be at most 100 years (in the launcher)",
        ),
        (
            "server.body-timeout",
            "99999999999999999999y",
            "server.body-timeout: must be at most 100 years (in the launcher)",
        ),
        (
            "server.body-timeout",
            "hunter2",
            "server.body-timeout: a duration, 10s or 2h 30m, is expected (in the launcher)",
        ),
        (
            "config.url",
            "hunter2",
            "config.url: a URL is expected: relative URL without a base (in the launcher)",
        ),
        (
            "server.body-timeout",
            "0s",
            "server.body-timeout: must be longer than nothing (in the launcher)",
        ),
        (
            "rate-limits.per-address.read",
            "0",
            "rate-limits.per-address.read: a whole number of at least 1, or off, is expected (in the launcher)",
        ),
        (
            "rate-limits.trusted-proxies",
            "10.0.0.0/8,10.0.0.0/33",
            "rate-limits.trusted-proxies: a network such as 10.0.0.0/8, or an address, is expected (in the launcher)",
        ),
        ("server.prot", "1", "server.prot: unknown key (in the launcher)"),
        (
            "credentials.service-token",
            "short",
            "credentials.service-token: must have at least 16 characters (in the launcher)",
        ),
        (
            "events.security.cafile",
            "/ca",
            "events.security.cafile: unknown key (in the launcher)",
        ),
        (
            "log.format",
            "xml",
            "log.format: pretty or json is expected (in the launcher)",
        ),
    ] {
        assert_eq!(read(&[(key, value)]).await.expect_err(key), told);
    }
    let told = read(&[("log.level", "info,=hunter2")]).await.expect_err("no level");
    assert!(
        told.starts_with("log.level: log levels are expected") && !told.contains("hunter2"),
        "{told}"
    );
}

#[tokio::test]
async fn a_missing_key_names_its_file_and_variable() {
    let mut sources = sources(&[]);
    sources.overrides.clear();
    let told = load::<Settings>(&sources)
        .await
        .expect_err("no credentials")
        .to_string();
    assert_eq!(
        told,
        "credentials.service-token: missing; set it in a file or as SOSOHAPPY_SERVICE_TOKEN"
    );
    sources = self::sources(&[]);
    sources.defaults = "[server]\nport = 1\n";
    let told = load::<Settings>(&sources).await.expect_err("no database").to_string();
    assert_eq!(
        told,
        "database: missing; set it in a file or as SOSOHAPPY_FEED__DATABASE"
    );
}

#[tokio::test]
async fn secrets_do_not_show() {
    let settings = read(&[("database.url", "mysql://feed:hunter2@db/feed")])
        .await
        .expect("valid")
        .get();
    let shown = format!("{settings:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("token-of-a-test"),
        "{shown}"
    );
    assert!(shown.contains("mysql:[redacted]"), "{shown}");
}

#[test]
fn foreign_keys_are_ignored_only_where_others_live() {
    let mut layers = Layers::at_hand(&sources(&[])).expect("at hand");
    let source = object(serde_json::json!({
        "spring.datasource.url": "jdbc:mysql://db/feed", "server.servlet.context-path": "/feed-service",
        "post.posts": 9, "post.words[0]": "x", "odd key": true, "map[a.b]": 1,
    }));
    let (layer, left_out) = Layer::foreign("feed-config.yml", &source);
    layers.insert_remote(vec![layer], false);
    let typed = layers.typed::<Settings>().expect("foreign keys are no error");
    assert_eq!(left_out, ["map[a.b]"]);
    assert_eq!(
        typed.ignored,
        [
            "server.servlet (in feed-config.yml)",
            "spring (in feed-config.yml)",
            "odd key (in feed-config.yml)"
        ]
    );
    assert_eq!(
        typed.values.keys().filter(|key| key.starts_with("spring")).count(),
        0,
        "they are no change of settings"
    );
    assert_eq!(
        (typed.settings.post.posts, typed.settings.post.words),
        (9, vec!["x".to_owned()])
    );
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WithKeys {
    keys: Vec<Key>,
}

#[derive(Debug, Deserialize)]
struct Key {
    kid: String,
}

#[test]
fn foreign_keys_inside_a_list_are_ignored_too() {
    let mut layers = Layers::at_hand(&sources(&[])).expect("at hand");
    layers.stack.clear();
    let source = object(serde_json::json!({
        "keys[0].kid": "a", "keys[0].id": "b", "keys[1].kid": "c", "keys[1].deep[0].id": "d",
    }));
    let (layer, _) = Layer::foreign("auth-config.yml", &source);
    layers.insert_remote(vec![layer], false);
    let typed = layers.typed::<WithKeys>().expect("foreign keys are no error");
    assert_eq!(
        typed.ignored,
        ["keys[0].id (in auth-config.yml)", "keys[1].deep (in auth-config.yml)"]
    );
    let kids: Vec<_> = typed.settings.keys.iter().map(|key| key.kid.as_str()).collect();
    assert_eq!(kids, ["a", "c"]);
}

#[tokio::test]
async fn an_index_makes_no_endless_list() {
    let source = serde_json::json!({ "post.words[9999999999]": "x", "post.words[-1]": "y", "post.posts": 3 });
    let (layer, left_out) = Layer::foreign("feed-config.yml", &object(source));
    assert_eq!(left_out, ["post.words[9999999999]", "post.words[-1]"]);
    assert_eq!(layer.tree, serde_json::json!({ "post": { "posts": 3 } }));
    let told = read(&[("post.words[1001]", "x")]).await.expect_err("too many");
    assert_eq!(told, "post.words[1001]: an index is 0 to 1000 (in the launcher)");
}

#[tokio::test]
async fn a_refresh_changes_all_or_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("feed.toml");
    std::fs::write(&file, "[post]\nposts = 6\n").expect("written");
    let sources = Sources {
        file: Some(file.clone()),
        ..sources(&[])
    };
    let live = load::<Settings>(&sources).await.expect("valid");
    let mut changes = live.subscribe();
    assert_eq!(live.refresh().await.expect("valid").changed, Vec::<String>::new());
    assert!(!changes.has_changed().expect("alive"));

    std::fs::write(&file, "[post]\nposts = 7\n[server]\nport = 1\n").expect("written");
    let refreshed = live.refresh().await.expect("valid");
    assert_eq!(refreshed.changed, ["post.posts", "server.port"]);
    assert_eq!(refreshed.needs_restart, ["server.port"]);
    assert_eq!(changes.borrow_and_update().post.posts, 7);

    let refreshed = live.refresh().await.expect("valid");
    assert_eq!(refreshed.changed, Vec::<String>::new());
    assert_eq!(refreshed.needs_restart, ["server.port"], "until the restart");

    std::fs::write(&file, "[post]\nposts = 0\n[server]\nport = 2\n").expect("written");
    live.refresh().await.expect_err("nonsense");
    assert_eq!((live.get().post.posts, live.get().server.port), (7, 1));
    Live::new(())
        .refresh()
        .await
        .expect_err("there is nothing to read from");
}

#[tokio::test]
async fn values_set_while_running_take_precedence() {
    let live = read(&[("post.posts", "6")]).await.expect("valid");
    let set = |key: &str, value: Value| Map::from_iter([(key.to_owned(), value)]);
    let refreshed = live.set(set("post.posts", 9.into())).await.expect("valid");
    assert_eq!(refreshed.changed, ["post.posts"]);
    live.set(set("post.posts", 0.into())).await.expect_err("nonsense");
    live.set(set("spring.application.name", "feed".into()))
        .await
        .expect("what others understand is ignored");
    assert_eq!(live.refresh().await.expect("valid"), Refreshed::default());
    assert_eq!(live.get().post.posts, 9);
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sockets {
    #[serde(deserialize_with = "valid::duration")]
    drain_spread: Duration,
}

#[test]
fn an_old_key_is_read_as_the_new_one_in_every_layer() {
    let layers = Layers::at_hand(&sources(&[])).expect("at hand");
    let under = |layer: Layer| {
        let mut layers = layers.clone();
        layers.stack.push(layer);
        let typed = layers.typed::<Settings>().map_err(|error| error.to_string())?;
        let sockets = typed.settings.sockets.expect("given");
        let old_keys = typed.old_keys.into_iter().map(|key| (key.renamed.old, key.source));
        Ok::<_, String>((sockets.drain_spread, old_keys.collect::<Vec<_>>()))
    };
    let environment = |value| environment(&[("SOSOHAPPY_FEED__SOCKETS__DRAIN_OVER", value)]).expect("keys");
    let file = Layer::toml("feed.toml", "[sockets]\ndrain-over = \"7s\"\n").expect("TOML");
    let set = Map::from_iter([("sockets.drain-over".to_owned(), Value::from("7s"))]);
    for (layer, source) in [
        (file, "feed.toml"),
        (environment("7s"), "the environment"),
        (Layer::foreign("feed-config.yml", &set).0, "feed-config.yml"),
    ] {
        let old_key = ("sockets.drain-over", source.to_owned());
        assert_eq!(under(layer), Ok((Duration::from_secs(7), vec![old_key])));
    }
    assert_eq!(
        under(environment("0s")).expect_err("no spread"),
        "sockets.drain-spread: must be longer than nothing (in the environment, as sockets.drain-over)"
    );
    let new = Layer::toml("feed.toml", "[sockets]\ndrain-spread = \"8s\"\n").expect("TOML");
    assert_eq!(under(new), Ok((Duration::from_secs(8), Vec::new())));
}

/// CPU time of this thread: a test beside others has it for itself.
#[cfg(target_os = "linux")]
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

#[cfg(target_os = "linux")]
#[test]
fn many_foreign_keys_take_linear_time() {
    let read_with = |count: usize| {
        let key = |number: usize| match number % 4 {
            0 => format!("other{number}.name"),
            1 => format!("spring.list[{}].name", number % 1000),
            2 => format!("server.servlet{number}.name"),
            _ => format!("post.foreign{number}"),
        };
        let source: Map<String, Value> = (0..count).map(|number| (key(number), number.into())).collect();
        let mut layers = Layers::at_hand(&sources(&[])).expect("at hand");
        let before = cpu_time();
        let (layer, left_out) = Layer::foreign("application.yml", &source);
        layers.insert_remote(vec![layer], false);
        let typed = layers.typed::<Settings>().expect("foreign keys are no error");
        let taken = cpu_time().saturating_sub(before);
        assert_eq!((typed.settings.post.posts, left_out.len()), (5, 0));
        taken
    };
    // The best of ten: processors shared with other tests are slower.
    let best = |count| (0..10).map(|_| read_with(count)).min().expect("ten");
    let (thousands, ten_thousands) = (best(1_000), best(10_000));
    assert!(
        ten_thousands < Duration::from_millis(500),
        "10,000 keys took {ten_thousands:?}"
    );
    assert!(
        ten_thousands < thousands * 30,
        "1,000 keys took {thousands:?}, 10,000 {ten_thousands:?}"
    );
}

#[tokio::test]
async fn a_key_of_thousands_of_parts_is_refused_with_its_place() {
    let deep = vec!["a"; 3000].join(".");
    let (layer, left_out) = Layer::foreign("application.properties", &Map::from_iter([(deep.clone(), true.into())]));
    assert_eq!(layer.tree, serde_json::json!({}));
    assert!(
        left_out[0].starts_with("a.a.a.") && left_out[0].len() < 200,
        "{left_out:?}"
    );

    let told = read(&[(&deep, "x")]).await.expect_err("not a key of ours");
    assert!(told.ends_with("a key has at most 32 parts (in the launcher)"), "{told}");
    let variable = format!("SOSOHAPPY_FEED__{}", vec!["A"; 3000].join("__"));
    let told = environment(&[(&variable, "x")]).expect_err("not a key of ours");
    assert!(
        told.ends_with("a key has at most 32 parts (in the environment)"),
        "{told}"
    );
    let told = Layer::toml("feed.toml", &format!("{deep} = 1")).expect_err("not a key of ours");
    assert!(
        told.to_string()
            .starts_with("cannot read settings from feed.toml: line 1: "),
        "{told}"
    );

    let live = self::read(&[]).await.expect("valid");
    live.set(Map::from_iter([(deep, "x".into())]))
        .await
        .expect("ignored, as any unknown key");
    assert_eq!(live.refresh().await.expect("valid"), Refreshed::default());
}

#[tokio::test]
async fn a_file_that_is_no_toml_is_not_quoted() {
    let told = Layer::toml("feed.toml", "[credentials]\nservice-token = hunter2\n").expect_err("no quotes");
    let told = told.to_string();
    assert!(told.contains("line 2") && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn values_set_while_running_can_be_corrected_and_removed() {
    let live = read(&[]).await.expect("valid");
    let set = async |key: &str, value: Value| live.set(Map::from_iter([(key.to_owned(), value)])).await;
    set("post.posts", 9.into()).await.expect("valid");
    // A value in the place of a section: it is refused and removed, with any value inside of it.
    for _ in 0..10 {
        let told = set("post", "x".into()).await.expect_err("a section").to_string();
        assert_eq!(
            told,
            "post: a group of named values is expected (in values set while running)"
        );
        live.refresh().await.expect("not in the way");
    }
    set("post.words", "c".into()).await.expect("valid");
    set("post.words[0]", "d".into())
        .await
        .expect("in the place of the whole list");
    assert_eq!(
        (live.get().post.posts, &live.get().post.words[..]),
        (9, &["d".to_owned()][..])
    );
    set("post", Value::Null).await.expect("taken back");
    assert_eq!((live.get().post.posts, live.get().post.words.len()), (5, 2));

    set("post.posts", 9.into()).await.expect("valid");
    set("post.posts", "".into())
        .await
        .expect("an empty text takes back too");
    assert_eq!(live.get().post.posts, 5);
}

#[tokio::test]
async fn flags_are_of_every_service_and_follow_a_refresh() {
    let live = read(&[("flags.fault.drop", "25%")]).await.expect("valid");
    let refresher = super::super::Refresher::default();
    refresher.attach(&live);
    let flags = refresher.flags();
    assert!(!flags.is_on("new-feed", "kim"));
    let set = async |key: &str, value: Value| live.set(Map::from_iter([(key.to_owned(), value)])).await;
    let outcome = set("flags.new-feed", true.into()).await.expect("valid");
    assert_eq!(
        (outcome.changed, outcome.needs_restart),
        (vec!["flags.new-feed".to_owned()], Vec::new())
    );
    assert!(flags.is_on("new-feed", "kim"));
    let told = set("flags.new-feed", "s3cret".into())
        .await
        .expect_err("no switch")
        .to_string();
    assert!(
        told.starts_with("flags.new-feed: true, false, or a percentage") && !told.contains("s3cret"),
        "{told}"
    );
    let on = (0..1000)
        .filter(|key| flags.is_on("fault.drop", &key.to_string()))
        .count();
    assert!(on.abs_diff(250) < 60, "{on}");
    set("flags.new-feed", "".into()).await.expect("taken back");
    assert!(!flags.is_on("new-feed", "kim"));
    assert_eq!(flags.take_evaluated(), ["fault.drop", "new-feed"]);
}

#[tokio::test]
async fn a_full_set_of_values_can_still_be_taken_back() {
    let live = read(&[]).await.expect("valid");
    let foreign = |count: usize| (0..count).map(|number| (format!("other{number}"), number.into()));
    live.set(foreign(1000).collect())
        .await
        .expect("as many as there may be");
    live.set(Map::from_iter([("one.more".to_owned(), 1.into())]))
        .await
        .expect_err("one more");
    live.set(foreign(10_000).collect()).await.expect_err("many more");
    live.set(Map::from_iter([("other7".to_owned(), "".into())]))
        .await
        .expect("taken back");
    live.set(Map::from_iter([("one.more".to_owned(), 1.into())]))
        .await
        .expect("room for one");
}

/// A structure whose values are valid together or not at all.
#[derive(Debug, Deserialize)]
#[serde(try_from = "std::collections::BTreeMap<String, u32>")]
struct Range {
    low: u32,
}

impl TryFrom<std::collections::BTreeMap<String, u32>> for Range {
    type Error = &'static str;

    fn try_from(range: std::collections::BTreeMap<String, u32>) -> Result<Self, &'static str> {
        let low = range["low"];
        if low > range["high"] {
            Err("low is above high")
        } else {
            Ok(Self { low })
        }
    }
}

#[tokio::test]
async fn a_set_value_that_has_become_invalid_is_discarded() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("feed.toml");
    std::fs::write(&file, "[range]\nlow = 1\nhigh = 5\n").expect("written");
    let sources = Sources {
        file: Some(file.clone()),
        ..sources(&[])
    };
    let live = load::<Settings>(&sources).await.expect("valid");
    let set = |value: u32| live.set(Map::from_iter([("range.low".to_owned(), value.into())]));
    let low = || live.get().range.as_ref().map(|range| range.low);
    set(4).await.expect("valid");
    set(6).await.expect_err("above high");
    assert_eq!(low(), Some(4));

    std::fs::write(&file, "[range]\nlow = 9\nhigh = 3\n").expect("written");
    live.refresh().await.expect_err("invalid with and without what was set");
    assert_eq!(low(), Some(4));
    std::fs::write(&file, "[range]\nlow = 2\nhigh = 3\n").expect("written");
    live.refresh().await.expect("valid without what was set");
    assert_eq!(low(), Some(2));
}
