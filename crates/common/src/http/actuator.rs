//! Management endpoints at the root of each port, with the names of Spring Boot's actuator.
//!
//! Reads are open, and not routed by the load balancer; changes and traces need the operator's credential.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderName, HeaderValue, StatusCode, header};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::credential::{self, shows};
use super::memory_limit::MemoryLimit;
use super::{Params, Problem};
use crate::Context;
use crate::health::Report;
use crate::settings::valid::is_target;
use crate::settings::{Credentials, Live, Server};
use crate::telemetry;

/// The header with the changed keys that take effect at the next start, joined by commas.
const NEEDS_RESTART: HeaderName = HeaderName::from_static("x-needs-restart");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Spring's name of the root logger.
const ROOT: &str = "ROOT";
/// Spring's names of the levels that this fleet has.
const LEVELS: [&str; 6] = ["OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

#[derive(Debug)]
struct Management {
    context: Context,
    operator: SecretString,
    memory: MemoryLimit,
}

pub(super) fn routes(context: &Context, settings: &Live<Server>, credentials: &Credentials) -> Router {
    let operator = credentials.operator_token.clone();
    let closed = Router::new()
        .route("/actuator/traces/{id}", get(trace))
        .route("/actuator/loggers/{name}", post(set_level))
        .route("/actuator/refresh", post(refresh))
        .route_layer(from_fn_with_state(operator.clone(), credential::require));
    Router::new()
        .route("/actuator", get(links))
        .route("/actuator/health", get(health))
        .route("/actuator/health/liveness", get(liveness))
        .route("/actuator/health/readiness", get(readiness))
        .route("/actuator/info", get(info))
        .route("/actuator/prometheus", get(prometheus))
        .route("/actuator/loggers", get(loggers))
        .route("/actuator/loggers/{name}", get(logger))
        .merge(closed)
        .with_state(Arc::new(Management {
            context: context.clone(),
            operator,
            memory: MemoryLimit::new(context, settings),
        }))
}

async fn links() -> Json<Value> {
    let names = ["health", "info", "prometheus", "loggers", "refresh"];
    let links: serde_json::Map<_, _> = names
        .into_iter()
        .map(|name| (name.to_owned(), json!({"href": format!("/actuator/{name}")})))
        .collect();
    Json(json!({"_links": links}))
}

/// Returns all checks; details for operators only.
async fn health(State(management): State<Arc<Management>>, request: Request) -> Response {
    let report = management.context.health.report().await;
    let details = shows(request.headers(), &management.operator);
    let readiness = management.context.lifecycle.readiness();
    let up = report.is_up() && readiness.ready;
    let status = match (up, report.is_up()) {
        (true, _) => "UP",
        (false, true) => "OUT_OF_SERVICE",
        (false, false) => "DOWN",
    };
    let body = json!({"status": status, "components": components(&report, details)});
    (code(up), Json(body)).into_response()
}

fn components(report: &Report, details: bool) -> Value {
    let parts = report.0.iter().map(|(name, checked)| {
        let mut part = json!({"status": if checked.is_ok() { "UP" } else { "DOWN" }});
        if details {
            part["details"] = match checked {
                Ok(details) => Value::Object(details.clone()),
                Err(reason) => json!({"error": reason}),
            };
        }
        ((*name).to_owned(), part)
    });
    Value::Object(parts.collect())
}

/// Answers without asking an engine: otherwise a broken database would make the cluster kill every replica. Down when a task has failed, and
/// when the process has more memory than `server.memory-limit`.
async fn liveness(State(management): State<Arc<Management>>) -> Response {
    let alive = management.context.lifecycle.failure().is_none() && !management.memory.is_exceeded();
    let body = if alive {
        r#"{"status":"UP"}"#
    } else {
        r#"{"status":"DOWN"}"#
    };
    (code(alive), [(header::CONTENT_TYPE, JSON)], body).into_response()
}

async fn readiness(State(management): State<Arc<Management>>) -> Response {
    let readiness = management.context.lifecycle.readiness();
    let status = if readiness.ready { "UP" } else { "OUT_OF_SERVICE" };
    let body = json!({"status": status, "waitingFor": readiness.waiting_for, "draining": readiness.draining});
    (code(readiness.ready), Json(body)).into_response()
}

fn code(up: bool) -> StatusCode {
    if up {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn info(State(management): State<Arc<Management>>) -> Json<Value> {
    let context = &management.context;
    Json(json!({
        "app": {"name": context.service, "version": env!("CARGO_PKG_VERSION")},
        "instance": &*context.instance,
        // The key of Spring Boot's contributor `process`.
        "process": {"pid": std::process::id()},
    }))
}

async fn prometheus(State(management): State<Arc<Management>>) -> impl IntoResponse {
    management.memory.measure();
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        management.context.metrics.render(),
    )
}

/// Returns the recent spans of a trace, or of the traces of a request, that this service had part in; none where none is kept.
async fn trace(State(management): State<Arc<Management>>, Path(id): Path<String>) -> Json<Value> {
    let recent = telemetry::recent_spans();
    let spans = recent.map(|recent| recent.find(management.context.service, &id));
    Json(json!({"spans": spans.unwrap_or_default()}))
}

async fn loggers() -> Result<Json<Value>, Problem> {
    let directives = levels()?.directives();
    let loggers: serde_json::Map<_, _> = by_target(&directives)
        .into_iter()
        .map(|(target, level)| (target.to_owned(), described(Some(level))))
        .collect();
    Ok(Json(json!({"levels": LEVELS, "loggers": loggers})))
}

/// Returns the level of a logger; 404 for an unknown name, as in Spring.
async fn logger(Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let described = find_logger(&levels()?.directives(), &name);
    described
        .map(Json)
        .ok_or_else(|| Problem::not_found("no-such-logger", "Logger not found"))
}

/// Returns the levels by logger; ROOT is always known.
fn find_logger(directives: &str, name: &str) -> Option<Value> {
    let levels = by_target(directives);
    let level = levels
        .iter()
        .find(|(target, _)| *target == name)
        .map(|(_, level)| *level);
    (level.is_some() || name == ROOT).then(|| described(level))
}

fn described(level: Option<&str>) -> Value {
    let level = level.map(str::to_uppercase);
    json!({"configuredLevel": level, "effectiveLevel": level})
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetLevel {
    /// One of [`LEVELS`] in any letter case; `None` removes the logger's own level.
    configured_level: Option<String>,
}

async fn set_level(Path(name): Path<String>, Params(params): Params<SetLevel>) -> Result<StatusCode, Problem> {
    if !is_target(&name) {
        return Err(Problem::invalid_parameter("a logger is ROOT or the path of a module"));
    }
    let level = params.configured_level.as_deref().map(parse_level).transpose()?;
    let levels = levels()?;
    let directives = with_level(&levels.directives(), &name, level.as_deref());
    levels
        .set(&directives)
        .map_err(|error| Problem::invalid_parameter(error.to_string()))?;
    tracing::info!(logger = name, directives, "log level changed");
    Ok(StatusCode::NO_CONTENT)
}

/// Returns a level as directives have it. Numbers, which directives may have as well, are no levels of Spring.
fn parse_level(name: &str) -> Result<String, Problem> {
    let level = LEVELS.into_iter().find(|level| level.eq_ignore_ascii_case(name));
    level.map(str::to_lowercase).ok_or_else(|| {
        let known = LEVELS.join(", ");
        Problem::invalid_parameter(format!(
            "configuredLevel: one of {known} is expected, or null to remove the level"
        ))
    })
}

/// Splits directives: `info,sosohappy_feed=debug` is ROOT at info and one target at debug.
fn by_target(directives: &str) -> Vec<(&str, &str)> {
    let parts = directives.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| part.rsplit_once('=').unwrap_or((ROOT, part)))
        .collect()
}

fn with_level(directives: &str, name: &str, level: Option<&str>) -> String {
    let mut levels = by_target(directives);
    levels.retain(|(target, _)| *target != name);
    if let Some(level) = level {
        levels.push((name, level));
    } else if name == ROOT {
        levels.push((ROOT, "info"));
    }
    let parts = levels.into_iter().map(|(target, level)| match target {
        ROOT => level.to_owned(),
        _ => format!("{target}={level}"),
    });
    parts.collect::<Vec<_>>().join(",")
}

fn levels() -> Result<&'static telemetry::Levels, Problem> {
    telemetry::levels().ok_or_else(Problem::unavailable)
}

/// Refreshes the settings, and returns the changed keys.
async fn refresh(State(management): State<Arc<Management>>) -> Result<Response, Problem> {
    let refreshed = management
        .context
        .settings
        .refresh()
        .await
        .ok_or_else(Problem::unavailable)?;
    let refreshed = refreshed.map_err(|error| {
        let title = "Settings refresh failed";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "refresh-failed", title).detail(error.to_string())
    })?;
    let mut response = Json(refreshed.changed).into_response();
    if let Ok(keys) = HeaderValue::from_str(&refreshed.needs_restart.join(",")) {
        response.headers_mut().insert(NEEDS_RESTART, keys);
    }
    Ok(response)
}

#[cfg(test)]
#[path = "actuator_tests.rs"]
mod served_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loggers_with_a_level_are_known() {
        let level = |name| find_logger("info,sosohappy_feed=debug", name).map(|found| found["effectiveLevel"].clone());
        assert_eq!(level("sosohappy_feed"), Some(json!("DEBUG")));
        assert_eq!(level(ROOT), Some(json!("INFO")));
        assert_eq!(level("absent"), None);
    }

    #[test]
    fn levels_are_set_one_by_one() {
        assert_eq!(
            with_level("info", "sosohappy_feed", Some("debug")),
            "info,sosohappy_feed=debug"
        );
        assert_eq!(
            with_level("info,sosohappy_feed=debug", "sosohappy_feed", Some("trace")),
            "info,sosohappy_feed=trace"
        );
        assert_eq!(with_level("info,sosohappy_feed=debug", "sosohappy_feed", None), "info");
        assert_eq!(with_level("info,hyper=warn", ROOT, Some("error")), "hyper=warn,error");
        assert_eq!(with_level("debug", ROOT, None), "info");
    }
}
