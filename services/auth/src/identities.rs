//! With which identities of sign-in providers an account may be entered.

use sosohappy_common::Account;
use sosohappy_store::{StoreError, retrying};

use crate::app::App;
use crate::domain::id_token::{InvalidIdToken, Proven};
use crate::domain::person::{Identity, LinkedIdentity, Person};
use crate::domain::provider::Provider;
use crate::error::Error;
use crate::sessions;
use crate::settings::Proof;
use crate::store::Transaction;

/// Identities of one account.
const MAX_IDENTITIES: usize = 10;

/// Checks a claimed subject against the provider's ID token; `None` where the provider's proof is `none` and the claim is believed.
pub async fn prove(
    app: &App,
    provider: Provider,
    subject: &str,
    id_token: Option<&str>,
    nonce: Option<&str>,
) -> Result<Option<Proven>, Error> {
    match app.settings.get().sign_in.proof_of(provider) {
        Proof::None => return Ok(None),
        Proof::IdToken => {}
    }
    let verified = app.id_tokens.verify(provider, id_token, nonce).await;
    let verified = verified.and_then(|proven| {
        if proven.subject == subject {
            Ok(proven)
        } else {
            Err(InvalidIdToken::Subject.into())
        }
    });
    let proven = verified.inspect_err(|error| {
        if let Error::InvalidIdToken(reason) = error {
            tracing::info!(provider = provider.as_str(), %reason, "ID token refused");
        }
    })?;
    Ok(Some(proven))
}

/// Links an identity to an account. `address` is the account of the address that the provider has verified.
///
/// # Errors
/// [`Error::IdentityTaken`] where the identity is another account's, or that of a legacy account whose subject is unknown.
pub async fn link(app: &App, account: &Account, identity: &Identity, address: Option<&Account>) -> Result<(), Error> {
    retrying(|| link_once(app, account, identity, address)).await
}

async fn link_once(app: &App, account: &Account, identity: &Identity, address: Option<&Account>) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
    match tx.owner_of_identity(identity).await? {
        Some(owner) if owner == *account => return Ok(()),
        Some(_) => return Err(Error::IdentityTaken),
        None => {}
    }
    if let Some(address) = address {
        let at_address = tx.person_at(address).await?;
        match at_address.filter(|there| there.identity.subject.is_none() && there.identity.issuer == identity.issuer) {
            Some(there) if there.account == *account => tx.link_person(account, identity).await?,
            Some(_) => return Err(Error::IdentityTaken),
            None => {}
        }
    }
    let linked = tx.identities_of(account).await?;
    if LinkedIdentity::all_of(&person, linked).len() >= MAX_IDENTITIES {
        return Err(Error::InvalidParameter("at most 10 identities of an account"));
    }
    insert(app, tx.as_mut(), account, identity).await?;
    Ok(tx.commit().await?)
}

/// Writes an identity that no account has. Where another transaction was quicker, repeating this one finds its account.
pub async fn insert(app: &App, tx: &mut dyn Transaction, account: &Account, identity: &Identity) -> Result<(), Error> {
    if tx.insert_identity(account, identity, app.now()).await? {
        Ok(())
    } else {
        Err(StoreError::Retry(anyhow::anyhow!("the identity was linked meanwhile")).into())
    }
}

/// Unlinks an identity, and closes the sessions that it has opened; false when the account has no such identity.
///
/// # Errors
/// [`Error::LastIdentity`] where the account would have none left.
pub async fn unlink(app: &App, account: &Account, identity: &Identity) -> Result<bool, Error> {
    retrying(|| unlink_once(app, account, identity)).await
}

async fn unlink_once(app: &App, account: &Account, identity: &Identity) -> Result<bool, Error> {
    let mut tx = app.store.begin().await?;
    let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
    let linked = tx.identities_of(account).await?;
    let mut left = LinkedIdentity::all_of(&person, linked);
    let before = left.len();
    left.retain(|linked| linked.identity != *identity);
    if left.len() == before {
        return Ok(false);
    }
    let next = left.first().ok_or(Error::LastIdentity)?;
    tx.delete_identity(account, identity).await?;
    if person.identity == *identity {
        // The account's own row never loses its subject: an older release would take the next one that comes.
        tx.link_person(account, &next.identity).await?;
    }
    for session in tx.sessions_of(account).await? {
        // An older release has not written with which identity it opened a session: it may have been this one.
        if session.origin.identity.as_ref().is_none_or(|opened| opened == identity) {
            sessions::close(app, tx.as_mut(), &session).await?;
        }
    }
    app.commit(tx).await?;
    Ok(true)
}

/// Which account a sign-in enters.
pub enum Entry {
    Known(Person),
    /// An account whose subject is not known yet, entered by its verified address.
    Legacy(Person),
    New,
}

/// Finds the account of a claimed identity: the one at the claimed address where that is its own identity, else the one that the identity is
/// linked to, else by the address.
///
/// # Errors
/// [`Error::OtherIdentity`] where the account at the address has another identity, [`Error::UnverifiedAddress`] where only an address could
/// decide and it is not verified.
pub async fn resolve(
    tx: &mut dyn Transaction,
    account: &Account,
    identity: &Identity,
    is_proven: bool,
    has_address: bool,
) -> Result<Entry, Error> {
    let at_address = tx.person_at(account).await?;
    let at_address = match at_address {
        Some(person) if person.identity == *identity => return Ok(Entry::Known(person)),
        other => other,
    };
    // An unproven claim finds no account by the identity in its row: the legacy app is told apart by its address alone.
    let owner = if is_proven {
        tx.owner_of_identity(identity).await?
    } else {
        tx.owner_of_linked_identity(identity).await?
    };
    if let Some(owner) = owner {
        let person = tx.person(&owner).await?;
        return person.map(Entry::Known).ok_or_else(|| {
            StoreError::Retry(anyhow::anyhow!("the account of the identity resigned meanwhile")).into()
        });
    }
    match at_address {
        Some(person) if !person.identity.agrees_with(identity) => Err(Error::OtherIdentity),
        Some(_) | None if !has_address => Err(Error::UnverifiedAddress),
        Some(person) => Ok(Entry::Legacy(person)),
        None => Ok(Entry::New),
    }
}
