//! Consequences of a notification of a sign-in provider.
//!
//! | change | the account has another identity | it has none |
//! | --- | --- | --- |
//! | deleted | the identity is unlinked | the account resigns |
//! | revoked | the identity's sessions are closed | the identity's sessions are closed |
//! | other | nothing | nothing |
//!
//! The sessions of an identity are those that were opened with it: a person who signed in with another identity of the account stays signed in.
//!
//! Every action is idempotent, and a notification counts as handled after it: one that was cut off is handled again when it is redelivered.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::Account;
use sosohappy_store::retrying;

use crate::app::{App, later};
use crate::domain::code::CodeId;
use crate::domain::notification::{Change, Notification};
use crate::domain::person::Identity;
use crate::domain::provider::Provider;
use crate::error::Error;
use crate::{identities, resignations, sessions};

/// How long the id of a notification is kept: longer than a provider redelivers it.
const REMEMBERED: Duration = Duration::from_hours(24 * 90);

/// Applies a notification whose sender was verified, and counts it.
pub async fn receive(app: &App, provider: Provider, notification: &Notification) -> Result<(), Error> {
    let applied = apply(app, provider, notification).await;
    let outcome = applied.as_ref().map_or("failed", |outcome| *outcome);
    count(app, provider, outcome);
    let change = notification.change;
    tracing::info!(
        provider = provider.as_str(),
        ?change,
        outcome,
        "provider notification received"
    );
    applied.map(|_| ())
}

pub fn count(app: &App, provider: Provider, outcome: &str) {
    let labels = [provider.as_str(), outcome];
    app.metrics.notifications.with_label_values(&labels).inc();
}

async fn apply(app: &App, provider: Provider, notification: &Notification) -> Result<&'static str, Error> {
    if notification.change == Change::Other {
        return Ok("ignored");
    }
    let id = notification.id.as_deref().map(|id| id_of(provider, id));
    if let Some(id) = &id
        && app.store.is_code_used(id).await?
    {
        return Ok("duplicate");
    }
    let owner = app.store.owner_of_identity(&notification.identity).await?;
    let outcome = match owner {
        None => "unknown",
        Some(owner) => act(app, &owner, notification).await?,
    };
    if let Some(id) = &id {
        remember(app, id).await?;
    }
    Ok(outcome)
}

async fn act(app: &App, owner: &Account, notification: &Notification) -> Result<&'static str, Error> {
    let person = app.store.person(owner).await?;
    let Some(person) = person else { return Ok("unknown") };
    // An account that was made since has nothing to do with it.
    if notification.happened_at.is_some_and(|at| at < person.created_at) {
        return Ok("outdated");
    }
    if notification.change == Change::Deleted {
        match identities::unlink(app, owner, &notification.identity).await {
            // The sessions that it has opened are closed with it.
            Ok(_) => return Ok("signed-out"),
            Err(Error::LastIdentity) => {
                return match resignations::resign(app, owner).await {
                    Ok(()) => Ok("resigned"),
                    Err(Error::UnknownAccount) => Ok("unknown"),
                    Err(error) => Err(error),
                };
            }
            Err(Error::UnknownAccount) => return Ok("unknown"),
            Err(error) => return Err(error),
        }
    }
    sign_out(app, owner, &notification.identity, notification.happened_at).await?;
    Ok("signed-out")
}

/// Closes the sessions that were opened with an identity and were open at that time.
async fn sign_out(app: &App, account: &Account, identity: &Identity, at: Option<Timestamp>) -> Result<(), Error> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        tx.person(account).await?;
        let open_then = |opened_at: Option<Timestamp>| opened_at.zip(at).is_none_or(|(opened_at, at)| opened_at <= at);
        let mut sessions = tx.sessions_of(account).await?;
        sessions.retain(|session| session.may_be_opened_with(identity) && open_then(session.origin.opened_at));
        for session in &sessions {
            sessions::close(app, tx.as_mut(), session).await?;
        }
        app.commit(tx).await
    })
    .await
}

async fn remember(app: &App, id: &CodeId) -> Result<(), Error> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        // False where it was delivered twice at once.
        tx.use_code(id, later(app.now(), REMEMBERED)).await?;
        Ok(tx.commit().await?)
    })
    .await
}

/// Ids of notifications are kept beside those of used authorize codes, which are random: no two are equal.
fn id_of(provider: Provider, id: &str) -> CodeId {
    let digest = Sha256::new()
        .chain_update(b"notification\x1f")
        .chain_update(provider.as_str())
        .chain_update(b"\x1f")
        .chain_update(id)
        .finalize();
    let mut id = CodeId::default();
    let bytes = id.len();
    id.copy_from_slice(&digest[..bytes]);
    id
}
