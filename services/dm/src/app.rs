//! The state that the handlers share.

use std::sync::Arc;

use sosohappy_access::Names;
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::Context;
use sosohappy_common::settings::Live;
use sosohappy_realtime::Hub;
use sosohappy_store::Directory;

use crate::settings::Settings;
use crate::socket::DmProtocol;
use crate::store::Store;

#[derive(Debug, Clone)]
pub struct App {
    pub settings: Live<Settings>,
    pub context: Context,
    pub store: Arc<dyn Store>,
    pub names: Arc<dyn Names>,
    pub hub: Hub,
    pub directory: Arc<dyn Directory>,
    pub relay: RelayHandle,
    pub protocol: Arc<DmProtocol>,
}
