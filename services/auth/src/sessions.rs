//! Sessions and their tokens: opened at sign-in, renewed at re-issue, closed by their owner, by a thief's mistake or by time.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::http::ClientAddress;
use sosohappy_common::http::rate_limit::AccountLimit;
use sosohappy_common::{Account, crash_point};
use sosohappy_events::Topic;
use sosohappy_events::types::{AccessTokenIssued, Device, NicknameSet, Role, SessionExpired, SessionId, TokenDigest};
use sosohappy_store::{Timer, retrying};

use crate::app::{App, later};
use crate::audit::{self, Decision};
use crate::connections::{self, ConnectionKind};
use crate::domain::claims::{Claims, Kind};
use crate::domain::legacy::LegacyToken;
use crate::domain::moderation::action;
use crate::domain::person::Person;
use crate::domain::session::{Origin, Presented, Refresh, RefreshId, Session};
use crate::domain::stamp;
use crate::error::Error;
use crate::store::{AccessToken, Transaction};

/// Fires when the last access token of a session has expired; its key is the session.
pub const ACCESS_TIMER: &str = "access-token";

/// Fires when the last refresh token of a session has expired; its key is the session.
pub const REFRESH_TIMER: &str = "refresh-token";

/// Access tokens of one session that live at once. A client that renews again and again has the last ones; the legacy Spring services had one.
const ACCESS_TOKENS: u32 = 8;

/// Tokens that a client receives at a sign-in or a re-issue.
#[derive(Clone)]
pub struct Tokens {
    pub account: Account,
    pub access: String,
    pub refresh: String,
}

/// The answer to a sign-in.
pub struct Admitted {
    pub tokens: Tokens,
    /// Empty while the profile is not set.
    pub nickname: String,
}

/// Opens a session of a person who has just been stamped, and publishes the nickname and the device.
pub async fn enter(
    app: &App,
    tx: &mut dyn Transaction,
    person: Person,
    origin: Origin,
    device_token: Option<&str>,
) -> Result<Admitted, Error> {
    let at = person.changed_at;
    let client = origin.client;
    let (session, tokens) = open(app, tx, &person, origin, at).await?;
    connections::record(app, tx, &person.account, ConnectionKind::SignIn, client.as_ref()).await?;
    let (account, nickname) = (person.account, person.nickname.as_str().to_owned());
    let named = NicknameSet {
        account: account.clone(),
        nickname: Some(nickname.clone()),
    };
    app.enqueue(tx, named, at).await?;
    if let Some(token) = device_token {
        let device = Device {
            session,
            token: token.to_owned(),
            since: at,
        };
        tx.insert_device(&device).await?;
        tell_devices(app, tx, &account, None, at).await?;
    }
    Ok(Admitted {
        tokens,
        nickname: if person.profile_set { nickname } else { String::new() },
    })
}

/// Opens a session for a person who has proven their identity; refused while the account is suspended. Devices beyond the limit lose the
/// session that was not used for longest.
async fn open(
    app: &App,
    tx: &mut dyn Transaction,
    person: &Person,
    origin: Origin,
    at: Timestamp,
) -> Result<(SessionId, Tokens), Error> {
    refuse_suspended(tx, person).await?;
    let settings = app.settings.get();
    let others = tx.sessions_of(&person.account).await?;
    let too_many = (others.len() + 1).saturating_sub(settings.sessions.per_account);
    for surplus in &others[..too_many] {
        close(app, tx, surplus).await?;
    }
    let session = Session {
        id: SessionId(app.context.entropy.u64()),
        account: person.account.clone(),
        stamped_at: at,
        refresh: new_refresh(app, &origin, at),
        origin,
        previous: None,
    };
    tx.insert_session(&session).await?;
    set_timer(tx, REFRESH_TIMER, session.id, session.refresh.expires_at).await?;
    let tokens = issue(app, tx, &session, person.role).await?;
    Ok((session.id, tokens))
}

/// Fails with the reason of a suspension. A person who is not suspended costs no statement.
async fn refuse_suspended(tx: &mut dyn Transaction, person: &Person) -> Result<(), Error> {
    if person.is_suspended
        && let Some(suspension) = tx.suspension(&person.account).await?
    {
        return Err(Error::Suspended(suspension));
    }
    Ok(())
}

/// Returns fresh tokens for a refresh token. One whose successor was used closes the session: either of the two was stolen. `limit` is absent where
/// the caller is exempt from limits.
///
/// # Errors
/// [`Error::RefreshRefused`]; 429 over `sessions.reissues-per-minute`, which only tokens that this service has signed count toward, each for its own
/// session: calls of other sessions leave its quota as it is, and so do tokens of a closed one.
pub async fn renew(
    app: &App,
    account: &Account,
    refresh: &str,
    client: Option<&ClientAddress>,
    limit: Option<&AccountLimit>,
) -> Result<Tokens, Error> {
    let legacy = || app.keyring.read_legacy(refresh, Kind::RefreshToken);
    let shown = app
        .keyring
        .read(refresh, Kind::RefreshToken)
        .or_else(|| legacy().map(LegacyToken::refresh_claims))
        .filter(|claims| claims.email == *account);
    if let (Some(claims), Some(limit)) = (&shown, limit)
        && let Err(limited) = app.reissues.get().check(&claims.sid)
    {
        app.metrics.reissues.with_label_values(&["limited"]).inc();
        return Err(limit.refuse(limited).into());
    }
    let renewed = match shown {
        Some(claims) => retrying(|| renew_once(app, &claims, client)).await?,
        None => Renewed::Refused,
    };
    app.metrics.reissues.with_label_values(&[renewed.outcome()]).inc();
    match renewed {
        Renewed::Rotated(tokens) | Renewed::Repeated(tokens) => Ok(tokens),
        Renewed::Refused | Renewed::Reused => Err(Error::RefreshRefused),
    }
}

enum Renewed {
    Rotated(Tokens),
    Repeated(Tokens),
    Refused,
    Reused,
}

impl Renewed {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Rotated(_) => "rotated",
            Self::Repeated(_) => "repeated",
            Self::Refused => "refused",
            Self::Reused => "reused",
        }
    }
}

async fn renew_once(app: &App, shown: &Claims, client: Option<&ClientAddress>) -> Result<Renewed, Error> {
    let mut tx = app.store.begin().await?;
    let Some(person) = tx.person(&shown.email).await? else {
        return Ok(Renewed::Refused);
    };
    let session = tx
        .session(shown.sid)
        .await?
        .filter(|session| session.account == person.account);
    let Some(mut session) = session else {
        return Ok(Renewed::Refused);
    };
    // The session stays: the person goes on with it when the suspension ends.
    refuse_suspended(tx.as_mut(), &person).await?;

    let now = app.now();
    let shown = RefreshId(shown.jti.clone());
    let presented = session.judge(&shown, now);
    let answer = match presented {
        Presented::Expired => return Ok(Renewed::Refused),
        Presented::Reused => {
            tracing::warn!(session = %session.id, "refresh token reused; session closed");
            close(app, tx.as_mut(), &session).await?;
            let decision = Decision {
                action: action::REFRESH_TOKEN_REUSED,
                actor: None,
                target: &session.account,
                subject: format!("session {}", session.id),
                reason: "",
                note: "",
            };
            audit::record(app, tx.as_mut(), &decision, now).await?;
            app.commit(tx).await?;
            return Ok(Renewed::Reused);
        }
        Presented::Repeated => {
            if let Some(tokens) = issued_before(app, tx.as_mut(), &session).await? {
                return Ok(Renewed::Repeated(tokens));
            }
            Renewed::Repeated
        }
        Presented::Living => Renewed::Rotated,
    };
    crash_point("auth.reissue-verified");
    session.stamped_at = stamp::after(session.stamped_at, now);
    let place = client.map(|client| client.class().to_owned());
    session.origin.place = place.or(session.origin.place);
    if presented == Presented::Living {
        session.refresh = new_refresh(app, &session.origin, session.stamped_at);
        session.previous = Some((shown, now));
    } else {
        // The same refresh token, with another access token beside it from now on.
        session.refresh.issued_at = session.stamped_at;
    }
    tx.update_session(&session).await?;
    crash_point("auth.reissue-rotated");
    let tokens = issue(app, tx.as_mut(), &session, person.role).await?;
    connections::record(app, tx.as_mut(), &session.account, ConnectionKind::Reissue, client).await?;
    crash_point("auth.reissue-written");
    app.commit(tx).await?;
    crash_point("auth.reissue-committed");
    Ok(answer(tokens))
}

/// Returns the very tokens that a refresh token was replaced by, made again: what concurrent requests and repeated ones are handed out works
/// everywhere, and nothing is written. None where the access token has expired or was signed by another key of the ring.
async fn issued_before(app: &App, tx: &mut dyn Transaction, session: &Session) -> Result<Option<Tokens>, Error> {
    let issued_at = session.refresh.issued_at;
    let Some((digest, expires_at)) = tx.access_token_of(session.id, issued_at).await? else {
        return Ok(None);
    };
    let access = sign_access(app, session, issued_at, expires_at);
    let is_the_same = expires_at > app.now() && TokenDigest::of(&access) == digest;
    Ok(is_the_same.then(|| Tokens {
        account: session.account.clone(),
        access,
        refresh: sign_refresh(app, session),
    }))
}

/// The id of an access token follows from the refresh token beside it, so that both can be made again.
fn sign_access(app: &App, session: &Session, issued_at: Timestamp, expires_at: Timestamp) -> String {
    let digest = Sha256::new()
        .chain_update(b"access\x1f")
        .chain_update(&session.refresh.id.0)
        .chain_update(issued_at.as_millisecond().to_be_bytes())
        .finalize();
    let id = hex::encode(&digest[..16]);
    app.keyring
        .sign(&Claims::access(&session.account, session.id, id, issued_at, expires_at))
}

fn sign_refresh(app: &App, session: &Session) -> String {
    let Refresh {
        id,
        issued_at,
        expires_at,
    } = &session.refresh;
    app.keyring.sign(&Claims::refresh(
        &session.account,
        session.id,
        id,
        *issued_at,
        *expires_at,
    ))
}

/// Expires when the session is idle for too long, or has lived for too long.
fn new_refresh(app: &App, origin: &Origin, at: Timestamp) -> Refresh {
    let settings = app.settings.get();
    let idle_until = later(at, settings.tokens.refresh_lifetime);
    let lives_until = origin
        .opened_at
        .map_or(Timestamp::MAX, |opened_at| later(opened_at, settings.sessions.lifetime));
    let expires_at = idle_until.min(lives_until);
    Refresh {
        id: RefreshId(app.context.entropy.hex(16)),
        issued_at: at,
        expires_at,
    }
}

/// Issues a new access token, and the living refresh token beside it.
async fn issue(app: &App, tx: &mut dyn Transaction, session: &Session, role: Role) -> Result<Tokens, Error> {
    let issued_at = session.stamped_at;
    let expires_at = later(issued_at, app.settings.get().tokens.access_lifetime);
    let account = &session.account;
    let access = sign_access(app, session, issued_at, expires_at);
    let digest = TokenDigest::of(&access);
    let token = AccessToken {
        account: account.clone(),
        session: session.id,
        role,
        issued_at,
        expires_at,
    };
    // A timer that fires too early looks again and is set anew: while one waits for an older token, none is written for this one.
    let last_expiry = tx.last_expiry(session.id).await?;
    if last_expiry.is_none_or(|last| last <= app.now()) {
        set_timer(tx, ACCESS_TIMER, session.id, expires_at).await?;
    }
    tx.insert_access_token(&digest, &token).await?;
    tx.trim_access_tokens(session.id, ACCESS_TOKENS).await?;
    let issued = AccessTokenIssued {
        account: account.clone(),
        digest,
        raw: app.mixed.publishes_raw_tokens().then(|| access.clone()),
        session: session.id,
        role,
        issued_at,
        expires_at: Some(expires_at),
    };
    app.enqueue(tx, issued, issued_at).await?;

    Ok(Tokens {
        account: account.clone(),
        access,
        refresh: sign_refresh(app, session),
    })
}

/// Tells all devices of an account there are now. `former` is the push token that the last one had.
pub async fn tell_devices(
    app: &App,
    tx: &mut dyn Transaction,
    account: &Account,
    former: Option<String>,
    at: Timestamp,
) -> Result<(), Error> {
    let mut told = tx.devices_of(account).await?.published(account);
    if told.token.is_none() && !app.mixed.allows_null_values(Topic::DeviceToken) {
        tx.withhold_tombstone(Topic::DeviceToken, account, at).await?;
        if former.is_none() {
            return Ok(());
        }
        // To a Spring notice the token it knows; ours read that there is no device any more.
        told.token = former;
    }
    app.enqueue(tx, told, at).await
}

/// Ends a session: no token of it works any more, anywhere, and its device is not pushed to. The caller has locked the person.
pub async fn close(app: &App, tx: &mut dyn Transaction, session: &Session) -> Result<(), Error> {
    let at = stamp::after(session.stamped_at, app.now());
    let former = if app.mixed.allows_null_values(Topic::DeviceToken) {
        None
    } else {
        let mut open = tx.devices_of(&session.account).await?;
        open.devices.pop().map(|device| device.token)
    };
    tx.delete_session(session.id).await?;
    tx.clear_timer(ACCESS_TIMER, &session.id.to_string()).await?;
    tx.clear_timer(REFRESH_TIMER, &session.id.to_string()).await?;
    let expired = SessionExpired {
        account: session.account.clone(),
        session: Some(session.id),
    };
    app.enqueue(tx, expired, at).await?;
    tell_devices(app, tx, &session.account, former, at).await
}

/// Which of a person's sessions to close.
#[derive(Debug, Clone, Copy)]
pub enum Closing {
    One(SessionId),
    All,
}

/// Closes sessions of an account at its own wish; returns how many there were.
pub async fn close_own(app: &App, account: &Account, closing: Closing) -> Result<usize, Error> {
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        tx.person(account).await?;
        let mut sessions = tx.sessions_of(account).await?;
        if let Closing::One(id) = closing {
            sessions.retain(|session| session.id == id);
        }
        for session in &sessions {
            close(app, tx.as_mut(), session).await?;
        }
        app.commit(tx).await?;
        Ok(sessions.len())
    })
    .await
}

/// The last access token of a session has expired. The session goes on: its refresh token still lives.
pub async fn expire(app: &App, tx: &mut dyn Transaction, session: SessionId) -> Result<(), Error> {
    let found = tx.session(session).await?;
    let now = app.now();
    if !tx.take_timer(ACCESS_TIMER, &session.to_string(), now).await? {
        return Ok(());
    }
    let Some(mut session) = found else { return Ok(()) };
    if let Some(last) = tx.last_expiry(session.id).await?.filter(|last| *last > now) {
        return set_timer(tx, ACCESS_TIMER, session.id, last).await;
    }
    session.stamped_at = stamp::after(session.stamped_at, now);
    tx.delete_access_tokens(session.id).await?;
    tx.update_session(&session).await?;
    let expired = SessionExpired {
        account: session.account.clone(),
        session: Some(session.id),
    };
    app.enqueue(tx, expired, session.stamped_at).await
}

/// The last refresh token of a session has expired.
pub async fn run_out(app: &App, tx: &mut dyn Transaction, session: SessionId) -> Result<(), Error> {
    if let Some(account) = tx.owner_of(session).await? {
        tx.person(&account).await?;
    }
    let found = tx.session(session).await?;
    if !tx.take_timer(REFRESH_TIMER, &session.to_string(), app.now()).await? {
        return Ok(());
    }
    let Some(session) = found else { return Ok(()) };
    if session.refresh.expires_at > app.now() {
        return set_timer(tx, REFRESH_TIMER, session.id, session.refresh.expires_at).await;
    }
    close(app, tx, &session).await
}

async fn set_timer(tx: &mut dyn Transaction, kind: &str, session: SessionId, fire_at: Timestamp) -> Result<(), Error> {
    Ok(tx
        .set_timer(&Timer {
            kind: kind.to_owned(),
            key: session.to_string(),
            fire_at,
        })
        .await?)
}
