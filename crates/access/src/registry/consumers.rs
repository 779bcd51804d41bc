//! What the topics tell the table. All of it is idempotent and none of it depends on order.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::{AccessTokenIssued, AccountResigned, AccountStateChanged, SessionExpired};

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

#[async_trait]
impl Consumer<SessionExpired> for Registry {
    async fn handle(&self, Envelope { event, meta }: Envelope<SessionExpired>) -> Result<(), HandleError> {
        // A Spring service names no session; its tokens end by their own expiry.
        if let Some(session) = event.session {
            self.0.table.close(session, meta.occurred_at.as_millisecond());
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer<AccountResigned> for Registry {
    async fn handle(&self, Envelope { event, meta }: Envelope<AccountResigned>) -> Result<(), HandleError> {
        self.0.table.resign(&event.account, meta.occurred_at.as_millisecond());
        Ok(())
    }
}

#[async_trait]
impl Consumer<AccountStateChanged> for Registry {
    async fn handle(&self, Envelope { event, meta }: Envelope<AccountStateChanged>) -> Result<(), HandleError> {
        self.0
            .table
            .set_state(&event.account, event.state, meta.occurred_at.as_millisecond());
        Ok(())
    }
}
