//! The operator's API of the local entry, for the console's page of operators.
//!
//! | path below [`PREFIX`] | answered by |
//! | --- | --- |
//! | `/{service}/…` | that service under the rest of the path, management (`/actuator`) and the config service included |
//! | `GET /dead-letters` | the launcher: dead letters without a resolution |
//! | `POST /dead-letters` | the launcher: replays or discards them |
//! | `GET /crowd` | the launcher: the newest report of `fleet demo --people`; `null` without one |
//! | `POST /crowd` | the launcher: takes such a report |
//!
//! Every call needs the operator token in `Authorization: Bearer`. A browser sends neither this header nor a cookie by itself, so that
//! another site cannot make it call. The launcher serves this API on the local entry only; no load balancer routes to it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use http::{StatusCode, header, uri};
use jiff::Timestamp;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sosohappy_bus::Bus;
use sosohappy_common::Problem;
use sosohappy_common::clock::{Clock as _, SystemClock};
use sosohappy_common::http::credential;
use sosohappy_events::Header;

use super::Services;
use crate::dead_letters::{self, Filter, Letter, LetterId, Resolution};
use crate::people::CrowdReport;

/// The first segment of all paths.
const PREFIX: &str = "/operator";
/// Dead letters of one answer.
const MOST: usize = 100;

/// What the API needs beside the services.
#[derive(Debug, Clone)]
pub struct Operators {
    /// The operator token.
    pub token: SecretString,
    /// The bus with the dead letters.
    pub bus: Arc<dyn Bus>,
}

#[derive(Debug, Clone)]
struct App {
    services: Services,
    bus: Arc<dyn Bus>,
    crowd: Arc<Mutex<Option<ShownCrowd>>>,
}

/// Returns the routes, each with [`PREFIX`].
pub(super) fn routes(services: Services, operators: Operators) -> Router {
    let routes = Router::new()
        .route("/dead-letters", get(list_dead_letters).post(resolve_dead_letters))
        .route("/crowd", get(show_crowd).post(report_crowd))
        .route("/{service}/{*path}", any(forward))
        .route_layer(from_fn_with_state(operators.token, credential::require))
        .route_layer(from_fn(bearer_only));
    let app = App {
        services,
        bus: operators.bus,
        crowd: Arc::default(),
    };
    Router::new().nest(PREFIX, routes).with_state(app)
}

/// Removes credentials other than a bearer token: a browser repeats Basic by itself.
async fn bearer_only(mut request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let token = authorization.and_then(|value| credential::bearer(value.to_str().ok()?));
    if token.is_none() {
        request.headers_mut().remove(header::AUTHORIZATION);
    }
    next.run(request).await
}

/// Sends a request to a service, without the prefix and the service's name. The service checks the token again.
async fn forward(
    State(app): State<App>,
    Path((service, _)): Path<(String, String)>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let Some(authority) = app.services.find(&service) else {
        return Problem::not_found("no-such-service", "Service not found").into_response();
    };
    // The router has removed the prefix of the nested routes from this URI.
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(&service));
    let Some(Ok(rest)) = rest.map(uri::PathAndQuery::try_from) else {
        // The service's name was percent-encoded.
        return Problem::not_found("no-such-service", "Service not found").into_response();
    };
    let mut target = uri::Parts::default();
    target.authority = Some(authority.clone());
    target.path_and_query = Some(rest);
    app.services.send(request, target, client).await
}

/// A dead letter without key and value, which may be personal data.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetter {
    /// Topic, partition and offset: `resign/0/17`.
    id: String,
    rejected_at: Timestamp,
    /// The consumer group that rejected it, or the service whose relay did.
    group: Option<String>,
    event_id: Option<String>,
    reason: Option<String>,
}

impl From<&Letter> for DeadLetter {
    fn from(letter: &Letter) -> Self {
        let header = |name| letter.record.header(name).map(str::to_owned);
        Self {
            id: letter.id.to_string(),
            rejected_at: letter.record.timestamp,
            group: header(Header::DLT_GROUP),
            event_id: header(Header::EVENT_ID),
            reason: header(Header::DLT_REASON),
        }
    }
}

#[derive(Debug, Serialize)]
struct DeadLetters {
    /// How many there are in all.
    count: usize,
    /// The first 100, in the order of topics and positions.
    content: Vec<DeadLetter>,
}

async fn list_dead_letters(State(app): State<App>) -> Result<Json<DeadLetters>, Problem> {
    let letters = find(&app, &Filter::default()).await?;
    Ok(Json(DeadLetters {
        count: letters.len(),
        content: letters.iter().take(MOST).map(DeadLetter::from).collect(),
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveDeadLetters {
    /// At least one.
    ids: Vec<String>,
    resolution: Resolution,
}

#[derive(Debug, Serialize)]
struct Resolved {
    /// How many were resolved.
    count: usize,
}

/// Resolves dead letters; 409 `dead-letter-unresolvable`, and nothing is done, where one does not exist or cannot be replayed.
async fn resolve_dead_letters(
    State(app): State<App>,
    body: Result<Json<ResolveDeadLetters>, JsonRejection>,
) -> Result<Json<Resolved>, Problem> {
    let Json(asked) = body.map_err(|error| Problem::invalid_parameter(error.body_text()))?;
    let ids = asked.ids.iter().map(|id| id.parse::<LetterId>());
    let ids = ids.collect::<Result<Vec<_>, _>>().map_err(Problem::invalid_parameter)?;
    if ids.is_empty() {
        // A filter without ids is one of all dead letters.
        return Err(Problem::invalid_parameter("ids: at least one is expected".to_owned()));
    }
    let filter = Filter {
        ids,
        ..Filter::default()
    };
    let letters = find(&app, &filter).await?;
    dead_letters::check(&letters, &filter, asked.resolution).map_err(|error| {
        let title = "A dead letter cannot be resolved";
        Problem::new(StatusCode::CONFLICT, "dead-letter-unresolvable", title).detail(error.to_string())
    })?;
    let mut count = 0;
    dead_letters::resolve(&app.bus, &letters, asked.resolution, |letter| {
        tracing::info!(id = %letter.id, resolution = ?asked.resolution, "dead letter resolved");
        count += 1;
    })
    .await
    .map_err(unavailable)?;
    Ok(Json(Resolved { count }))
}

async fn find(app: &App, filter: &Filter) -> Result<Vec<Letter>, Problem> {
    dead_letters::find(&app.bus, filter).await.map_err(unavailable)
}

#[expect(clippy::needless_pass_by_value, reason = "the form of map_err")]
fn unavailable(error: anyhow::Error) -> Problem {
    tracing::warn!(error = format!("{error:#}"), "dead letters unavailable");
    Problem::unavailable()
}

/// The newest report of a crowd.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownCrowd {
    reported_at: Timestamp,
    #[serde(flatten)]
    report: CrowdReport,
}

async fn show_crowd(State(app): State<App>) -> Json<Option<ShownCrowd>> {
    Json(app.crowd.lock().clone())
}

async fn report_crowd(
    State(app): State<App>,
    body: Result<Json<CrowdReport>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(report) = body.map_err(|error| Problem::invalid_parameter(error.body_text()))?;
    let reported_at = SystemClock.now();
    *app.crowd.lock() = Some(ShownCrowd { reported_at, report });
    Ok(StatusCode::NO_CONTENT)
}
