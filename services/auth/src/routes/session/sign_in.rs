use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_common::http::rate_limit::AccountLimit;
use sosohappy_common::http::{Params, Problem};
use sosohappy_events::types::{Device, NicknameSet, Role};
use sosohappy_store::retrying;
use utoipa::ToSchema;

use super::TokenHeaders;
use crate::app::App;
use crate::domain::code::Code;
use crate::domain::person::{Identity, Person};
use crate::domain::profile::{Introduction, Nickname};
use crate::domain::provider::Provider;
use crate::domain::stamp;
use crate::error::Error;
use crate::sessions::{self, Tokens};
use crate::store::Transaction;

/// Bytes; what is longer is not from any push gateway, or not from a provider.
const DEVICE_TOKEN_BYTES: usize = 4096;
const SUBJECT_CHARS: usize = 255;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningIn {
    /// The address without the provider.
    #[schema(min_length = 1, max_length = 249, example = "kim@example.com")]
    email: String,
    #[schema(pattern = "^(apple|google|kakao)$", example = "kakao")]
    provider: String,
    /// Who the person is at the provider.
    #[schema(min_length = 1, max_length = 255)]
    provider_id: String,
    /// What the challenge of `getAuthorizeCode` was made of.
    code_verifier: String,
    authorize_code: String,
    /// Apple's code in Base64, which the app sends with `apple`; it may be empty. Nothing asks Apple while the claim is believed.
    #[serde(default, rename = "authorizationCode")]
    _authorization_code: Option<String>,
    /// The push token of the device, up to 4,096 bytes.
    #[schema(max_length = 4096)]
    device_token: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SignedIn {
    /// Empty while the profile is not set.
    nickname: String,
}

/// Signs in, and up where there is no account yet.
#[utoipa::path(
    post,
    path = "/signIn",
    tag = "session",
    request_body = SigningIn,
    responses(
        (status = 200, body = SignedIn, headers(
            ("authorization" = String, description = "`Bearer <access token>`"),
            ("authorization-refresh" = String, description = "`Bearer <refresh token>`"),
            ("email" = String, description = "The account, `email+provider`"),
        )),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
    ),
)]
pub async fn sign_in(
    State(app): State<Arc<App>>,
    limit: Option<Extension<AccountLimit>>,
    Params(request): Params<SigningIn>,
) -> Result<(TokenHeaders, Json<SignedIn>), Error> {
    let provider = Provider::parse(&request.provider).ok_or(Error::UnknownProvider)?;
    let claim = Claim::of(provider, &request)?;
    let count = |outcome| {
        app.metrics
            .sign_ins
            .with_label_values(&[provider.as_str(), outcome])
            .inc();
    };
    let failures = app.failed_sign_ins.get();
    if let Some(Extension(limit)) = &limit {
        // Every attempt is counted before its work and given back unless it was refused: of many concurrent guesses, no more than the
        // quota are checked.
        failures.check(&claim.account).map_err(|limited| {
            count("limited");
            limit.refuse(limited)
        })?;
    }
    let outcome = admit(&app, &request, &claim).await;
    let was_refused = matches!(&outcome, Err(Error::InvalidCode | Error::OtherIdentity));
    if limit.is_some() && !was_refused {
        failures.refund(&claim.account);
    }
    count(match &outcome {
        Ok(admitted) if admitted.is_new => "new",
        Ok(_) => "known",
        Err(_) if was_refused => "refused",
        Err(_) => "failed",
    });
    let Admitted { tokens, nickname, .. } = outcome?;
    Ok((TokenHeaders(tokens), Json(SignedIn { nickname })))
}

/// Who somebody says they are. With `sign-in.proof = "none"` it is believed as far as it fits what is known.
struct Claim {
    account: Account,
    identity: Identity,
    device_token: Option<String>,
}

impl Claim {
    fn of(provider: Provider, request: &SigningIn) -> Result<Self, Error> {
        if !(1..=SUBJECT_CHARS).contains(&request.provider_id.chars().count()) {
            return Err(Error::InvalidParameter("providerId: 1 to 255 characters"));
        }
        let device_token = request.device_token.clone().filter(|token| !token.is_empty());
        if device_token
            .as_ref()
            .is_some_and(|token| token.len() > DEVICE_TOKEN_BYTES)
        {
            return Err(Error::InvalidParameter("deviceToken: up to 4096 bytes"));
        }
        let identity = Identity {
            issuer: provider.issuer().to_owned(),
            subject: Some(request.provider_id.clone()),
        };
        Ok(Self {
            account: provider.account_of(&request.email)?,
            identity,
            device_token,
        })
    }
}

struct Admitted {
    tokens: Tokens,
    nickname: String,
    is_new: bool,
}

async fn admit(app: &App, request: &SigningIn, claim: &Claim) -> Result<Admitted, Error> {
    let code = Code::open(&request.authorize_code, &app.keyring).ok_or(Error::InvalidCode)?;
    if code.expires_at <= app.now() {
        return Err(Error::InvalidCode);
    }
    retrying(|| admit_once(app, &code, &request.code_verifier, claim)).await
}

async fn admit_once(app: &App, code: &Code, verifier: &str, claim: &Claim) -> Result<Admitted, Error> {
    let mut tx = app.store.begin().await?;
    if !tx.use_code(&code.id, code.expires_at).await? {
        return Err(Error::InvalidCode);
    }
    if !code.challenge.is_answered_by(verifier) {
        return refuse(tx, Error::InvalidCode).await;
    }
    let known = tx.person(&claim.account).await?;
    let is_new = known.is_none();
    let person = match known {
        Some(person) if !person.identity.agrees_with(&claim.identity) => {
            return refuse(tx, Error::OtherIdentity).await;
        }
        Some(mut person) => {
            person.changed_at = stamp::after(person.changed_at, app.now());
            tx.stamp_person(&person.account, person.changed_at).await?;
            if person.identity != claim.identity {
                tx.link_person(&person.account, &claim.identity).await?;
            }
            person
        }
        None => sign_up(app, tx.as_mut(), claim).await?,
    };

    let at = person.changed_at;
    let (session, tokens) = sessions::open(app, tx.as_mut(), &person, at).await?;
    let (account, nickname) = (person.account, person.nickname.as_str().to_owned());
    app.enqueue(
        tx.as_mut(),
        NicknameSet {
            account: account.clone(),
            nickname: Some(nickname.clone()),
        },
        at,
    )
    .await?;
    if let Some(token) = claim.device_token.clone() {
        let device = Device {
            session,
            token,
            since: at,
        };
        tx.insert_device(&device).await?;
        sessions::tell_devices(app, tx.as_mut(), &account, at).await?;
    }
    app.commit(tx).await?;
    Ok(Admitted {
        tokens,
        nickname: if person.profile_set { nickname } else { String::new() },
        is_new,
    })
}

/// Refuses, and commits that the code was used: one code allows one guess. A transaction that fails leaves the code unused.
async fn refuse<T>(tx: Box<dyn Transaction>, reason: Error) -> Result<T, Error> {
    tx.commit().await?;
    Err(reason)
}

/// A fresh account under a random nickname. Whoever resigned under this address before has nothing to do with it, but what
/// happened then happened earlier.
async fn sign_up(app: &App, tx: &mut dyn Transaction, claim: &Claim) -> Result<Person, Error> {
    let now = app.now();
    let resigned_at = tx.last_resignation(&app.hasher.hash(&claim.account)).await?;
    let person = Person {
        account: claim.account.clone(),
        identity: claim.identity.clone(),
        nickname: Nickname::fresh(app.context.entropy.uuid()),
        profile_set: false,
        introduction: Introduction::default(),
        image: None,
        role: Role::User,
        changed_at: stamp::after(resigned_at.unwrap_or(Timestamp::UNIX_EPOCH), now),
    };
    tx.insert_person(&person, now).await?;
    Ok(person)
}
