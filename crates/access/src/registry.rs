//! The token registry: valid access tokens in the memory of every replica, all of them, fed by `accessToken`, or those that were used there.

mod claims;
mod consumers;
mod table;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_bus::consume::spawn_reader;
use sosohappy_bus::{Bus, Start};
use sosohappy_common::clock::Clock;
use sosohappy_common::lifecycle::Lifecycle;
use sosohappy_common::settings::{Access, TokenRegistry};
use sosohappy_common::{Account, Context};
use sosohappy_events::Event as _;
use sosohappy_events::types::{AccessTokenIssued, TokenDigest};

use crate::introspection::IntrospectResponse;
use crate::metrics::RegistryMetrics;
use crate::{Authenticator, Bearer, Caller, Denied, Revalidation, revocations};
use table::{Table, Token, Verdict};

/// How often expired tokens are removed. Expiry itself is enforced on read.
const SWEEP: Duration = Duration::from_secs(30);

/// How long a request waits for its token to arrive on the topic, and how often it checks.
const ARRIVAL: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(10);

/// Valid access tokens by digest: at most 96 B each, a lookup without I/O. Clones share the table.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Table,
    clock: Arc<dyn Clock>,
    lifetime: Duration,
    /// Whether this replica reads `accessToken`.
    reads: bool,
    revalidation: Revalidation,
    lifecycle: Lifecycle,
    metrics: RegistryMetrics,
}

impl Registry {
    /// Starts the reader of `accessToken`: every replica reads every partition from `now − token lifetime`, and readiness waits
    /// until it has caught up. A registry on demand reads it only where auth is a Spring service, which cannot be asked; one that becomes a
    /// Spring service later needs a restart of this replica.
    #[must_use]
    pub fn start(context: &Context, settings: &Access, bus: &Arc<dyn Bus>, revalidation: Revalidation) -> Self {
        let reads = settings.registry == TokenRegistry::Complete || revalidation.auth.is_spring();
        let registry = Self(Arc::new(Inner {
            table: Table::new(revalidation.revocations.clone()),
            clock: context.clock.clone(),
            lifetime: settings.token_lifetime,
            reads,
            revalidation,
            lifecycle: context.lifecycle.clone(),
            metrics: RegistryMetrics::new(&context.metrics),
        }));
        if reads {
            let horizon = Start::At(registry.0.horizon());
            spawn_reader::<AccessTokenIssued>(context, bus.clone(), horizon, registry.clone());
        }

        let (swept, mut rounds) = (registry.clone(), context.lifecycle.rounds(SWEEP));
        context.lifecycle.spawn("token-registry-sweep", async move {
            while rounds.next().await {
                swept.0.sweep();
            }
            Ok(())
        });
        registry
    }

    /// Waits [`ARRIVAL`] for a token that its caller presents before the topic has delivered it: a Spring auth has no introspection.
    async fn wait(&self, account: &Account, digest: &TokenDigest) -> Verdict {
        let arrives = async {
            loop {
                tokio::time::sleep(LOOK).await;
                match self.0.table.admit(account, digest, self.0.now_ms()) {
                    Verdict::Unknown => {}
                    known => return known,
                }
            }
        };
        tokio::time::timeout(ARRIVAL, arrives).await.unwrap_or(Verdict::Unknown)
    }

    /// Asks auth about a token that the topic has not delivered, and inserts a valid one.
    async fn ask(&self, account: &Account, digest: &TokenDigest) -> Result<Verdict, Denied> {
        if self.0.revalidation.auth.is_spring() {
            // Asked first: the last records may be read between the last look and the answer.
            let may_be_unread = !self.0.reads || self.0.is_catching_up();
            return match self.wait(account, digest).await {
                // Its record may be among those that have not been read.
                Verdict::Unknown if may_be_unread => Err(Denied::Unavailable),
                verdict => Ok(verdict),
            };
        }
        let answer = self.0.revalidation.auth.introspect(account, digest).await?;
        if !answer.active {
            return Ok(Verdict::Refused);
        }
        let token = token(&answer).ok_or_else(|| {
            tracing::error!("auth introspection response invalid: account or expiry missing");
            Denied::Unavailable
        })?;
        self.0.remember(account, digest, token);
        // Reads the table again: a revocation may have arrived during the call.
        Ok(self.0.table.admit(account, digest, self.0.now_ms()))
    }
}

impl Inner {
    /// Asks auth again about a token that is valid here although revocations may be missing.
    async fn confirm(&self, account: &Account, digest: &TokenDigest, token: Token) -> Verdict {
        self.revalidation
            .check(account, digest, token.session, token.issued_at())
            .await;
        self.table.admit(account, digest, self.now_ms())
    }

    fn is_catching_up(&self) -> bool {
        let gate = AccessTokenIssued::TOPIC.reader_name();
        self.lifecycle.readiness().waiting_for.contains(&gate)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Returns the moment before which no token was issued that can still be valid.
    fn horizon(&self) -> Timestamp {
        revocations::horizon(self.clock.now(), self.lifetime)
    }

    fn remember(&self, account: &Account, digest: &TokenDigest, token: Token) {
        if self.table.issue(account, digest, token) {
            self.metrics.tokens.inc();
        }
    }

    fn sweep(&self) {
        self.table.sweep(self.now_ms(), self.horizon().as_millisecond());
        self.metrics
            .tokens
            .set(i64::try_from(self.table.len()).unwrap_or(i64::MAX));
    }
}

#[async_trait]
impl Authenticator for Registry {
    /// | the table says | then | the caller is |
    /// | --- | --- | --- |
    /// | unknown | the token cannot be one of this account | refused, without a call |
    /// | unknown | auth is asked; a Spring auth has no introspection, so the topic is awaited | as the answer says |
    /// | refused | | refused |
    /// | admitted | heartbeats of auth's relay arrive | admitted, without I/O |
    /// | admitted | heartbeats are missing, so revocations may be: auth is asked | as the table says afterwards |
    async fn authenticate(&self, account: &Account, bearer: &str) -> Result<Caller, Denied> {
        let inner = &self.0;
        let digest = TokenDigest::of(bearer);
        let now_ms = inner.now_ms();
        let verdict = match inner.table.admit(account, &digest, now_ms) {
            Verdict::Unknown => {
                inner.metrics.misses.inc();
                if !claims::plausible(bearer, account, now_ms) {
                    return Err(Denied::Refused);
                }
                self.ask(account, &digest).await?
            }
            Verdict::Refused => {
                inner.metrics.refused.inc();
                Verdict::Refused
            }
            Verdict::Admitted(token) => {
                inner.metrics.hits.inc();
                if inner.revalidation.is_needed() {
                    inner.confirm(account, &digest, token).await
                } else {
                    Verdict::Admitted(token)
                }
            }
        };
        match verdict {
            Verdict::Admitted(token) => Ok(Caller {
                account: account.clone(),
                token: digest,
                session: token.session,
                role: token.role,
                issued_at: token.issued_at(),
                expires_at: Timestamp::from_millisecond(token.expires_ms).unwrap_or(Timestamp::MAX),
                bearer: inner.revalidation.auth.is_spring().then(|| Bearer::new(bearer)),
            }),
            Verdict::Refused | Verdict::Unknown => Err(Denied::Refused),
        }
    }
}

/// Reads an active answer; `None` where one of its fields is missing or invalid.
fn token(answer: &IntrospectResponse) -> Option<Token> {
    Some(Token {
        session: answer.session.as_deref()?.parse().ok()?,
        // A role of a later release has no rights here that a user does not have.
        role: answer.role.as_deref()?.parse().unwrap_or_default(),
        issued_ms: answer.issued_at?,
        expires_ms: answer.expires_at?,
    })
}

#[cfg(test)]
#[path = "registry/registry_tests.rs"]
mod tests;
