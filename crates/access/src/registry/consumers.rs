//! Consumes `accessToken` into the table. Idempotent, in any order.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::AccessTokenIssued;

use super::Registry;
use super::table::Token;
use crate::READ_AT_ONCE;

#[async_trait]
impl Consumer<AccessTokenIssued> for Registry {
    const MOST_AT_ONCE: usize = READ_AT_ONCE;

    async fn handle(&self, event: Envelope<AccessTokenIssued>) -> Result<(), HandleError> {
        self.handle_all(vec![event]).await
    }

    async fn handle_all(&self, events: Vec<Envelope<AccessTokenIssued>>) -> Result<(), HandleError> {
        let inner = &self.0;
        let (now, horizon) = (inner.clock.now(), inner.horizon());
        for Envelope { event, .. } in events {
            let expires_at = match event.expires_at {
                Some(at) => at,
                None => event.issued_at.checked_add(inner.lifetime).unwrap_or(Timestamp::MAX),
            };
            if expires_at > now && event.issued_at >= horizon {
                let token = Token {
                    session: event.session,
                    role: event.role,
                    issued_ms: event.issued_at.as_millisecond(),
                    expires_ms: expires_at.as_millisecond(),
                };
                inner.remember(&event.account, &event.digest, token);
            }
        }
        Ok(())
    }
}
