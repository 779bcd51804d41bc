//! Bounds of request bodies: bytes and time of one body, and the memory that large bodies of all requests share.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::Problem;
use crate::settings::Server;

/// Bytes of a body that is read without a reservation.
const SMALL: usize = 16 * 1024;
/// The limits of routes that are not behind [`super::serve::Service`], as in the shared defaults.
const FALLBACK_LIMIT: usize = 20 * 1024 * 1024;

/// The limits of a service for bodies.
#[derive(Debug, Clone)]
pub(crate) struct BodyLimits {
    body_limit: usize,
    body_timeout: Duration,
    budget: usize,
    memory: Arc<Semaphore>,
}

/// The share of one body in `server.upload-memory`; released when it is dropped.
///
/// Nothing is reserved until more than [`SMALL`] bytes have arrived: a client that only announces a body holds no memory. Then the
/// whole length is reserved at once, or the body is refused: bodies that hold a part and wait for more would block each other.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: Arc<Semaphore>,
    /// Bytes to reserve.
    whole: usize,
    arrived: usize,
    permit: Option<OwnedSemaphorePermit>,
}

/// Why a body was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    /// Over this number of bytes.
    #[error("the body is too large")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    TooSlow,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            body_limit: FALLBACK_LIMIT,
            body_timeout: Duration::from_mins(1),
            budget: FALLBACK_LIMIT,
            memory: Arc::new(Semaphore::new(FALLBACK_LIMIT)),
        }
    }
}

impl BodyLimits {
    /// Creates the limits of new settings. Shares the memory with the limits before if its size is the same; otherwise bodies that were
    /// received under the old limit count against that until they are dropped.
    pub(crate) fn new(settings: &Server, before: Option<&Self>) -> Self {
        let budget = settings.upload_memory.min(Semaphore::MAX_PERMITS);
        let memory = before.filter(|before| before.budget == budget);
        Self {
            body_limit: settings.body_limit,
            body_timeout: settings.body_timeout,
            budget,
            memory: memory.map_or_else(|| Arc::new(Semaphore::new(budget)), |before| before.memory.clone()),
        }
    }

    /// Refuses a body whose declared length exceeds the limit.
    pub(crate) fn check_declared(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if declared_length(headers).is_some_and(|length| length > self.body_limit as u64) {
            return Err(too_large(self.body_limit));
        }
        Ok(())
    }

    /// Limits the bytes and the time of a body for all its readers.
    pub(crate) fn guard(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let deadline = Instant::now() + self.body_timeout;
        Body::new(Guarded {
            inner: body,
            limit: self.body_limit,
            left: self.body_limit,
            deadline,
            timer: None,
        })
    }

    pub(crate) fn body_limit(&self) -> usize {
        self.body_limit
    }

    /// Returns the bytes that a body with these headers may have: its declared length or the limit, but no more than `most`.
    pub(crate) fn expected(&self, headers: &HeaderMap, most: usize) -> usize {
        let most = most.min(self.body_limit);
        let declared = declared_length(headers).map_or(most, |length| usize::try_from(length).unwrap_or(usize::MAX));
        declared.min(most)
    }

    /// Prepares the reservation of a body that has not begun to arrive. A body larger than the budget reserves all of it.
    pub(crate) fn reservation(&self, expected: usize) -> Reservation {
        Reservation {
            memory: self.memory.clone(),
            whole: expected.min(self.budget),
            arrived: 0,
            permit: None,
        }
    }
}

impl Reservation {
    /// Counts bytes that have arrived.
    ///
    /// # Errors
    /// 503 where the body needs a reservation and the memory is in use.
    pub(crate) fn arrived(&mut self, bytes: usize) -> Result<(), Problem> {
        self.arrived = self.arrived.saturating_add(bytes);
        // Taken once, at the first byte over SMALL; never waited for.
        if self.arrived > SMALL && self.permit.is_none() {
            let permits = u32::try_from(self.whole).unwrap_or(u32::MAX);
            let permit = self.memory.clone().try_acquire_many_owned(permits);
            self.permit = Some(permit.map_err(|_| Problem::unavailable())?);
        }
        Ok(())
    }

    /// Releases all but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let Some(permit) = &mut self.permit else { return };
        if let Some(surplus) = permit.num_permits().checked_sub(bytes) {
            drop(permit.split(surplus));
        }
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        "The request body is too large",
    )
    .detail(format!("at most {limit} bytes"))
}

/// Returns the problem of a failed read of a request's body: 400 `unreadable-body`, 408 `body-too-slow` or 413 `body-too-large`. `limit`:
/// bytes that the reader takes at most.
#[must_use]
pub fn read_failed(error: &(dyn std::error::Error + 'static), limit: usize) -> Problem {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(Cut::TooLarge(cut)) => return too_large(limit.min(*cut)),
            Some(Cut::TooSlow) => {
                let title = "The request body did not arrive in time";
                return Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", title);
            }
            None => cause = error.source(),
        }
    }
    Problem::new(
        StatusCode::BAD_REQUEST,
        "unreadable-body",
        "The request body cannot be read",
    )
}

/// A body that fails beyond its limit of bytes or of time.
struct Guarded {
    inner: Body,
    limit: usize,
    left: usize,
    deadline: Instant,
    /// Created at the first wait: most bodies arrive with their headers.
    timer: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Pending => {
                let deadline = self.deadline;
                let timer = self
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                return timer
                    .as_mut()
                    .poll(cx)
                    .map(|()| Some(Err(axum::Error::new(Cut::TooSlow))));
            }
            end @ Poll::Ready(_) => return end,
        };
        if let Some(data) = frame.data_ref() {
            match self.left.checked_sub(data.len()) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(axum::Error::new(Cut::TooLarge(self.limit))))),
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
