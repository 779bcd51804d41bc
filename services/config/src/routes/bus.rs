//! Spring Cloud Bus: refresh events, canaries, and values.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_common::settings::keys;
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::bus::ALL;
use crate::credentials::Operator;
use crate::domain::check::{FAULT_REFUSED, is_fault_flag};
use crate::error::Error;
use crate::routes::convergence::CanaryResponse;
use crate::settings::Handling;
use crate::source::RefreshReason;
use crate::state::record::{Action, Entry};

#[derive(Debug, Deserialize, ToSchema)]
pub struct EnvParameters {
    name: String,
    /// A scalar of any type; an empty one, or none, removes the value.
    #[serde(default)]
    value: String,
}

/// Bytes of a key or of a destination.
const MAX_NAME: usize = 512;
/// Bytes of a value. Records of the bus are bounded too: a larger value could never be published.
const MAX_VALUE: usize = 64 * 1024;

/// Sets a value on all instances, with precedence over their settings until they restart or the value is removed by an empty one.
#[utoipa::path(
    post,
    path = "/actuator/busenv",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    request_body = EnvParameters,
    responses((status = 204, description = "published"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub async fn set_for_all(
    operator: Operator,
    State(app): State<App>,
    Params(parameters): Params<EnvParameters>,
) -> Result<StatusCode, Error> {
    set(&app, &operator, "**", parameters).await
}

/// Sets a value on one destination, `feed-service/8891` for `feed-service:8891:**`.
#[utoipa::path(
    post,
    path = "/actuator/busenv/{*destination}",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("destination" = String, Path)),
    request_body = EnvParameters,
    responses((status = 204, description = "published"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub async fn set_for_some(
    operator: Operator,
    State(app): State<App>,
    Path(destination): Path<String>,
    Params(parameters): Params<EnvParameters>,
) -> Result<StatusCode, Error> {
    set(&app, &operator, &bus_destination(&destination)?, parameters).await
}

/// The value to remove.
#[derive(Debug, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UnsetParameters {
    /// The key, or a section with all keys inside it.
    name: String,
}

/// Removes a value from all instances: their settings apply again.
#[utoipa::path(
    delete,
    path = "/actuator/busenv",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(UnsetParameters),
    responses((status = 204, description = "published"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub async fn unset_for_all(
    operator: Operator,
    State(app): State<App>,
    Params(parameters): Params<UnsetParameters>,
) -> Result<StatusCode, Error> {
    set(&app, &operator, "**", parameters.into()).await
}

/// Removes a value from one destination.
#[utoipa::path(
    delete,
    path = "/actuator/busenv/{*destination}",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("destination" = String, Path), UnsetParameters),
    responses((status = 204, description = "published"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub async fn unset_for_some(
    operator: Operator,
    State(app): State<App>,
    Path(destination): Path<String>,
    Params(parameters): Params<UnsetParameters>,
) -> Result<StatusCode, Error> {
    set(&app, &operator, &bus_destination(&destination)?, parameters.into()).await
}

impl From<UnsetParameters> for EnvParameters {
    /// The bus has no message to remove a value, and Spring's services fail on null: it is set to the empty text.
    fn from(UnsetParameters { name }: UnsetParameters) -> Self {
        Self {
            name,
            value: String::new(),
        }
    }
}

/// Returns the destination that the segments of a path name: they are joined by `:`, as in Spring.
fn bus_destination(path: &str) -> Result<String, Error> {
    check_name("destination", path)?;
    Ok(path.replace('/', ":"))
}

/// Checks a text that is written to the bus, the audit record and logs of other services.
fn check_name(parameter: &str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_NAME || text.contains(char::is_control) {
        let reason = format!("{parameter}: at most {MAX_NAME} bytes without control characters are expected");
        return Err(Error::Parameter(reason));
    }
    Ok(())
}

async fn set(
    app: &App,
    operator: &Operator,
    destination: &str,
    parameters: EnvParameters,
) -> Result<StatusCode, Error> {
    let EnvParameters { name, value } = parameters;
    if name.trim().is_empty() {
        return Err(Error::Parameter("name: missing".to_owned()));
    }
    check_name("name", &name)?;
    if value.len() > MAX_VALUE {
        return Err(Error::Parameter(format!(
            "value: at most {MAX_VALUE} bytes are expected"
        )));
    }
    keys::check_depth(&name).map_err(|error| Error::Parameter(format!("name: {error}")))?;
    // Removal stays possible: the switch may have been set before the setting changed.
    if is_fault_flag(&name) && !value.is_empty() && app.settings.get().check.fault_flags == Handling::Refuse {
        return Err(Error::Parameter(format!("name: {FAULT_REFUSED}")));
    }
    let entry = Entry::new(app.context.clock.now(), &operator.name, Action::BusEnv);
    let removed = if value.is_empty() { " removed" } else { "" };
    app.record(entry.detail(format!("{name}{removed} at {destination}")))
        .await?;
    app.announcer.environment(destination, &name, &value).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RefreshParameters {
    /// `1` or `true`: the newest version is served to one instance of each service, then to the others one at a time, and rolled back when an
    /// instance refuses it or turns unhealthy.
    canary: Option<String>,
}

/// Publishes a refresh event to all instances, or starts a canary.
#[utoipa::path(
    post,
    path = "/actuator/busrefresh",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(RefreshParameters),
    responses((status = 202, body = CanaryResponse, description = "canary started; GET /config-service/convergence returns its state"), (status = 204, description = "published"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 409, body = Problem, description = "a canary is running, the version is refused, or no instance reports"), (status = 503, body = Problem))
)]
pub async fn refresh_all(
    operator: Operator,
    State(app): State<App>,
    query: Result<Query<RefreshParameters>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(parameters) = query.map_err(|error| Error::Parameter(error.body_text()))?;
    match parameters.canary.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("1" | "true" | "on" | "yes") => {
            let entry = Entry::new(app.context.clock.now(), &operator.name, Action::BusRefresh).detail("canary");
            app.record(entry).await?;
            let canary = app.canaries.start(&operator.name).await?;
            Ok((StatusCode::ACCEPTED, Json(CanaryResponse::from(canary))).into_response())
        }
        None | Some("" | "0" | "false" | "off" | "no") => {
            // With `canary.hold` an ordinary refresh publishes the version that polling holds back, here and on the other replicas.
            if app.settings.get().canary.hold {
                app.source.refresh_for(RefreshReason::Requested).await;
                app.announcer.publish_held_version().await?;
            }
            refresh(&app, &operator, ALL).await.map(IntoResponse::into_response)
        }
        Some(_) => Err(Error::Parameter("canary: true or false is expected".to_owned())),
    }
}

/// Rolls back the running canary: the version before is served to all instances.
#[utoipa::path(
    delete,
    path = "/actuator/busrefresh",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 200, body = CanaryResponse), (status = 401, body = Problem), (status = 409, body = Problem, description = "no canary is running"))
)]
pub async fn stop_canary(operator: Operator, State(app): State<App>) -> Result<Json<CanaryResponse>, Error> {
    let canary = app.canaries.abort(&operator.name).await?;
    Ok(Json(canary.into()))
}

/// Publishes a refresh event to one destination, `feed-service/8891` for `feed-service:8891:**`.
#[utoipa::path(
    post,
    path = "/actuator/busrefresh/{*destination}",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("destination" = String, Path)),
    responses((status = 204, description = "published"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub async fn refresh_some(
    operator: Operator,
    State(app): State<App>,
    Path(destination): Path<String>,
) -> Result<StatusCode, Error> {
    refresh(&app, &operator, &bus_destination(&destination)?).await
}

async fn refresh(app: &App, operator: &Operator, destination: &str) -> Result<StatusCode, Error> {
    let entry = Entry::new(app.context.clock.now(), &operator.name, Action::BusRefresh).detail(destination);
    app.record(entry).await?;
    app.announcer.refresh([destination]).await?;
    Ok(StatusCode::NO_CONTENT)
}
