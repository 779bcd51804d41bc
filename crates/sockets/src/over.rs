//! `expired`, `resign`, `accountState`: sockets that nobody may hold any more are closed, on every replica.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError, spawn_reader};
use sosohappy_bus::{Bus, Start};
use sosohappy_common::Context;
use sosohappy_events::Envelope;
use sosohappy_events::types::{AccountResigned, AccountStateChanged, SessionExpired, State};

use crate::{Close, Hub};

/// Spawns the readers. They begin at the latest record: there is no socket from before.
pub fn spawn_closers(context: &Context, bus: &Arc<dyn Bus>, hub: &Hub) {
    spawn_reader::<SessionExpired>(context, bus.clone(), Start::Latest, Closer(hub.clone()));
    spawn_reader::<AccountResigned>(context, bus.clone(), Start::Latest, Closer(hub.clone()));
    spawn_reader::<AccountStateChanged>(context, bus.clone(), Start::Latest, Closer(hub.clone()));
}

struct Closer(Hub);

#[async_trait]
impl Consumer<SessionExpired> for Closer {
    async fn handle(&self, Envelope { event, meta }: Envelope<SessionExpired>) -> Result<(), HandleError> {
        // A Spring service names no session; a socket is closed when its token ends anyway.
        if let Some(session) = event.session {
            self.0
                .close_session(&event.account, session, meta.occurred_at, Close::Policy);
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer<AccountResigned> for Closer {
    async fn handle(&self, Envelope { event, meta }: Envelope<AccountResigned>) -> Result<(), HandleError> {
        self.0.close_account(&event.account, meta.occurred_at, Close::Policy);
        Ok(())
    }
}

#[async_trait]
impl Consumer<AccountStateChanged> for Closer {
    async fn handle(&self, Envelope { event, meta }: Envelope<AccountStateChanged>) -> Result<(), HandleError> {
        match event.state {
            State::Suspended => self.0.close_account(&event.account, meta.occurred_at, Close::Policy),
            State::Restored => {}
        }
        Ok(())
    }
}
