//! The answer to the client, from the side that answers.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
use http::{Method, StatusCode};
use sosohappy_common::{Context, Problem};

use super::routes::{Failure, Matched, Routes};
use super::sides::{SendError, Side, Sides};
use crate::forward;

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
    /// Returns the answer, or the problem with which the client is answered instead: 400, 408 or 413 where the request's body cannot be read,
    /// 502 where the side cannot be reached, 504 where it does not answer in time.
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
    ) -> Result<http::Response<reqwest::Body>, Problem> {
        let began = self.context.clock.monotonic();
        let sending = self.sides.send(side, method, &path, headers, body);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, sending).await;
        let taken = self.context.clock.monotonic().saturating_sub(began);
        let failure = match &answer {
            Ok(Ok(answer)) => answer.status().is_server_error().then_some(Failure::Status),
            // The client's failure says nothing about the side.
            Ok(Err(SendError::Body(_))) => None,
            Ok(Err(SendError::Upstream(_))) | Err(_) => Some(Failure::Unreachable),
        };
        if let Some(matched) = matched {
            self.routes.answered(&matched.route, side, taken, failure);
        }
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(SendError::Body(problem))) => Err(problem),
            Ok(Err(SendError::Upstream(error))) => {
                tracing::warn!(%side, error, request_id = id, "upstream unavailable");
                Err(forward::unavailable(StatusCode::BAD_GATEWAY))
            }
            Err(_) => {
                tracing::warn!(%side, request_id = id, "upstream timed out");
                Err(forward::unavailable(StatusCode::GATEWAY_TIMEOUT))
            }
        }
    }
}
