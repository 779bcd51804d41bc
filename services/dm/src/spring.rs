//! Toward services of the legacy Spring fleet: messages as a Spring notice reads them, ids as a Spring dm reads them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sosohappy_bus::{Bus, BusError, Member, Reader, Start};
use sosohappy_common::{Account, Context};
use sosohappy_events::{Mixed, Outgoing, Topic};
use sosohappy_store::StoreError;

use crate::store::Store;

/// The bus as the relay sees it: a message is published in the form that the notice service reads at that moment.
#[derive(Debug)]
pub struct DirectMessages {
    pub bus: Arc<dyn Bus>,
    pub mixed: Mixed,
    pub store: Arc<dyn Store>,
}

impl DirectMessages {
    async fn records(&self, message: &Outgoing) -> Result<Vec<Outgoing>, BusError> {
        let account: Option<Account> = message.key.as_deref().and_then(|key| key.parse().ok());
        let devices = match account.filter(|_| self.mixed.pushes_by_spring_notice()) {
            Some(account) => self.store.devices_of(&account).await.map_err(unavailable)?,
            None => Vec::new(),
        };
        Ok(self.mixed.direct_messages(message, &devices))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: StoreError) -> BusError {
    BusError::Unavailable(format!("push tokens: {error}"))
}

#[async_trait]
impl Bus for DirectMessages {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            if record.topic == Topic::DirectMessage.default_name() {
                all.extend(self.records(record).await?);
            } else {
                all.push(record.clone());
            }
        }
        self.bus.publish(&all).await
    }

    async fn publish_reports(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.bus.publish_reports(records).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        self.bus.join(group, topics).await
    }

    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError> {
        self.bus.read(topics, start).await
    }

    async fn read_dead_letters(&self, topics: &[Topic]) -> Result<Box<dyn Reader>, BusError> {
        self.bus.read_dead_letters(topics).await
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<(), BusError> {
        self.bus.create_topics(topics).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.bus.ping().await
    }
}

const EVERY: Duration = Duration::from_secs(1);

/// Rewrites the ids of older messages while a Spring dm is there. A pass that was interrupted goes on where it was.
pub fn spawn_rewriting(context: &Context, store: Arc<dyn Store>) {
    let (holder, draining) = (context.instance.clone(), context.lifecycle.draining());
    context.lifecycle.spawn("message-ids", async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while draining.run_until_cancelled(tick.tick()).await.is_some() {
            loop {
                match draining.run_until_cancelled(store.rewrite_ids(&holder)).await {
                    Some(Ok(true)) => {}
                    Some(Ok(false)) | None => break,
                    Some(Err(error)) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "rewriting message ids failed; retrying"
                        );
                        break;
                    }
                }
            }
        }
        Ok(())
    });
}
