//! With which identities of sign-in providers an account may be entered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sosohappy_common::{Account, Nickname};
use sosohappy_events::EventId;
use sosohappy_events::types::Role;
use sosohappy_store::{StoreError, retrying};

use crate::app::{App, OwedCall};
use crate::domain::email;
use crate::domain::id_token::{InvalidIdToken, Proven, UnverifiedAddress};
use crate::domain::person::{Identity, LinkedIdentity, Person};
use crate::domain::profile::Introduction;
use crate::domain::provider::Provider;
use crate::domain::stamp;
use crate::error::Error;
use crate::sessions;
use crate::settings::Proof;
use crate::store::Transaction;
use crate::store::external_calls::Kind;

/// Identities of one account.
const MAX_IDENTITIES: usize = 10;

/// The longest authorization code, in Base64.
const AUTHORIZATION_CODE_CHARS: usize = 2732;

/// Evidence for an identity at a provider, as a request shows it.
#[derive(Clone, Copy)]
pub struct Evidence<'e> {
    pub provider: Provider,
    /// The subject that the request claims.
    pub subject: &'e str,
    pub id_token: Option<&'e str>,
    pub nonce: Option<&'e str>,
    /// Apple's authorization code in Base64.
    pub authorization_code: Option<&'e str>,
}

/// The provider's statement about an identity.
#[derive(Default)]
pub struct Verdict {
    /// None where the provider's proof is `none`, and the claim is believed.
    pub proven: Option<Proven>,
    /// Apple's, for an authorization code.
    pub refresh_token: Option<SecretString>,
}

/// Checks a claimed subject with the provider.
///
/// | proof | ID token | authorization code of Apple | |
/// | --- | --- | --- | --- |
/// | `none` | | | the claim is believed, unless Apple answers the code with another subject |
/// | `id-token` | shown | | the ID token proves; the code, if there is one, adds the refresh token |
/// | `id-token` | not shown | shown | the ID token in Apple's answer proves |
/// | `id-token` | not shown | not shown | refused |
pub async fn prove(app: &App, evidence: Evidence<'_>) -> Result<Verdict, Error> {
    let judged = judge(app, evidence).await;
    judged.inspect_err(|error| {
        if let Error::InvalidIdToken(reason) = error {
            tracing::info!(provider = evidence.provider.as_str(), %reason, "ID token refused");
        }
    })
}

async fn judge(app: &App, evidence: Evidence<'_>) -> Result<Verdict, Error> {
    let provider = evidence.provider;
    let proof = app.settings.get().sign_in.proof_of(provider);
    let shown = evidence.id_token.filter(|token| !token.is_empty());
    let proven = match (proof, shown) {
        (Proof::None, _) | (Proof::IdToken, None) => None,
        (Proof::IdToken, Some(_)) => Some(app.id_tokens.verify(provider, shown, evidence.nonce).await?),
    };
    if proven.as_ref().is_some_and(|proven| proven.subject != evidence.subject) {
        return Err(InvalidIdToken::Subject.into());
    }
    let exchanged = exchange(app, evidence).await;
    let (exchanged, refresh_token) = match exchanged {
        Ok(exchanged) => exchanged.unzip(),
        // An outage of Apple does not refuse an identity that the ID token has proven; the next sign-in gets a refresh token.
        Err(Error::ProviderUnavailable) if proof == Proof::None || proven.is_some() => (None, None),
        Err(error) => return Err(error),
    };
    let proven = match proof {
        Proof::None => None,
        Proof::IdToken => Some(proven.or(exchanged).ok_or(InvalidIdToken::Missing)?),
    };
    Ok(Verdict { proven, refresh_token })
}

/// Exchanges the authorization code, if there is one and Apple's key is set.
async fn exchange(app: &App, evidence: Evidence<'_>) -> Result<Option<(Proven, SecretString)>, Error> {
    let code = evidence.authorization_code.filter(|code| !code.is_empty());
    let (Provider::Apple, Some(code), Some(client_id)) = (evidence.provider, code, app.providers.apple_client()) else {
        return Ok(None);
    };
    let code = authorization_code(code)?;
    let exchanged = app.providers.exchange_apple(&code, app.now()).await.map_err(|error| {
        if error.is_invalid_grant() {
            return Error::InvalidAuthorizationCode;
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "failed to exchange Apple authorization code"
        );
        Error::ProviderUnavailable
    })?;
    let proven = app.id_tokens.verify_exchanged(&exchanged.id_token, client_id).await;
    let proven = proven.map_err(|error| match error {
        // The request has no part in this token.
        Error::InvalidIdToken(reason) => {
            tracing::warn!(%reason, "Apple answered an authorization code with an invalid ID token");
            Error::ProviderUnavailable
        }
        other => other,
    })?;
    if proven.subject != evidence.subject {
        return Err(InvalidIdToken::Subject.into());
    }
    Ok(Some((proven, exchanged.refresh_token)))
}

/// The app sends the bytes of the code in Base64, with or without padding.
fn authorization_code(text: &str) -> Result<SecretString, Error> {
    const INVALID: Error = Error::InvalidParameter("authorizationCode: Base64 of up to 2048 bytes of text");
    if text.len() > AUTHORIZATION_CODE_CHARS {
        return Err(INVALID);
    }
    let bytes = STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| INVALID)?;
    let code = String::from_utf8(bytes).map_err(|_| INVALID)?;
    if !code.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(INVALID);
    }
    Ok(code.into())
}

/// Keeps Apple's refresh token, encrypted, until the account resigns or unlinks Apple.
pub async fn keep_refresh_token(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    token: &SecretString,
) -> Result<(), Error> {
    let sealed = app
        .provider_tokens
        .seal(account.as_str(), token.expose_secret(), &*app.context.entropy);
    Ok(tx.set_provider_token(account, &sealed).await?)
}

/// Enqueues the calls that end what providers hold about identities which leave an account. [`App::external_calls`] is notified after the
/// commit.
pub async fn disconnect(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    leaving: &[LinkedIdentity],
    resignation: Option<EventId>,
) -> Result<(), Error> {
    let of = |provider: Provider| {
        let identities = leaving.iter().map(|leaving| &leaving.identity);
        identities.filter(move |identity| identity.issuer == provider.issuer())
    };
    let owed = |kind, payload| OwedCall {
        kind,
        payload,
        resignation,
        expires_at: None,
    };
    // An imported account may have a token and no known subject.
    if (resignation.is_some() || of(Provider::Apple).next().is_some())
        && let Some(sealed) = tx.provider_token(account).await?
    {
        tx.delete_provider_token(account).await?;
        if let Some(token) = app.provider_tokens.open(account.as_str(), &sealed) {
            app.enqueue_call(tx, &owed(Kind::AppleRevocation, token)).await?;
        } else {
            tracing::error!(
                "Apple refresh token cannot be decrypted and is not revoked: its key is missing in tokens.provider-keys"
            );
        }
    }
    // A claim that was only believed must not unlink the person who it names.
    let is_proven = app.settings.get().sign_in.proof_of(Provider::Kakao) == Proof::IdToken;
    if is_proven && app.providers.unlinks_kakao() {
        for subject in of(Provider::Kakao).filter_map(|identity| identity.subject.clone()) {
            app.enqueue_call(tx, &owed(Kind::KakaoUnlink, subject.into())).await?;
        }
    }
    Ok(())
}

/// Links an identity to an account. `address` is the account of the address that the provider has verified.
///
/// # Errors
/// [`Error::IdentityTaken`] where the identity is another account's, or that of a legacy account whose subject is unknown.
pub async fn link(
    app: &App,
    account: &Account,
    identity: &Identity,
    address: Option<&Account>,
    refresh_token: Option<&SecretString>,
) -> Result<(), Error> {
    retrying(|| link_once(app, account, identity, address, refresh_token)).await
}

async fn link_once(
    app: &App,
    account: &Account,
    identity: &Identity,
    address: Option<&Account>,
    refresh_token: Option<&SecretString>,
) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let person = tx.person(account).await?.ok_or(Error::UnknownAccount)?;
    let owner = tx.owner_of_identity(identity).await?;
    if owner.as_ref().is_some_and(|owner| owner != account) {
        return Err(Error::IdentityTaken);
    }
    if let Some(token) = refresh_token {
        keep_refresh_token(app, tx.as_mut(), account, token).await?;
    }
    if owner.is_some() {
        return Ok(tx.commit().await?);
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
    check_room(&person, linked)?;
    insert(app, tx.as_mut(), account, identity).await?;
    Ok(tx.commit().await?)
}

/// # Errors
/// Where the person has as many identities as one may have.
pub fn check_room(person: &Person, linked: Vec<LinkedIdentity>) -> Result<(), Error> {
    if LinkedIdentity::all_of(person, linked).len() >= MAX_IDENTITIES {
        return Err(Error::InvalidParameter("at most 10 identities of an account"));
    }
    Ok(())
}

/// Makes a fresh account under a random nickname. A person who resigned under this address before has nothing to do with it, but what happened
/// then happened earlier.
pub async fn sign_up(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    identity: &Identity,
) -> Result<Person, Error> {
    let now = app.now();
    let resigned_at = tx.last_resignation(&app.hasher.hash(account)).await?;
    let person = Person {
        account: account.clone(),
        identity: identity.clone(),
        nickname: Nickname::placeholder(app.context.entropy.uuid()),
        profile_set: false,
        introduction: Introduction::default(),
        image: None,
        role: Role::User,
        is_suspended: false,
        is_profile_hidden: false,
        created_at: now,
        changed_at: stamp::after(resigned_at.unwrap_or(Timestamp::UNIX_EPOCH), now),
    };
    tx.insert_person(&person).await?;
    Ok(person)
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
    let leaving: Vec<_> = left.extract_if(.., |linked| linked.identity == *identity).collect();
    if left.len() == before {
        return Ok(false);
    }
    let next = left.first().ok_or(Error::LastIdentity)?;
    disconnect(app, tx.as_mut(), account, &leaving, None).await?;
    tx.delete_identity(account, identity).await?;
    if identity.issuer == email::PROVIDER {
        tx.delete_password(account).await?;
    }
    if person.identity == *identity {
        // The account's own row never loses its subject: an older release would take the next one that comes.
        tx.link_person(account, &next.identity).await?;
    }
    for session in tx.sessions_of(account).await? {
        if session.may_be_opened_with(identity) {
            sessions::close(app, tx.as_mut(), &session).await?;
        }
    }
    app.commit(tx).await?;
    app.external_calls.notify_one();
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
/// linked to, else by the address. `address` tells whether that is the person's own.
///
/// # Errors
/// [`Error::OtherIdentity`] where the account at the address has another identity, [`Error::UnverifiedAddress`] where only an address could
/// decide and it is not verified.
pub async fn resolve(
    tx: &mut dyn Transaction,
    account: &Account,
    identity: &Identity,
    is_proven: bool,
    address: Result<(), UnverifiedAddress>,
) -> Result<Entry, Error> {
    let at_address = tx.person_at(account).await?;
    let at_address = match at_address {
        Some(person) if person.identity == *identity => return Ok(Entry::Known(person)),
        other => other,
    };
    // An unproven claim finds no account by the identity in its row: the legacy app is recognised by its address alone.
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
        person => {
            address.map_err(Error::UnverifiedAddress)?;
            Ok(person.map_or(Entry::New, Entry::Legacy))
        }
    }
}
