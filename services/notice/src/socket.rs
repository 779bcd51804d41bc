//! The socket of `connect-notice`: frames go out, none is expected to come in.

use sosohappy_access::Caller;
use sosohappy_realtime::{Close, Origin, Present, Protocol};

#[derive(Debug)]
pub struct NoticeProtocol(pub Present);

impl Protocol for NoticeProtocol {
    async fn opened(&self, caller: &Caller) {
        self.0.opened(&caller.account).await;
    }

    /// Some clients keep a connection alive by text; there is nothing to answer.
    async fn frame(&self, _caller: &Caller, _origin: Origin<'_>, _text: &str) -> Result<Option<String>, Close> {
        Ok(None)
    }

    async fn closed(&self, caller: &Caller) {
        self.0.closed(&caller.account).await;
    }
}
