//! The answer to the client, from the side that answers.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
use http::{Method, StatusCode};
use sosohappy_common::Context;

use super::routes::{Failure, Matched, Routes};
use super::sides::{Side, Sides};

/// From the end of a request's head to the head of its answer, the upload of its body included.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);

/// Asks the side that answers, and counts what comes of it.
#[derive(Debug)]
pub struct Upstream {
    pub context: Context,
    pub sides: Sides,
    pub routes: Arc<Routes>,
}

/// A request without its body.
#[derive(Debug)]
pub struct Head {
    pub id: String,
    pub method: Method,
    /// With its query.
    pub path: String,
    pub headers: HeaderMap,
}

impl Upstream {
    /// Returns the answer, or the status with which the client is answered instead.
    pub async fn ask(
        &self,
        side: Side,
        matched: Option<&Matched>,
        Head {
            id,
            method,
            path,
            headers,
        }: Head,
        body: reqwest::Body,
    ) -> Result<http::Response<reqwest::Body>, StatusCode> {
        let began = self.context.clock.monotonic();
        let sending = self.sides.send(side, method, &path, headers, body);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, sending).await;
        let taken = self.context.clock.monotonic().saturating_sub(began);
        let failure = match &answer {
            Ok(Ok(answer)) => answer.status().is_server_error().then_some(Failure::Status),
            Ok(Err(_)) | Err(_) => Some(Failure::Unreachable),
        };
        if let Some(matched) = matched {
            self.routes.answered(&matched.route, side, taken, failure);
        }
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::warn!(%side, %error, request_id = id, "upstream unavailable");
                Err(StatusCode::BAD_GATEWAY)
            }
            Err(_) => {
                tracing::warn!(%side, request_id = id, "upstream timed out");
                Err(StatusCode::GATEWAY_TIMEOUT)
            }
        }
    }
}
