//! The health check of a service's database.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Map;
use sosohappy_common::health::Health;

use crate::StoreError;

/// A store whose database can be pinged.
#[async_trait]
pub trait Ping: Send + Sync {
    async fn ping(&self) -> Result<(), StoreError>;
}

/// Registers the check `db`.
pub fn check_database(health: &Health, store: Arc<dyn Ping>) {
    health.register("db", move || {
        let store = store.clone();
        async move {
            let answered = store.ping().await;
            answered.map(|()| Map::new()).map_err(|error| error.to_string())
        }
    });
}
