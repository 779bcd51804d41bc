//! RFC 9457 problem details, the one error shape of the fleet.

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// `application/problem+json` with a stable `code` a client may match on. It never holds internal causes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status and `code` identify the problem.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// Short, the same for every occurrence of the code.
    title: Cow<'static, str>,
    #[schema(example = 400)]
    status: u16,
    /// Stable, kebab-case.
    #[schema(example = "invalid-parameter")]
    code: &'static str,
    /// The reason why this request is invalid, for its author.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
}

impl Problem {
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, title: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: "about:blank",
            title: title.into(),
            status: status.as_u16(),
            code,
            detail: None,
            retry_after_seconds: None,
        }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    #[must_use]
    pub fn invalid_parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-parameter", "Invalid parameter").detail(detail)
    }

    /// Returns 403 for a missing, forged or expired access token; the app re-issues its token then.
    #[must_use]
    pub fn access_denied() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "access-denied",
            "The access token is missing, invalid or expired",
        )
    }

    /// Returns 403 for a parameter that names another user as the actor.
    #[must_use]
    pub fn not_yourself() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "not-yourself",
            "Acting for another user is not allowed",
        )
    }

    /// Returns 403 for a call that the role of the caller does not allow; the detail names the role that does.
    #[must_use]
    pub fn role_required() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "role-required",
            "The role of the caller does not allow the call",
        )
    }

    #[must_use]
    pub fn not_found(code: &'static str, title: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, title)
    }

    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable").retry_after(1)
    }

    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal server error")
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Converts the plain text with which the framework refuses a request (a path that is not UTF-8, an invalid handshake) to a problem;
/// keeps its headers.
pub(super) fn one_shape(response: Response) -> Response {
    let status = response.status();
    let plain = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/plain");
    let refused = status.is_client_error() || status.is_server_error();
    if !refused || !response.headers().get(header::CONTENT_TYPE).is_some_and(plain) {
        return response;
    }
    let (code, title) = match status {
        StatusCode::UPGRADE_REQUIRED => ("upgrade-required", "WebSocket upgrade required"),
        status if status.is_client_error() => ("invalid-request", "Invalid request"),
        _ => ("internal", "Internal server error"),
    };
    let mut shaped = Problem::new(status, code, title).into_response();
    let (parts, _) = response.into_parts();
    for (name, value) in parts
        .headers
        .iter()
        .filter(|(name, _)| **name != header::CONTENT_LENGTH)
    {
        if !shaped.headers().contains_key(name) {
            shaped.headers_mut().append(name, value.clone());
        }
    }
    shaped
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after_seconds;
        let mut response = (self.status(), Json(self)).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
