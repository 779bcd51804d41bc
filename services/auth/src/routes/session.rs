//! In and out.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::http::ClientAddress;
use sosohappy_common::http::Params;
use sosohappy_common::http::credential::bearer;
use sosohappy_common::http::rate_limit::AccountLimit;
use sosohappy_common::text::is_portable;
use sosohappy_common::{Account, Problem};
use sosohappy_store::retrying;
use utoipa::{ToResponse, ToSchema};

use crate::app::{App, later};
use crate::domain::challenge::Challenge;
use crate::domain::code::Code;
use crate::domain::email::{self, Address, Password};
use crate::domain::id_token::UnverifiedAddress;
use crate::domain::person::Identity;
use crate::domain::provider::Provider;
use crate::domain::session::{Origin, Session};
use crate::domain::stamp;
use crate::error::Error;
use crate::identities::{Entry, Evidence};
use crate::sessions::{Admitted, Closing, Tokens};
use crate::settings::Proof;
use crate::store::Transaction;
use crate::{email_accounts, identities, resignations, sessions};

const EMAIL: HeaderName = HeaderName::from_static("email");
const REFRESH: HeaderName = HeaderName::from_static("authorization-refresh");

/// Both tokens and the account, in the headers the app reads.
pub struct TokenHeaders(Tokens);

impl IntoResponseParts for TokenHeaders {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Self::Error> {
        let Tokens {
            account,
            access,
            refresh,
        } = self.0;
        let headers = [
            (header::AUTHORIZATION, format!("Bearer {access}")),
            (REFRESH, format!("Bearer {refresh}")),
            (EMAIL, account.as_str().to_owned()),
        ];
        for (name, text) in headers {
            let value =
                HeaderValue::from_bytes(text.as_bytes()).expect("tokens and accounts have no control characters");
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}

impl IntoResponse for TokenHeaders {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetAuthorizeCode {
    /// SHA-512 of the verifier in 64 to 128 hex digits, or with `S256` its SHA-256 in 43 characters of unpadded base64url.
    #[schema(min_length = 43, max_length = 128, pattern = "^[0-9A-Za-z_-]+$")]
    code_challenge: String,
    /// `SHA512` (also when left out or empty) or `S256` (RFC 7636).
    #[schema(pattern = "^(SHA512|S256)?$")]
    code_challenge_method: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeCode {
    /// Good for one sign-in within ten minutes; up to 256 characters.
    authorize_code: String,
}

/// Issues a code for `signIn`, which only the client with the challenge's verifier can use. Nothing is stored.
#[utoipa::path(
    post,
    path = "/getAuthorizeCode",
    tag = "session",
    request_body = GetAuthorizeCode,
    responses((status = 200, body = AuthorizeCode), (status = 400, body = Problem)),
)]
pub async fn get_authorize_code(
    State(app): State<Arc<App>>,
    Params(asked): Params<GetAuthorizeCode>,
) -> Result<Json<AuthorizeCode>, Error> {
    let method = asked
        .code_challenge_method
        .as_deref()
        .filter(|method| !method.is_empty());
    let challenge = Challenge::parse(&asked.code_challenge, method)?;
    let mut id = [0; 16];
    app.context.entropy.fill(&mut id);
    let code = Code {
        id,
        challenge,
        expires_at: later(app.now(), app.settings.get().sign_in.code_lifetime),
    };
    Ok(Json(AuthorizeCode {
        authorize_code: code.seal(&app.keyring),
    }))
}

/// Bytes; longer values are not from any push gateway, or not from a provider.
const DEVICE_TOKEN_BYTES: usize = 4096;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningIn {
    /// The address without the provider.
    #[schema(min_length = 1, max_length = 249, example = "kim@example.com")]
    email: String,
    /// `email` takes `password`, the others `providerId`, `codeVerifier` and `authorizeCode`.
    #[schema(pattern = "^(apple|google|kakao|email)$", example = "kakao")]
    provider: String,
    /// The person's id at the provider: the `sub` of the ID token.
    #[schema(min_length = 1, max_length = 255)]
    provider_id: Option<String>,
    /// The verifier, whose digest is the challenge of `getAuthorizeCode`.
    code_verifier: Option<String>,
    authorize_code: Option<String>,
    /// The password of an e-mail account.
    #[schema(max_length = 512)]
    password: Option<String>,
    /// Apple's code in Base64, which the app sends with `apple`; it may be empty. Where Apple's key is set (`apple.private-key`), it is exchanged, and
    /// Apple's answer proves the identity if there is no `idToken`.
    #[schema(max_length = 2732)]
    authorization_code: Option<String>,
    /// The provider's ID token, where this service asks for proof (`sign-in.proof`).
    #[schema(max_length = 16384)]
    id_token: Option<String>,
    /// The nonce that the ID token was asked for with, before hashing. A nonce of 64 hex digits has to be hashed in the token.
    nonce: Option<String>,
    /// The push token of the device, up to 4,096 bytes.
    #[schema(max_length = 4096)]
    device_token: Option<String>,
}

/// The session is open; its tokens are in the headers.
#[derive(Debug, Serialize, ToResponse)]
#[response(headers(
    ("authorization" = String, description = "`Bearer <access token>`"),
    ("authorization-refresh" = String, description = "`Bearer <refresh token>`"),
    ("email" = String, description = "The account, `email+provider`"),
))]
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
        (status = 200, response = inline(SignedIn)),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub async fn sign_in(
    State(app): State<Arc<App>>,
    limit: Option<Extension<AccountLimit>>,
    address: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    Params(request): Params<SigningIn>,
) -> Result<(TokenHeaders, Json<SignedIn>), Error> {
    if request.provider == email::PROVIDER {
        return sign_in_by_password(&app, limit, &request, &headers, address.as_deref()).await;
    }
    let provider = Provider::parse(&request.provider).ok_or(Error::UnknownProvider)?;
    let claim = Claim::of(provider, &request)?;
    let may_guess = app.settings.get().sign_in.proof_of(provider) == Proof::None;
    let attempt = Attempt::begin(&app, provider.as_str(), &claim.account, may_guess, limit).await?;
    let origin = origin_of(&app, claim.identity.clone(), &headers, address.as_deref());
    let outcome = admit(&app, &request, claim, &origin).await;
    let was_guess = matches!(&outcome, Err(Error::InvalidCode | Error::OtherIdentity));
    // A forged token is no guess at this account: counted, it would let anybody keep the owner from signing in.
    let was_refused = was_guess
        || matches!(
            &outcome,
            Err(Error::InvalidIdToken(_) | Error::InvalidAuthorizationCode | Error::UnverifiedAddress(_))
        );
    if let Err(Error::UnverifiedAddress(reason)) = &outcome {
        tracing::info!(provider = provider.as_str(), %reason, "address not verified");
    }
    attempt.end(
        was_guess,
        match &outcome {
            Ok((_, is_new)) if *is_new => "new",
            Ok(_) => "known",
            Err(_) if was_refused => "refused",
            Err(_) => "failed",
        },
    );
    Ok(signed_in(outcome?.0))
}

async fn sign_in_by_password(
    app: &App,
    limit: Option<Extension<AccountLimit>>,
    request: &SigningIn,
    headers: &HeaderMap,
    client: Option<&ClientAddress>,
) -> Result<(TokenHeaders, Json<SignedIn>), Error> {
    let address = Address::parse(&request.email)?;
    let password = Password::shown(required(request.password.as_ref(), "password: missing")?)?;
    let device = device_token(request.device_token.clone())?;
    let attempt = Attempt::begin(app, email::PROVIDER, &address.account, true, limit).await?;
    let origin = origin_of(app, address.identity(), headers, client);
    let outcome = email_accounts::sign_in(app, &address, password, &origin, device.as_deref()).await;
    let was_guess = matches!(&outcome, Err(Error::InvalidCredentials));
    attempt.end(
        was_guess,
        match &outcome {
            Ok(_) => "known",
            Err(_) if was_guess => "refused",
            Err(_) => "failed",
        },
    );
    Ok(signed_in(outcome?))
}

/// A sign-in that counts as failed until it has ended otherwise: of many concurrent guesses, no more than the quota of the account are checked,
/// and no more than the quota of all accounts are checked without a delay.
///
/// | failures | of this account | of all accounts |
/// | --- | --- | --- |
/// | within the quota | checked | checked |
/// | over the quota | refused with 429 | checked after `sign-in.slow-down` |
struct Attempt<'a> {
    app: &'a App,
    provider: &'static str,
    account: Account,
    is_limited: bool,
    /// Whether it has used one of the quota of all accounts.
    is_counted: bool,
}

impl<'a> Attempt<'a> {
    /// `may_guess`: whether another client than the owner's may try it, rather than a provider's proof.
    async fn begin(
        app: &'a App,
        provider: &'static str,
        account: &Account,
        may_guess: bool,
        limit: Option<Extension<AccountLimit>>,
    ) -> Result<Self, Error> {
        let mut attempt = Self {
            app,
            provider,
            account: account.folded(),
            is_limited: limit.is_some(),
            is_counted: false,
        };
        if let Some(Extension(limit)) = limit {
            let failures = app.failed_sign_ins.get();
            failures.check(&attempt.account).map_err(|limited| {
                attempt.count("limited");
                limit.refuse(limited)
            })?;
        }
        if may_guess && attempt.is_limited {
            attempt.is_counted = app.failed_sign_ins_of_all.get().check(&()).is_ok();
            if !attempt.is_counted {
                app.metrics.slowed_sign_ins.inc();
                // Before the check, so that a right guess takes as long as a wrong one.
                tokio::time::sleep(app.settings.get().sign_in.slow_down).await;
            }
        }
        Ok(attempt)
    }

    fn end(self, was_guess: bool, outcome: &str) {
        if self.is_limited && !was_guess {
            self.app.failed_sign_ins.get().refund(&self.account);
        }
        if self.is_counted && !was_guess {
            self.app.failed_sign_ins_of_all.get().refund(&());
        }
        self.count(outcome);
    }

    fn count(&self, outcome: &str) {
        let sign_ins = &self.app.metrics.sign_ins;
        sign_ins.with_label_values(&[self.provider, outcome]).inc();
    }
}

/// Returns the answer to a successful sign-in.
pub fn signed_in(admitted: Admitted) -> (TokenHeaders, Json<SignedIn>) {
    let Admitted { tokens, nickname } = admitted;
    (TokenHeaders(tokens), Json(SignedIn { nickname }))
}

/// Returns how a session is opened by this request.
pub fn origin_of(app: &App, identity: Identity, headers: &HeaderMap, client: Option<&ClientAddress>) -> Origin {
    Origin {
        opened_at: Some(app.now()),
        identity: Some(identity),
        device: device_of(headers),
        place: client.map(|client| client.class().to_owned()),
        client: client.copied(),
    }
}

fn required<'r>(parameter: Option<&'r String>, missing: &'static str) -> Result<&'r str, Error> {
    parameter.map(String::as_str).ok_or(Error::InvalidParameter(missing))
}

/// Returns the push token of a request, which may be empty.
pub fn device_token(token: Option<String>) -> Result<Option<String>, Error> {
    let token = token.filter(|token| !token.is_empty());
    if token
        .as_ref()
        .is_some_and(|token| token.len() > DEVICE_TOKEN_BYTES || !is_portable(token))
    {
        return Err(Error::InvalidParameter(
            "deviceToken: up to 4096 bytes, without the character U+0000",
        ));
    }
    Ok(token)
}

/// The identity that a sign-in claims. With the proof `none` it is accepted unless it contradicts what is stored.
#[derive(Clone)]
struct Claim {
    provider: Provider,
    account: Account,
    identity: Identity,
    /// Whether the provider has proven the identity.
    is_proven: bool,
    /// Whether the address is the person's own. A known subject needs none: addresses change.
    address: Result<(), UnverifiedAddress>,
    /// Apple's, to be revoked when the account resigns.
    refresh_token: Option<SecretString>,
    device_token: Option<String>,
}

impl Claim {
    fn of(provider: Provider, request: &SigningIn) -> Result<Self, Error> {
        let provider_id = required(request.provider_id.as_ref(), "providerId: missing")?;
        Ok(Self {
            account: provider.account_of(&request.email)?,
            provider,
            identity: Identity::known(provider, provider_id)?,
            is_proven: false,
            address: Ok(()),
            refresh_token: None,
            device_token: device_token(request.device_token.clone())?,
        })
    }
}

/// Checks the claim with the provider, before anything is read from or written to the store.
async fn prove(app: &App, request: &SigningIn, mut claim: Claim) -> Result<Claim, Error> {
    let provider = claim.provider;
    let evidence = Evidence {
        provider,
        subject: claim.identity.subject.as_deref().unwrap_or_default(),
        id_token: request.id_token.as_deref(),
        nonce: request.nonce.as_deref(),
        authorization_code: request.authorization_code.as_deref(),
    };
    let verdict = identities::prove(app, evidence).await?;
    claim.refresh_token = verdict.refresh_token;
    let Some(proven) = verdict.proven else {
        return Ok(claim);
    };
    claim.is_proven = true;
    claim.address = proven
        .verified_email
        .and_then(|email| match provider.account_of(&email) {
            Ok(account) if account.folded() == claim.account.folded() => Ok(()),
            _ => Err(UnverifiedAddress::Other),
        });
    Ok(claim)
}

/// Returns whether the account is new, too.
async fn admit(app: &App, request: &SigningIn, claim: Claim, origin: &Origin) -> Result<(Admitted, bool), Error> {
    // The sealed code first: a request without one causes no call of a provider.
    let code = Code::open(
        required(request.authorize_code.as_ref(), "authorizeCode: missing")?,
        &app.keyring,
    )
    .ok_or(Error::InvalidCode)?;
    if code.expires_at <= app.now() {
        return Err(Error::InvalidCode);
    }
    let verifier = required(request.code_verifier.as_ref(), "codeVerifier: missing")?;
    let claim = prove(app, request, claim).await?;
    resignations::wait_for_erasure(app, &claim.account).await?;
    retrying(|| admit_once(app, &code, verifier, &claim, origin)).await
}

async fn admit_once(
    app: &App,
    code: &Code,
    verifier: &str,
    claim: &Claim,
    origin: &Origin,
) -> Result<(Admitted, bool), Error> {
    let mut tx = app.store.begin().await?;
    if !tx.use_code(&code.id, code.expires_at).await? {
        return Err(Error::InvalidCode);
    }
    if !code.challenge.is_answered_by(verifier) {
        return refuse(tx, Error::InvalidCode).await;
    }
    let (identity, proven) = (&claim.identity, claim.is_proven);
    let entry = identities::resolve(tx.as_mut(), &claim.account, identity, proven, claim.address).await;
    let entry = match entry {
        Err(reason @ (Error::OtherIdentity | Error::UnverifiedAddress(_))) => return refuse(tx, reason).await,
        entry => entry?,
    };
    let is_new = matches!(entry, Entry::New);
    let is_known = matches!(entry, Entry::Known(_));
    let person = match entry {
        Entry::Known(mut person) | Entry::Legacy(mut person) => {
            person.changed_at = stamp::after(person.changed_at, app.now());
            tx.stamp_person(&person.account, person.changed_at).await?;
            if !is_known {
                tx.link_person(&person.account, identity).await?;
            }
            person
        }
        Entry::New => identities::sign_up(app, tx.as_mut(), &claim.account, identity).await?,
    };
    // A claim that is only believed must not keep the identity from the person who can prove it.
    if proven && !is_known {
        identities::insert(app, tx.as_mut(), &person.account, identity).await?;
    }
    if let Some(token) = &claim.refresh_token {
        identities::keep_refresh_token(app, tx.as_mut(), &person.account, token).await?;
    }

    let device_token = claim.device_token.as_deref();
    let admitted = sessions::enter(app, tx.as_mut(), person, origin.clone(), device_token).await?;
    app.commit(tx).await?;
    Ok((admitted, is_new))
}

/// Refuses, and commits that the code was used: one code allows one guess. A transaction that fails leaves the code unused.
async fn refuse<T>(tx: Box<dyn Transaction>, reason: Error) -> Result<T, Error> {
    tx.commit().await?;
    Err(reason)
}

/// Returns fresh tokens for a refresh token, which is replaced. Shown again while its successor is unused it gives the same tokens (the
/// reply was lost); after that it closes the session.
#[utoipa::path(
    get,
    path = "/reIssueToken",
    tag = "session",
    params(
        ("email" = String, Header, description = "The account, `email+provider`"),
        ("authorization-refresh" = String, Header, description = "`Bearer <refresh token>`"),
    ),
    responses(
        (status = 200, headers(
            ("authorization" = String, description = "`Bearer <access token>`"),
            ("authorization-refresh" = String, description = "`Bearer <refresh token>`"),
            ("email" = String, description = "The account"),
        )),
        (status = 403, body = Problem),
    ),
)]
pub async fn reissue_token(
    State(app): State<Arc<App>>,
    limit: Option<Extension<AccountLimit>>,
    address: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
) -> Result<TokenHeaders, Error> {
    let account = text(&headers, &EMAIL).and_then(|email| email.parse::<Account>().ok());
    let refresh = text(&headers, &REFRESH).and_then(bearer);
    let (Some(account), Some(refresh)) = (account, refresh) else {
        return Err(Error::RefreshRefused);
    };
    sessions::renew(&app, &account, refresh, address.as_deref(), limit.as_deref())
        .await
        .map(TokenHeaders)
}

/// Characters of a client's name of itself.
const DEVICE_CHARS: usize = 200;

/// Returns how the client names itself.
fn device_of(headers: &HeaderMap) -> Option<String> {
    let agent = text(headers, &header::USER_AGENT)?;
    let agent: String = agent
        .chars()
        .filter(|char| !char.is_control())
        .take(DEVICE_CHARS)
        .collect();
    Some(agent).filter(|agent| !agent.is_empty())
}

/// An address may hold more than ASCII, so the bytes are read as UTF-8.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    std::str::from_utf8(headers.get(name)?.as_bytes()).ok()
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct SigningOut {
    /// Every session of the account, not only the one of the access token.
    #[serde(default)]
    all: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SignedOut {
    success: bool,
}

/// Ends the session of the access token in every service, or with `all` every session of the account.
#[utoipa::path(
    post,
    path = "/signOut",
    tag = "session",
    request_body = SigningOut,
    responses((status = 200, body = SignedOut), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn sign_out(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<SigningOut>,
) -> Result<Json<SignedOut>, Error> {
    let closing = if asked.all == Some(true) {
        Closing::All
    } else {
        Closing::One(caller.session)
    };
    sessions::close_own(&app, &caller.account, closing).await?;
    Ok(Json(SignedOut { success: true }))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct CloseSession {
    /// As `sessions` lists it: 16 hex digits.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SessionClosed {
    /// False when the account has no such session.
    success: bool,
}

/// Ends another session of the caller in every service.
#[utoipa::path(
    post,
    path = "/closeSession",
    tag = "session",
    request_body = CloseSession,
    responses((status = 200, body = SessionClosed), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn close_session(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<CloseSession>,
) -> Result<Json<SessionClosed>, Error> {
    let id = asked
        .id
        .parse()
        .map_err(|_| Error::InvalidParameter("id: 16 hex digits"))?;
    let closed = sessions::close_own(&app, &caller.account, Closing::One(id)).await?;
    Ok(Json(SessionClosed { success: closed > 0 }))
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnSession {
    id: String,
    /// How the client named itself when it signed in; null where that is unknown.
    device: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    opened_at: Option<Timestamp>,
    /// The last sign-in or re-issue.
    #[schema(value_type = String, format = DateTime)]
    last_seen: Timestamp,
    /// The class of the address it was last used from: `loopback`, `private` or `public`; null where that is unknown.
    place: Option<String>,
    /// Whether it is the one that asks.
    current: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnSessions {
    sessions: Vec<OwnSession>,
    /// Always null: an account has few sessions (`sessions.per-account`).
    next_cursor: Option<String>,
}

/// Lists the caller's sessions, the most recently used first.
#[utoipa::path(
    get,
    path = "/sessions",
    tag = "session",
    responses((status = 200, body = OwnSessions), (status = 503, body = Problem)),
)]
pub async fn list_sessions(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<OwnSessions>, Error> {
    let mut sessions = app.store.sessions_of(&caller.account).await?;
    sessions.reverse();
    let own = |session: Session| OwnSession {
        id: session.id.to_string(),
        device: session.origin.device,
        opened_at: session.origin.opened_at,
        last_seen: session.refresh.issued_at,
        place: session.origin.place,
        current: session.id == caller.session,
    };
    Ok(Json(OwnSessions {
        sessions: sessions.into_iter().map(own).collect(),
        next_cursor: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_token_may_be_empty_and_is_bounded() {
        let read = |token: &str| device_token(Some(token.to_owned())).ok();
        assert_eq!(read(""), Some(None));
        assert_eq!(read("token"), Some(Some("token".to_owned())));
        for bad in ["a".repeat(DEVICE_TOKEN_BYTES + 1), "token\0".to_owned()] {
            assert_eq!(read(&bad), None);
        }
    }
}
