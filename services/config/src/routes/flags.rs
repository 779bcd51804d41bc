//! Flags: the `OpenFeature` Remote Evaluation Protocol (OFREP), and a list for operators.
//!
//! Source: open-feature/protocol, `service/openapi.yaml` 0.1.0. A flag is a key under `flags.` in the settings of an application: the one
//! whose token is presented, otherwise the one that the context names as `application` (with `profiles`), otherwise the shared ones.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use sosohappy_common::Problem;
use sosohappy_common::http::{Params, WholeBody, none_match_names};
use sosohappy_common::settings::flags::{SECTION, Switch};
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::credentials::{Operator, Reader};
use crate::domain::query::{Query, SHARED};
use crate::error::Error;

/// Bytes of a context.
const MAX_CONTEXT: usize = 64 * 1024;

/// The context of an evaluation.
#[derive(Debug, Default, ToSchema)]
#[schema(as = OfrepRequest)]
pub struct EvaluationRequest {
    /// `targetingKey` decides a percentage; `application` and `profiles` select settings; other keys are ignored.
    #[schema(value_type = Object)]
    #[expect(
        dead_code,
        reason = "parsed by hand, so that each mistake has its own error code; declared for the OpenAPI document"
    )]
    context: Option<Map<String, Value>>,
}

/// The value of one flag.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OfrepSuccess)]
pub struct FlagValue {
    key: String,
    value: bool,
    /// `STATIC`, or `SPLIT` for a percentage.
    reason: &'static str,
    /// `on` or `off`.
    variant: &'static str,
}

/// The error of a flag without a value.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OfrepFailure)]
pub struct EvaluationError {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    error_code: &'static str,
    error_details: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = OfrepResult)]
pub enum Evaluation {
    Value(FlagValue),
    Error(EvaluationError),
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OfrepBulk)]
pub struct EvaluationResponse {
    flags: Vec<Evaluation>,
}

/// The relevant parts of a context.
struct Context {
    targeting_key: Option<String>,
    application: Option<String>,
    profiles: String,
}

impl EvaluationError {
    fn new(key: Option<&str>, error_code: &'static str, error_details: &'static str) -> Self {
        Self {
            key: key.map(str::to_owned),
            error_code,
            error_details,
        }
    }

    fn respond(self, status: StatusCode) -> Response {
        (status, Json(self)).into_response()
    }
}

impl Context {
    fn read(body: &[u8], key: Option<&str>) -> Result<Self, EvaluationError> {
        let parse_error = |details| EvaluationError::new(key, "PARSE_ERROR", details);
        let invalid = |details| EvaluationError::new(key, "INVALID_CONTEXT", details);
        if body.len() > MAX_CONTEXT {
            return Err(invalid("the context is larger than 64 KiB"));
        }
        let body = if body.iter().all(u8::is_ascii_whitespace) {
            Value::Object(Map::new())
        } else {
            serde_json::from_slice(body).map_err(|_| parse_error("the body is not JSON"))?
        };
        let Value::Object(mut body) = body else {
            return Err(parse_error("the body is not a JSON object"));
        };
        let context = match body.remove("context") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(context)) => context,
            Some(_) => return Err(invalid("the context is not an object")),
        };
        let text = |name: &str| match context.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(invalid("targetingKey, application and profiles must be strings")),
        };
        Ok(Self {
            targeting_key: text("targetingKey")?.filter(|key| !key.is_empty()),
            application: text("application")?,
            profiles: text("profiles")?.unwrap_or_default(),
        })
    }
}

fn evaluate(key: &str, switch: Option<Switch>, targeting_key: Option<&str>) -> Evaluation {
    let value = match (switch, targeting_key) {
        (None, _) => {
            let details = "true, false or a percentage is expected";
            return Evaluation::Error(EvaluationError::new(Some(key), "PARSE_ERROR", details));
        }
        (Some(Switch::Share(_)), None) => {
            let details = "a percentage requires a targetingKey";
            return Evaluation::Error(EvaluationError::new(Some(key), "TARGETING_KEY_MISSING", details));
        }
        (Some(switch), targeting_key) => switch.is_on(key, targeting_key.unwrap_or_default()),
    };
    Evaluation::Value(FlagValue {
        key: key.to_owned(),
        value,
        reason: if matches!(switch, Some(Switch::Share(_))) {
            "SPLIT"
        } else {
            "STATIC"
        },
        variant: if value { "on" } else { "off" },
    })
}

/// Returns the flags that a caller may read, by name; none in place of a value that is not a switch.
async fn flags(app: &App, reader: Reader, context: &Context) -> Result<Vec<(String, Option<Switch>)>, Error> {
    let application = reader.own().or(context.application.as_deref()).unwrap_or(SHARED);
    let query = Query::new(application, &context.profiles, None)?;
    let views = app.views(&query, &HeaderMap::new()).await?;
    let app = app.clone();
    app.clone()
        .compute(move || {
            reader.may_read(&query, &views)?;
            let merged = app.assembled(query, &views).merged();
            let flag = |(key, value): (String, Value)| {
                let name = key.strip_prefix(SECTION)?.strip_prefix('.')?.to_owned();
                (value.as_str() != Some("")).then(|| (name, Switch::read(&value).ok()))
            };
            Ok(merged.into_iter().filter_map(flag).collect())
        })
        .await?
}

/// Evaluates one flag.
#[utoipa::path(
    post,
    path = "/ofrep/v1/evaluate/flags/{key}",
    tag = "flags",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    params(("key" = String, Path, description = "Without `flags.`")),
    request_body(content = EvaluationRequest, content_type = "application/json"),
    responses((status = 200, body = FlagValue), (status = 400, body = EvaluationError), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = EvaluationError), (status = 408, body = Problem), (status = 413, body = Problem), (status = 500, body = Problem), (status = 503, body = Problem))
)]
pub async fn evaluate_flag(
    reader: Reader,
    State(app): State<App>,
    Path(key): Path<String>,
    body: WholeBody,
) -> Result<Response, Error> {
    let context = match Context::read(&body.bytes, Some(&key)) {
        Ok(context) => context,
        Err(reason) => return Ok(reason.respond(StatusCode::BAD_REQUEST)),
    };
    let flags = flags(&app, reader, &context).await?;
    let Some((_, switch)) = flags.into_iter().find(|(name, _)| *name == key) else {
        let reason = EvaluationError::new(Some(&key), "FLAG_NOT_FOUND", "flag not found");
        return Ok(reason.respond(StatusCode::NOT_FOUND));
    };
    app.flag_uses
        .evaluated_here(std::iter::once(key.as_str()), app.context.clock.now());
    Ok(match evaluate(&key, switch, context.targeting_key.as_deref()) {
        Evaluation::Value(evaluated) => Json(evaluated).into_response(),
        Evaluation::Error(reason) => reason.respond(StatusCode::BAD_REQUEST),
    })
}

/// Evaluates all flags.
#[utoipa::path(
    post,
    path = "/ofrep/v1/evaluate/flags",
    tag = "flags",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    request_body(content = EvaluationRequest, content_type = "application/json"),
    responses((status = 200, body = EvaluationResponse), (status = 304, description = "as in If-None-Match"), (status = 400, body = EvaluationError), (status = 401, body = Problem), (status = 403, body = Problem), (status = 408, body = Problem), (status = 413, body = Problem), (status = 500, body = Problem), (status = 503, body = Problem))
)]
pub async fn evaluate_flags(
    reader: Reader,
    State(app): State<App>,
    headers: HeaderMap,
    body: WholeBody,
) -> Result<Response, Error> {
    let context = match Context::read(&body.bytes, None) {
        Ok(context) => context,
        Err(reason) => return Ok(reason.respond(StatusCode::BAD_REQUEST)),
    };
    let flags = flags(&app, reader, &context).await?;
    app.flag_uses
        .evaluated_here(flags.iter().map(|(name, _)| name.as_str()), app.context.clock.now());
    let evaluate = |(name, switch): (String, _)| evaluate(&name, switch, context.targeting_key.as_deref());
    let body = EvaluationResponse {
        flags: flags.into_iter().map(evaluate).collect(),
    };
    let body = serde_json::to_vec(&body).map_err(|error| Error::State(error.to_string()))?;
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..16]));
    let mut response = if none_match_names(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FlagsParameters {
    /// Only stale flags.
    #[serde(default)]
    stale: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlagResponse {
    /// Without `flags.`.
    key: String,
    /// The files that set it.
    files: Vec<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    first_seen: Option<jiff::Timestamp>,
    /// The last evaluation by a service or over OFREP.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_evaluated: Option<jiff::Timestamp>,
    /// Not evaluated for 30 days.
    stale: bool,
}

/// Returns the flags of all served files, with their last evaluation.
#[utoipa::path(
    get,
    path = "/flags",
    tag = "flags",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(FlagsParameters),
    responses((status = 200, body = Vec<FlagResponse>), (status = 400, body = Problem), (status = 401, body = Problem), (status = 500, body = Problem))
)]
pub async fn show_flags(
    _: Operator,
    State(app): State<App>,
    Params(parameters): Params<FlagsParameters>,
) -> Result<Json<Vec<FlagResponse>>, Error> {
    let served = app.source.served(None).ok_or(crate::source::ViewError::NothingServed)?;
    let (uses, now) = (app.flag_uses.clone(), app.context.clock.now());
    let list = move || {
        let flags = served.flags().into_iter().map(|(key, files)| {
            let flag_use = uses.get(&key);
            FlagResponse {
                files: files.into_iter().map(str::to_owned).collect(),
                first_seen: flag_use.map(|flag_use| flag_use.first_seen),
                last_evaluated: flag_use.and_then(|flag_use| flag_use.last_evaluated),
                stale: flag_use.is_some_and(|flag_use| flag_use.is_stale(now)),
                key,
            }
        });
        flags.filter(|flag| flag.stale || !parameters.stale).collect()
    };
    app.compute(list).await.map(Json)
}
