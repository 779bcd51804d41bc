//! Accounts that are entered with an e-mail address and a password. A code that was sent to the address proves that it is one's own.

use jiff::Timestamp;
use sosohappy_access::Caller;
use sosohappy_common::Account;
use sosohappy_store::retrying;

use crate::app::{App, OwedCall, later};
use crate::domain::email::{Address, EmailCode, PROVIDER, Password};
use crate::domain::person::LinkedIdentity;
use crate::domain::session::Origin;
use crate::domain::stamp;
use crate::error::Error;
use crate::identities;
use crate::mailer::Mail;
use crate::resignations;
use crate::sessions::{self, Admitted};
use crate::store::Transaction;
use crate::store::email::StoredCode;
use crate::store::external_calls::Kind;

/// Guesses at one code.
const MAX_TRIES: u32 = 5;

/// Makes a code for an address in the place of the one before, and queues its mail. The same is done, and takes the same time, whether or not an
/// account has the address.
pub async fn request_code(app: &App, address: &Address) -> Result<(), Error> {
    let code = EmailCode::random(app.context.entropy.as_ref());
    let expires_at = later(app.now(), app.settings.get().email.code_lifetime);
    let stored = StoredCode {
        seal: app.keyring.seal(&code.bytes_for(address)),
        tries: 0,
        expires_at,
    };
    let mail = Mail {
        address: address.clone(),
        code,
    };
    let owed = OwedCall {
        kind: Kind::Mail,
        payload: mail.payload(),
        resignation: None,
        expires_at: Some(expires_at),
    };
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        tx.set_email_code(&address.account.key(), &stored).await?;
        app.enqueue_call(tx.as_mut(), &owed).await?;
        Ok::<_, Error>(tx.commit().await?)
    })
    .await?;
    app.external_calls.notify_one();
    Ok(())
}

/// Counts a guess before it is checked, so that of concurrent guesses no more than [`MAX_TRIES`] are.
async fn try_code(app: &App, address: &Address, code: &EmailCode) -> Result<(), Error> {
    let stored = retrying(|| async {
        let key = address.account.key();
        let mut tx = app.store.begin().await?;
        let Some(mut stored) = tx.email_code(&key).await? else {
            return Err(Error::InvalidEmailCode);
        };
        if stored.tries >= MAX_TRIES || stored.expires_at <= app.now() {
            return Err(Error::InvalidEmailCode);
        }
        stored.tries += 1;
        tx.set_email_code(&key, &stored).await?;
        tx.commit().await?;
        Ok(stored)
    })
    .await?;
    check_code(app, address, code, &stored)
}

fn check_code(app: &App, address: &Address, code: &EmailCode, stored: &StoredCode) -> Result<(), Error> {
    if app.keyring.has_sealed(&code.bytes_for(address), &stored.seal) {
        Ok(())
    } else {
        Err(Error::InvalidEmailCode)
    }
}

/// Uses up a code that [`try_code`] has accepted: of several requests with it one goes on.
async fn take_code(app: &App, tx: &mut dyn Transaction, address: &Address, code: &EmailCode) -> Result<(), Error> {
    let key = address.account.key();
    let stored = tx.email_code(&key).await?;
    let stored = stored.filter(|stored| stored.expires_at > app.now());
    check_code(app, address, code, &stored.ok_or(Error::InvalidEmailCode)?)?;
    Ok(tx.delete_email_code(&key).await?)
}

async fn hash(app: &App, password: Password) -> Result<String, Error> {
    let cost = app.settings.get().passwords.cost;
    app.passwords.hash(cost, password, app.context.entropy.as_ref()).await
}

/// Makes the account of an address and signs in.
///
/// # Errors
/// [`Error::InvalidEmailCode`]; [`Error::AccountExists`], which the owner of the address alone learns.
pub async fn sign_up(
    app: &App,
    address: &Address,
    code: &EmailCode,
    password: Password,
    origin: &Origin,
    device_token: Option<&str>,
) -> Result<Admitted, Error> {
    try_code(app, address, code).await?;
    let hash = hash(app, password).await?;
    resignations::wait_for_erasure(app, &address.account).await?;
    let identity = address.identity();
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        take_code(app, tx.as_mut(), address, code).await?;
        let is_taken =
            tx.person_at(&address.account).await?.is_some() || tx.owner_of_linked_identity(&identity).await?.is_some();
        if is_taken {
            return Err(Error::AccountExists);
        }
        let person = identities::sign_up(app, tx.as_mut(), &address.account, &identity).await?;
        identities::insert(app, tx.as_mut(), &person.account, &identity).await?;
        tx.set_password(&person.account, &hash, app.now()).await?;
        let admitted = sessions::enter(app, tx.as_mut(), person, origin.clone(), device_token).await?;
        app.commit(tx).await?;
        Ok(admitted)
    })
    .await
}

/// Signs in with a password. An unknown address is refused as a wrong password is, and takes as long.
pub async fn sign_in(
    app: &App,
    address: &Address,
    password: Password,
    origin: &Origin,
    device_token: Option<&str>,
) -> Result<Admitted, Error> {
    let cost = app.settings.get().passwords.cost;
    let (account, stored) = app.store.password_of(&address.identity()).await?.unzip();
    let verified = app.passwords.verify(cost, password.clone(), stored.clone()).await?;
    let (Some(account), Some(stored), true) = (account, stored, verified.matches) else {
        return Err(Error::InvalidCredentials);
    };
    // The cost of the settings has changed since the password was hashed.
    let renewed = if verified.is_outdated {
        Some(hash(app, password).await?)
    } else {
        None
    };
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let mut person = tx.person(&account).await?.ok_or(Error::InvalidCredentials)?;
        if tx.password(&account).await?.as_ref() != Some(&stored) {
            return Err(Error::InvalidCredentials);
        }
        if let Some(renewed) = &renewed {
            tx.set_password(&account, renewed, app.now()).await?;
        }
        person.changed_at = stamp::after(person.changed_at, app.now());
        tx.stamp_person(&account, person.changed_at).await?;
        let admitted = sessions::enter(app, tx.as_mut(), person, origin.clone(), device_token).await?;
        app.commit(tx).await?;
        Ok(admitted)
    })
    .await
}

/// Sets the password of the account of an address, and closes all its sessions.
///
/// # Errors
/// [`Error::InvalidEmailCode`]; [`Error::UnknownAccount`], which the owner of the address alone learns.
pub async fn reset_password(app: &App, address: &Address, code: &EmailCode, password: Password) -> Result<(), Error> {
    try_code(app, address, code).await?;
    let hash = hash(app, password).await?;
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        take_code(app, tx.as_mut(), address, code).await?;
        let owner = tx.owner_of_linked_identity(&address.identity()).await?;
        let owner = owner.ok_or(Error::UnknownAccount)?;
        tx.person(&owner).await?.ok_or(Error::UnknownAccount)?;
        tx.set_password(&owner, &hash, app.now()).await?;
        for session in tx.sessions_of(&owner).await? {
            sessions::close(app, tx.as_mut(), &session).await?;
        }
        app.commit(tx).await
    })
    .await
}

/// Replaces the caller's password, and closes the other sessions.
///
/// # Errors
/// [`Error::InvalidCredentials`] where the present password is another; [`Error::NoPassword`].
pub async fn change_password(app: &App, caller: &Caller, present: Password, new: &str) -> Result<(), Error> {
    let account = &caller.account;
    let address = own_address(app, account).await?;
    let new = Password::chosen(new, &address)?;
    let stored = app.store.password_of(&address.identity()).await?;
    let stored = stored.filter(|(owner, _)| owner == account).map(|(_, hash)| hash);
    let stored = stored.ok_or(Error::NoPassword)?;
    let cost = app.settings.get().passwords.cost;
    if !app.passwords.verify(cost, present, Some(stored.clone())).await?.matches {
        return Err(Error::InvalidCredentials);
    }
    let hash = hash(app, new).await?;
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        tx.person(account).await?.ok_or(Error::UnknownAccount)?;
        if tx.password(account).await?.as_ref() != Some(&stored) {
            return Err(Error::InvalidCredentials);
        }
        tx.set_password(account, &hash, app.now()).await?;
        for session in tx.sessions_of(account).await? {
            if session.id != caller.session {
                sessions::close(app, tx.as_mut(), &session).await?;
            }
        }
        app.commit(tx).await
    })
    .await
}

/// Returns the address with which an account is entered.
async fn own_address(app: &App, account: &Account) -> Result<Address, Error> {
    let person = app.store.person(account).await?.ok_or(Error::UnknownAccount)?;
    let linked = app.store.identities_of(account).await?;
    LinkedIdentity::all_of(&person, linked)
        .into_iter()
        .find(|linked| linked.identity.issuer == PROVIDER)
        .and_then(|linked| Address::parse(&linked.identity.subject?).ok())
        .ok_or(Error::NoPassword)
}

/// Links an address and a password to an account, which has none yet.
pub async fn link(
    app: &App,
    account: &Account,
    address: &Address,
    code: &EmailCode,
    password: Password,
) -> Result<(), Error> {
    try_code(app, address, code).await?;
    let hash = hash(app, password).await?;
    let identity = address.identity();
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        take_code(app, tx.as_mut(), address, code).await?;
        let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
        let at_address = tx.person_at(&address.account).await?;
        let owner = tx.owner_of_linked_identity(&identity).await?;
        let is_taken = owner.is_some() || at_address.is_some_and(|there| there.account != *account);
        if is_taken || tx.password(account).await?.is_some() {
            return Err(Error::IdentityTaken);
        }
        let linked = tx.identities_of(account).await?;
        identities::check_room(&person, linked)?;
        identities::insert(app, tx.as_mut(), account, &identity).await?;
        tx.set_password(account, &hash, app.now()).await?;
        Ok(tx.commit().await?)
    })
    .await
}

/// Deletes codes that have expired: they only take up space.
pub async fn forget_codes(app: &App) -> Result<(), Error> {
    // Longer than the clocks of replicas differ.
    let before = app.now().checked_sub(jiff::SignedDuration::from_hours(1));
    Ok(app.store.forget_email_codes(before.unwrap_or(Timestamp::MIN)).await?)
}
