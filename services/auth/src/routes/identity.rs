//! With which identities of sign-in providers one's account may be entered.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::email::{self, Address, EmailCode, Password};
use crate::domain::person::{Identity, LinkedIdentity};
use crate::domain::provider::Provider;
use crate::email_accounts;
use crate::error::Error;
use crate::identities::{self, Evidence, Verdict};

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkIdentity {
    #[schema(pattern = "^(apple|google|kakao|email)$", example = "kakao")]
    provider: String,
    /// The person's id at the provider: the `sub` of the ID token, or with `email` the address.
    #[schema(min_length = 1, max_length = 255)]
    provider_id: String,
    /// The provider's ID token, where this service asks for proof (`sign-in.proof`).
    #[schema(max_length = 16384)]
    id_token: Option<String>,
    /// The nonce that the ID token was asked for with, before hashing. A nonce of 64 hex digits has to be hashed in the token.
    nonce: Option<String>,
    /// Apple's authorization code in Base64, which is exchanged where Apple's key is set.
    #[schema(max_length = 2732)]
    authorization_code: Option<String>,
    /// With `email`: the code that `requestEmailCode` has sent.
    code: Option<String>,
    /// With `email`: the password of this account from now on, as in `signUp`.
    #[schema(max_length = 512)]
    password: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct IdentityLinked {
    success: bool,
}

/// Links a further identity, with which this account may be entered from now on. `email` stays what it is. An identity of another account is
/// refused with 409 `identity-taken`. Repeating it changes nothing.
#[utoipa::path(
    post,
    path = "/linkIdentity",
    tag = "identity",
    request_body = LinkIdentity,
    responses(
        (status = 200, body = IdentityLinked),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 403, body = Problem),
        (status = 409, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn link_identity(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<LinkIdentity>,
) -> Result<Json<IdentityLinked>, Error> {
    if asked.provider == email::PROVIDER {
        return link_address(&app, &caller, &asked).await;
    }
    let (provider, identity) = named(&asked.provider, &asked.provider_id)?;
    let evidence = Evidence {
        provider,
        subject: &asked.provider_id,
        id_token: asked.id_token.as_deref(),
        nonce: asked.nonce.as_deref(),
        authorization_code: asked.authorization_code.as_deref(),
    };
    let Verdict { proven, refresh_token } = identities::prove(&app, evidence).await?;
    let address = proven.and_then(|proven| provider.account_of(&proven.verified_email.ok()?).ok());
    identities::link(
        &app,
        &caller.account,
        &identity,
        address.as_ref(),
        refresh_token.as_ref(),
    )
    .await?;
    Ok(Json(IdentityLinked { success: true }))
}

async fn link_address(app: &App, caller: &Caller, asked: &LinkIdentity) -> Result<Json<IdentityLinked>, Error> {
    let (Some(code), Some(password)) = (&asked.code, &asked.password) else {
        return Err(Error::InvalidParameter(
            "code, password: required with the provider email",
        ));
    };
    let address = Address::parse(&asked.provider_id)?;
    let password = Password::chosen(password, &address)?;
    email_accounts::link(app, &caller.account, &address, &EmailCode::typed(code), password).await?;
    Ok(Json(IdentityLinked { success: true }))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnlinkIdentity {
    #[schema(pattern = "^(apple|google|kakao|email)$", example = "kakao")]
    provider: String,
    /// As `identities` lists it.
    #[schema(min_length = 1, max_length = 255)]
    provider_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct IdentityUnlinked {
    /// False when the account has no such identity.
    success: bool,
}

/// Unlinks an identity and closes the sessions that it has opened, everywhere; the caller's own may be one of them. The last identity is refused
/// with 409 `last-identity`.
#[utoipa::path(
    post,
    path = "/unlinkIdentity",
    tag = "identity",
    request_body = UnlinkIdentity,
    responses(
        (status = 200, body = IdentityUnlinked),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 403, body = Problem),
        (status = 409, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn unlink_identity(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<UnlinkIdentity>,
) -> Result<Json<IdentityUnlinked>, Error> {
    let identity = if asked.provider == email::PROVIDER {
        Address::parse(&asked.provider_id)?.identity()
    } else {
        named(&asked.provider, &asked.provider_id)?.1
    };
    let success = identities::unlink(&app, &caller.account, &identity).await?;
    Ok(Json(IdentityUnlinked { success }))
}

fn named(provider: &str, provider_id: &str) -> Result<(Provider, Identity), Error> {
    let provider = Provider::parse(provider).ok_or(Error::UnknownProvider)?;
    Ok((provider, Identity::known(provider, provider_id)?))
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnIdentity {
    #[schema(example = "kakao")]
    provider: String,
    provider_id: String,
    /// Null where it is not known: an older release has linked it.
    #[schema(value_type = Option<String>, format = DateTime)]
    linked_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnIdentities {
    identities: Vec<OwnIdentity>,
    /// Always null: an account has at most 10 identities.
    next_cursor: Option<String>,
}

/// Lists the identities with which the caller's account can be signed in to.
#[utoipa::path(
    get,
    path = "/identities",
    tag = "identity",
    responses((status = 200, body = OwnIdentities), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn list_identities(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<OwnIdentities>, Error> {
    let person = app.store.person(&caller.account).await?.ok_or(Error::UnknownAccount)?;
    let linked = app.store.identities_of(&caller.account).await?;
    let own = LinkedIdentity::all_of(&person, linked)
        .into_iter()
        .map(|linked| OwnIdentity {
            provider: Provider::of_issuer(&linked.identity.issuer).map_or_else(
                || linked.identity.issuer.clone(),
                |provider| provider.as_str().to_owned(),
            ),
            provider_id: linked.identity.subject.unwrap_or_default(),
            linked_at: linked.linked_at,
        });
    Ok(Json(OwnIdentities {
        identities: own.collect(),
        next_cursor: None,
    }))
}
