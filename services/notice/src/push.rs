//! Pushes: the gateways, and the worker that brings the waiting ones there.

mod log;
mod worker;

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::bail;
use async_trait::async_trait;
use sosohappy_common::settings::SecretUrl;
use sosohappy_events::EventId;

use crate::domain::PushText;

pub use worker::{PushHandle, Worker};

/// Why a device was not reached.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the log takes every push; FCM and APNs answer all of these")
)]
pub enum PushError {
    /// The gateway knows no device by this token (any more).
    #[error("the device is gone")]
    Gone,
    /// The gateway will never take this push.
    #[error("the gateway refused the push: {0}")]
    Refused(String),
    /// The gateway does not answer, or asks to come back later.
    #[error("the gateway is unavailable")]
    Unavailable(#[source] anyhow::Error),
}

#[async_trait]
pub trait Gateway: Debug + Send + Sync {
    /// Sends to one device. `event` lets the gateway, or the device, recognise a push that is sent a second time after a crash.
    async fn push(&self, device: &str, event: EventId, text: &PushText) -> Result<(), PushError>;
}

/// Opens what `push.url` names.
pub fn open(url: &SecretUrl) -> anyhow::Result<Arc<dyn Gateway>> {
    match url.scheme() {
        "log" => Ok(Arc::new(log::LogGateway)),
        _ => bail!("push.url: expected log:"),
    }
}
