//! What the handlers share.

use std::sync::Arc;

use sosohappy_access::Names;
use sosohappy_realtime::Hub;

use crate::socket::NoticeProtocol;

#[derive(Debug, Clone)]
pub struct App {
    pub hub: Hub,
    pub names: Arc<dyn Names>,
    pub protocol: Arc<NoticeProtocol>,
}
