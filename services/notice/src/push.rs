//! Pushes: the gateways, and the worker that brings the waiting ones there.

mod apns;
mod fcm;
mod http;
mod log;
mod payload;
mod providers;
mod worker;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_events::EventId;

use crate::domain::PushMessage;
use crate::metrics::NoticeMetrics;
use crate::settings::PushSettings;

pub use worker::Worker;

/// Why a device was not reached.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The provider knows no device by this token. With a moment: since then; a registration after it stays.
    #[error("the device is gone")]
    Gone { since: Option<Timestamp> },
    /// The token belongs to another sender or app: it is deleted, and operators are alerted.
    #[error("the token belongs to another sender")]
    ForeignToken,
    /// The provider will never take this push: our own error.
    #[error("the provider rejected the push: {0}")]
    Refused(String),
    /// The provider does not take our credential. The push waits until operators have replaced it.
    #[error("the provider does not accept the credential: {0}")]
    Credential(String),
    /// The provider does not answer, or asks to come back later.
    #[error("the provider is unavailable")]
    Unavailable {
        retry_after: Option<Duration>,
        #[source]
        source: anyhow::Error,
    },
}

impl PushError {
    fn unavailable(source: impl Into<anyhow::Error>) -> Self {
        Self::Unavailable {
            retry_after: None,
            source: source.into(),
        }
    }
}

#[async_trait]
pub trait Gateway: Debug + Send + Sync {
    /// Sends to one device. `event` lets the gateway, or the device, recognise a push that is sent a second time after a crash.
    async fn push(&self, device: &str, event: EventId, message: &PushMessage) -> Result<(), PushError>;
}

/// Opens what `push.url` names.
pub fn open(settings: &PushSettings, context: &Context, metrics: &NoticeMetrics) -> anyhow::Result<Arc<dyn Gateway>> {
    match settings.url.scheme() {
        "log" => Ok(Arc::new(log::LogGateway)),
        "providers" => Ok(Arc::new(providers::Providers::new(settings, context, metrics)?)),
        _ => bail!("push.url: expected log: or providers:"),
    }
}
