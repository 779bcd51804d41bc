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

/// Registers the check `db`, which holds the store weakly: a store may hold the context with these checks in turn, and its connections
/// would stay open after the service has ended.
pub fn check_database(health: &Health, store: &Arc<impl Ping + ?Sized + 'static>) {
    let store = Arc::downgrade(store);
    health.register("db", move || {
        let store = store.upgrade();
        async move {
            let store = store.ok_or("the store is closed")?;
            let answered = store.ping().await;
            answered.map(|()| Map::new()).map_err(|error| error.to_string())
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Answering;

    #[async_trait]
    impl Ping for Answering {
        async fn ping(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_check_does_not_keep_its_store_open() {
        let (health, store) = (Health::default(), Arc::new(Answering));
        check_database(&health, &store);
        assert!(health.report().await.is_up());
        let closed = Arc::downgrade(&store);
        drop(store);
        assert!(closed.upgrade().is_none());
    }
}
