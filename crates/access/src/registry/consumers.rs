//! Consumes `accessToken` into the table. Idempotent, in any order.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::AccessTokenIssued;

use super::Registry;
use super::table::Token;

#[async_trait]
impl Consumer<AccessTokenIssued> for Registry {
    async fn handle(&self, Envelope { event, .. }: Envelope<AccessTokenIssued>) -> Result<(), HandleError> {
        let inner = &self.0;
        let expires_at = match event.expires_at {
            Some(at) => at,
            None => event.issued_at.checked_add(inner.lifetime).unwrap_or(Timestamp::MAX),
        };
        if expires_at > inner.clock.now() && event.issued_at >= inner.horizon() {
            let token = Token {
                session: event.session,
                role: event.role,
                issued_ms: event.issued_at.as_millisecond(),
                expires_ms: expires_at.as_millisecond(),
            };
            inner.remember(&event.account, &event.digest, token);
        }
        Ok(())
    }
}
