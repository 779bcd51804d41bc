//! What is pinned, in every replica: told over the bus, and told again, for the bus forgets after a day.

use std::time::Duration;

use serde_json::Value;
use sosohappy_bus::{BusError, Start};
use sosohappy_events::types::BusMessage;
use sosohappy_events::{Envelope, Topic};
use tokio_util::sync::CancellationToken;

use super::{Announcer, PAUSE};
use crate::source::{PinningError, Source};
use crate::state::pin::Pin;

/// A type of ours on Spring's topic, which Spring services ignore: the other replicas of config pin the same version.
const PINNED: &str = "ConfigVersionPinnedRemoteApplicationEvent";
/// Where it goes: to config alone.
const CONFIG: &str = "config-service:**";
/// Well within what the topic keeps: whoever starts with nothing hears of a pin, however old.
const AGAIN: Duration = Duration::from_hours(1);
/// How long a start waits for the bus to tell what others have pinned: config starts without one, too.
const AT_START: Duration = Duration::from_secs(5);
/// How often a reader that waits is asked whether it has caught up.
const ASK: Duration = Duration::from_millis(5);

impl Announcer {
    /// Tells the other replicas: now, or else when the bus is back.
    pub async fn pinned(&self, pin: &Pin) {
        if let Err(error) = self.tell_pin(pin).await {
            tracing::error!(%error, "publishing pin failed; retrying");
            self.untold_pin.notify_one();
        }
    }

    async fn tell_pin(&self, pin: &Pin) -> Result<(), BusError> {
        let mut message = BusMessage::refresh(&self.context, CONFIG);
        PINNED.clone_into(&mut message.kind);
        message.rest = match serde_json::to_value(pin) {
            Ok(Value::Object(rest)) => rest,
            other => unreachable!("a struct becomes an object, not {other:?}"),
        };
        self.publish(vec![message]).await
    }

    /// Takes over what other replicas pin, and tells them what is pinned here. Ready once what they have pinned before is known.
    pub fn spawn_pins(&self, source: &Source) {
        let lifecycle = &self.context.lifecycle;
        let (caught_up, gate) = (CancellationToken::new(), lifecycle.gate("pins"));
        let (announcer, from, known) = (self.clone(), source.clone(), caught_up.clone());
        let draining = lifecycle.draining();
        lifecycle.spawn("config-pins", async move {
            loop {
                let Some(error) = draining.run_until_cancelled(announcer.follow_pins(&from, &known)).await else {
                    return Ok(());
                };
                tracing::warn!(%error, "reading pins failed; retrying");
                if draining.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                    return Ok(());
                }
            }
        });
        let (announcer, source, draining) = (self.clone(), source.clone(), lifecycle.draining());
        lifecycle.spawn("config-pin-teller", async move {
            let work = async {
                if tokio::time::timeout(AT_START, caught_up.cancelled()).await.is_err() {
                    tracing::warn!("pins not read yet: bus unavailable");
                }
                gate.open();
                announcer.keep_telling_pins(&source).await;
            };
            draining.run_until_cancelled(work).await;
            Ok(())
        });
    }

    async fn keep_telling_pins(&self, source: &Source) {
        loop {
            let pin = source.published().and_then(|published| published.pin.clone());
            let told = match pin {
                Some(pin) => self.tell_pin(&pin).await,
                None => Ok(()),
            };
            let pause = if told.is_ok() { AGAIN } else { PAUSE };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.untold_pin.notified() => {}
            }
        }
    }

    async fn follow_pins(&self, source: &Source, caught_up: &CancellationToken) -> BusError {
        // A pin needs something to be put on.
        while source.published().is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        let mut reader = match self.bus.read(&[Topic::ConfigBus], Start::Earliest).await {
            Ok(reader) => reader,
            Err(error) => return error,
        };
        loop {
            if reader.caught_up() {
                caught_up.cancel();
            }
            let record = tokio::select! {
                biased;
                record = reader.next() => record,
                () = tokio::time::sleep(ASK), if !caught_up.is_cancelled() => continue,
            };
            let record = match record {
                Ok(record) => record,
                Err(error) => return error,
            };
            let Ok(Envelope { event: message, .. }) = Envelope::<BusMessage>::decode(&record) else {
                continue;
            };
            if message.kind != PINNED || message.origin_service == *self.context.instance {
                continue;
            }
            match serde_json::from_value::<Pin>(Value::Object(message.rest)) {
                Ok(pin) => self.adopt(source, pin).await,
                Err(error) => tracing::warn!(%error, "received pin invalid"),
            }
        }
    }

    /// A version that is not known here may be one that was not fetched yet.
    async fn adopt(&self, source: &Source, pin: Pin) {
        let mut adopted = source.adopt(pin.clone()).await;
        if matches!(adopted, Err(PinningError::Unknown)) {
            source.refresh().await;
            adopted = source.adopt(pin).await;
        }
        match adopted {
            // Who asked this replica in between has the version before.
            Ok(true) => self.refresh_all_soon(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "applying received pin failed"),
        }
    }
}
