//! FCM and APNs behind one gateway, with a breaker for credentials that a provider does not take.

use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus::IntGauge;
use secrecy::ExposeSecret as _;
use sosohappy_common::Context;
use sosohappy_events::EventId;
use tokio::time::Instant;

use super::apns::Apns;
use super::fcm::Fcm;
use super::http::TIMEOUT;
use super::{Gateway, PushError};
use crate::domain::PushMessage;
use crate::metrics::NoticeMetrics;
use crate::settings::PushSettings;

/// While a credential is broken, one push at a time tries it again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Providers {
    fcm: Option<(Fcm, Credential)>,
    apns: Option<(Apns, Credential)>,
}

impl Providers {
    pub fn new(settings: &PushSettings, context: &Context, metrics: &NoticeMetrics) -> anyhow::Result<Self> {
        let fcm = if settings.fcm.service_account.expose_secret().is_empty() {
            None
        } else {
            Some((
                Fcm::new(&settings.fcm, TIMEOUT, context)?,
                Credential::new("fcm", metrics.broken_credential("fcm")),
            ))
        };
        let apns = if settings.apns.key.expose_secret().is_empty() {
            None
        } else {
            Some((
                Apns::new(&settings.apns, TIMEOUT, context)?,
                Credential::new("apns", metrics.broken_credential("apns")),
            ))
        };
        ensure!(
            fcm.is_some() || apns.is_some(),
            "push.url is providers:, and neither push.fcm.service-account nor push.apns.key is set"
        );
        Ok(Self { fcm, apns })
    }
}

/// Device tokens of APNs are hexadecimal, at least 32 bytes; registration tokens of FCM hold other characters.
fn is_apns(device: &str) -> bool {
    device.len() >= 64 && device.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[async_trait]
impl Gateway for Providers {
    async fn push(&self, device: &str, event: EventId, message: &PushMessage) -> Result<(), PushError> {
        match (&self.fcm, &self.apns) {
            (_, Some((apns, credential))) if is_apns(device) => {
                credential.guard()?;
                credential.note(apns.push(device, event, message).await)
            }
            (Some((fcm, credential)), _) if !is_apns(device) => {
                credential.guard()?;
                credential.note(fcm.push(device, event, message).await)
            }
            _ => Err(PushError::Refused(
                "no provider is set for tokens of this form".to_owned(),
            )),
        }
    }
}

/// Whether a provider takes our credential. While it does not, pushes wait without asking the provider each time, and operators get one
/// alert: the gauge `notice_push_credential_broken`.
#[derive(Debug)]
struct Credential {
    provider: &'static str,
    gauge: IntGauge,
    /// When the credential may be tried again.
    broken_until: Mutex<Option<Instant>>,
}

impl Credential {
    fn new(provider: &'static str, gauge: IntGauge) -> Self {
        Self {
            provider,
            gauge,
            broken_until: Mutex::new(None),
        }
    }

    fn guard(&self) -> Result<(), PushError> {
        let mut broken_until = self.broken_until.lock();
        match *broken_until {
            Some(until) if Instant::now() < until => Err(PushError::Credential("rejected a moment ago".to_owned())),
            Some(_) => {
                // The others go on waiting for the answer to this one.
                *broken_until = Some(Instant::now() + TRY_AGAIN);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn note(&self, result: Result<(), PushError>) -> Result<(), PushError> {
        let mut broken_until = self.broken_until.lock();
        match &result {
            Err(PushError::Credential(reason)) => {
                if broken_until.is_none() {
                    tracing::error!(
                        provider = self.provider,
                        reason,
                        "push credential rejected; pushes wait"
                    );
                }
                *broken_until = Some(Instant::now() + TRY_AGAIN);
                self.gauge.set(1);
            }
            // Says nothing of the credential.
            Err(PushError::Unavailable { .. }) => {}
            _ if broken_until.is_some() => {
                tracing::info!(provider = self.provider, "push credential accepted again");
                *broken_until = None;
                self.gauge.set(0);
            }
            _ => {}
        }
        result
    }
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
