//! Chooses the adapter by URL.

use std::sync::Arc;

use sosohappy_common::Context;
use sosohappy_common::settings::{Events, Fleet, Protocol};
use sosohappy_events::mixed::bus_settings;

use crate::journal::Journal;
use crate::names::Names;
use crate::{Bus, BusError};

/// Opens the bus that `events.url` names. An unavailable broker is no error: calls wait until it is available.
pub async fn open(settings: &Events, context: &Context) -> Result<Arc<dyn Bus>, BusError> {
    let names = Names::new(settings)?;
    match settings.url.scheme() {
        "journal" if settings.security.protocol() != Protocol::Plaintext => {
            Err(BusError::Settings("security has no effect on `journal:`".to_owned()))
        }
        "journal" => Ok(Arc::new(Journal::open(settings.url.rest(), names, context).await?)),
        #[cfg(feature = "kafka")]
        "kafka" => Ok(Arc::new(crate::kafka::Kafka::open(settings, names, context).await?)),
        other => Err(BusError::Settings(format!(
            "`{other}` is no bus: it is journal:<file> or kafka:<host:port>[,…]"
        ))),
    }
}

/// As [`open`], with the topic names of a fleet in which some services are still Spring.
pub async fn open_in_fleet(settings: &Events, fleet: &Fleet, context: &Context) -> Result<Arc<dyn Bus>, BusError> {
    open(&bus_settings(settings, fleet), context).await
}
