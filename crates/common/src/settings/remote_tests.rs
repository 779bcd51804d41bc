use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::settings::{Live, Sources, load, valid};

const TOKEN: &str = "service-token-of-a-test";

#[derive(Debug, Deserialize)]
struct Settings {
    post: Post,
    #[serde(rename = "server")]
    _server: serde_json::Value,
    #[serde(rename = "rate-limits")]
    _limits: serde_json::Value,
    #[serde(rename = "log")]
    _log: serde_json::Value,
    #[serde(rename = "tracing")]
    _tracing: serde_json::Value,
    #[serde(rename = "events")]
    _events: serde_json::Value,
    #[serde(rename = "fleet")]
    _fleet: serde_json::Value,
    #[serde(rename = "erasure")]
    _erasure: serde_json::Value,
    #[serde(rename = "credentials")]
    _credentials: serde_json::Value,
    #[serde(rename = "config")]
    _config: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Post {
    #[serde(deserialize_with = "valid::at_least_one")]
    posts: u32,
    words: Vec<String>,
}

/// A config service on loopback that answers with what `answer` makes of the number of the question.
async fn config_service(answer: impl Fn(usize) -> Response + Clone + Send + Sync + 'static) -> String {
    config_service_asked(move |asked, _| answer(asked)).await
}

/// The same, of the question's headers too.
async fn config_service_asked(
    answer: impl Fn(usize, &HeaderMap) -> Response + Clone + Send + Sync + 'static,
) -> String {
    let asked = Arc::new(AtomicUsize::new(0));
    let handler = move |Path((app, profiles)): Path<(String, String)>, headers: HeaderMap| async move {
        if !crate::http::credential::shows(&headers, &TOKEN.into()) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        assert_eq!((app.as_str(), profiles.as_str()), ("feed-config", "default,prod"));
        answer(asked.fetch_add(1, Ordering::SeqCst), &headers)
    };
    let router = Router::new().route("/config-service/{app}/{profiles}", get(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/config-service")
}

async fn ask(url: &str, token: &str, wait: &str) -> Result<Live<Settings>, String> {
    ask_keeping(url, token, wait, "").await
}

async fn ask_keeping(url: &str, token: &str, wait: &str, copy: &str) -> Result<Live<Settings>, String> {
    let overrides = [
        ("config.copy", copy),
        ("config.url", url),
        ("config.profiles", "default,prod"),
        ("config.wait", wait),
        ("server.port", "0"),
        ("credentials.service-token", token),
        ("credentials.operator-token", "operator-token-of-a-test"),
    ];
    let overrides = overrides
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
    let defaults = "live = [\"post\"]\n[post]\nposts = 5\nwords = [\"a\", \"b\", \"c\"]\n";
    load(&Sources {
        service: "feed",
        defaults,
        file: None,
        overrides,
        environment: false,
    })
    .await
    .map_err(|error| error.to_string())
}

fn environment(posts: usize) -> Response {
    axum::Json(json!({
        "name": "feed-config", "profiles": ["default", "prod"], "label": null, "version": format!("v{posts}"), "state": null,
        "propertySources": [
            {"name": "file:/config/feed-config-prod.yml", "source": {"post.posts": posts, "spring.application.name": "feed"}},
            {"name": "file:/config/feed-config.yml", "source": {"post.posts": 1, "post.words[0]": "x", "post.words[1]": "y"}},
        ],
    }))
    .into_response()
}

#[tokio::test]
async fn its_first_source_wins() {
    let url = config_service(|_| environment(70)).await;
    let settings = ask(&url, TOKEN, "60s").await.expect("valid").get();
    assert_eq!(
        (settings.post.posts, settings.post.words.as_slice()),
        (70, &["x".to_owned(), "y".to_owned()][..])
    );
}

#[tokio::test]
async fn it_is_waited_for_while_it_starts() {
    let unready = || StatusCode::SERVICE_UNAVAILABLE.into_response();
    let url = config_service(move |asked| if asked < 2 { unready() } else { environment(8) }).await;
    assert_eq!(ask(&url, TOKEN, "60s").await.expect("valid").get().post.posts, 8);
    let url = config_service(move |_| unready()).await;
    let told = ask(&url, TOKEN, "3s").await.expect_err("it never comes");
    let expected = "no answer within 3s: it answered 503 Service Unavailable";
    assert_eq!(
        told,
        format!("cannot read settings from the config service at {url}: {expected}")
    );
}

#[tokio::test]
async fn an_unreachable_config_service_is_one_clear_line() {
    let told = ask("http://127.0.0.1:9/config-service", TOKEN, "2s")
        .await
        .expect_err("nobody listens");
    assert!(
        told.contains("no answer within 2s: ") && told.contains("refused"),
        "{told}"
    );
}

#[tokio::test]
async fn a_refusal_is_not_retried_and_no_copy_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("feed.json");
    let path = copy.to_str().expect("text");
    let url = config_service(|_| environment(8)).await;
    ask_keeping(&url, TOKEN, "60s", path).await.expect("valid");
    assert!(copy.exists());

    let told = ask_keeping(&url, "another-token-of-a-test", "60s", path)
        .await
        .expect_err("not its token");
    assert!(told.ends_with("credentials.service-token is not its own"), "{told}");
    let (other, nothing) = (StatusCode::FORBIDDEN, StatusCode::NOT_FOUND);
    for (status, reason) in [
        (other, "is not its own"),
        (nothing, "/config-service/feed-config/default,prod"),
    ] {
        let url = config_service(move |_| status.into_response()).await;
        let told = ask_keeping(&url, TOKEN, "60s", path).await.expect_err("refused");
        assert!(told.contains(status.as_str()) && told.ends_with(reason), "{told}");
        assert!(!told.contains('\n'), "{told}");
    }
    let url = config_service(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    let kept = ask_keeping(&url, TOKEN, "50ms", path).await.expect("the copy");
    assert_eq!(kept.get().post.posts, 8);
}

#[tokio::test]
async fn nothing_found_while_running_changes_nothing() {
    let nothing = || StatusCode::NOT_FOUND.into_response();
    let url = config_service(move |asked| if asked == 0 { environment(8) } else { nothing() }).await;
    let live = ask(&url, TOKEN, "60s").await.expect("valid");
    live.refresh().await.expect_err("nothing there");
    assert_eq!(live.get().post.posts, 8);
}

#[tokio::test]
async fn known_settings_are_not_sent_again() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = sent.clone();
    // A new answer at the fourth question; the tag is the answer's.
    let url = config_service_asked(move |asked, headers| {
        let posts = if asked < 3 { 8 } else { 9 };
        let tag = format!("\"v{posts}\"");
        if headers.get("if-none-match").is_some_and(|known| *known == *tag) {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        counting.fetch_add(1, Ordering::SeqCst);
        ([("etag", tag)], environment(posts)).into_response()
    })
    .await;
    let live = ask(&url, TOKEN, "60s").await.expect("valid");
    for _ in 0..2 {
        let refreshed = live.refresh().await.expect("it holds");
        assert!(refreshed.changed.is_empty() && refreshed.needs_restart.is_empty());
        assert_eq!(refreshed.version.as_deref(), Some("v8"));
    }
    assert_eq!((sent.load(Ordering::SeqCst), live.get().post.posts), (1, 8));
    assert_eq!(live.refresh().await.expect("another").changed, ["post.posts"]);
    // Values set over the bus also override the last good copy.
    let over = live.set(Map::from_iter([("post.posts".to_owned(), json!(10))])).await;
    assert_eq!(over.expect("it holds").changed, ["post.posts"]);
    assert_eq!((sent.load(Ordering::SeqCst), live.get().post.posts), (2, 10));
}

#[tokio::test]
async fn a_wrong_value_is_named_with_its_source() {
    let wrong = || axum::Json(json!({"propertySources": [{"name": "feed-config.yml", "source": {"post.posts": "x"}}]}));
    let url = config_service(move |_| wrong().into_response()).await;
    let told = ask(&url, TOKEN, "60s").await.expect_err("not a number");
    assert_eq!(
        told,
        "post.posts: a whole number (u32) is expected (in config service, feed-config.yml)"
    );
}

#[tokio::test]
async fn a_refresh_asks_it_again() {
    let url = config_service(|asked| environment(10 + asked)).await;
    let live = ask(&url, TOKEN, "60s").await.expect("valid");
    assert_eq!(live.refresh().await.expect("it answers").changed, ["post.posts"]);
    assert_eq!(live.get().post.posts, 11);
}

#[tokio::test]
async fn a_start_without_it_uses_the_last_valid_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("kept").join("feed.json");
    let path = copy.to_str().expect("text");
    let nobody = "http://127.0.0.1:9/config-service";
    ask_keeping(nobody, TOKEN, "50ms", path).await.expect_err("no copy yet");

    let url = config_service(|asked| environment([70, 0, 71][asked])).await;
    let live = ask_keeping(&url, TOKEN, "60s", path).await.expect("valid");
    live.refresh().await.expect_err("nonsense");
    let kept = ask_keeping(nobody, TOKEN, "50ms", path).await.expect("the copy");
    assert_eq!(kept.get().post.posts, 70, "nonsense is not kept");
    assert_eq!(live.refresh().await.expect("valid").version.as_deref(), Some("v71"));
    let kept = ask_keeping(nobody, TOKEN, "50ms", path).await.expect("the copy");
    assert_eq!(kept.get().post.posts, 71);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy).expect("kept").permissions());
    assert_eq!(mode & 0o777, 0o600, "it may hold secrets");

    std::fs::write(&copy, "half of").expect("written");
    let told = ask_keeping(nobody, TOKEN, "50ms", path).await.expect_err("broken");
    assert!(
        told.contains("config.copy") && told.contains("not an environment"),
        "{told}"
    );
}
