//! The state that the handlers share.

use std::sync::Arc;

use sosohappy_access::Names;
use sosohappy_common::Context;
use sosohappy_realtime::Hub;
use sosohappy_store::Directory;

use crate::banners::Banners;
use crate::socket::NoticeProtocol;
use crate::store::Store;

#[derive(Debug, Clone)]
pub struct App {
    pub context: Context,
    pub banners: Banners,
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub hub: Hub,
    pub names: Arc<dyn Names>,
    pub protocol: Arc<NoticeProtocol>,
}
