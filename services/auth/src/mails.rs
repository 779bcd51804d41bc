//! Mails with codes: queued in the transaction that makes the code, and delivered by SMTP until the code expires.
//!
//! A mail is leased while it is sent, so that the process may die at any point: it is sent again then, under the same `Message-ID`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Mailbox, SinglePart};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use secrecy::ExposeSecret as _;
use sosohappy_store::{Timer, retrying};
use tokio::task::JoinSet;

use crate::app::{App, later};
use crate::domain::email::{Address, EmailCode};
use crate::domain::provider::Provider;
use crate::error::Error;
use crate::settings::{MailSettings, Proof, SignIn};
use crate::store::Transaction;
use crate::store::email::QueuedMail;

/// Fires when a mail is to be sent; its key is the mail.
pub const TIMER: &str = "mail";

/// Mails that are sent at one time.
const BATCH: u32 = 8;

/// How long the mail server may take for one step.
const TIMEOUT: Duration = Duration::from_secs(10);

/// After this long a mail that a replica has begun to send is sent again: longer than all steps of one take.
const LEASE: Duration = Duration::from_mins(1);

/// Between two attempts: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// The ways in which mails leave.
pub enum Mailer {
    /// No mails, and so no e-mail accounts.
    Off,
    /// To the log, codes included: for laptops.
    Log,
    Smtp {
        transport: Box<AsyncSmtpTransport<Tokio1Executor>>,
        from: Mailbox,
    },
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Log => "Log",
            Self::Smtp { .. } => "Smtp",
        })
    }
}

/// Why a mail was not delivered. Holds no text of the server, which may quote the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum MailError {
    #[error("refused by the mail server: status {0}")]
    Refused(String),
    #[error("not taken by the mail server: {0}")]
    Unavailable(String),
    #[error("the mail cannot be composed")]
    Invalid,
}

impl Mailer {
    /// Opens `mail.url`.
    ///
    /// # Errors
    /// Where the URL is of no known kind, sends passwords or codes in the clear over a network, or writes codes to the log of a fleet that asks
    /// for proof of identities.
    pub fn of(settings: &MailSettings, sign_in: &SignIn) -> anyhow::Result<Self> {
        let Some(url) = &settings.url else { return Ok(Self::Off) };
        sosohappy_common::tls::install_provider();
        let smtp = |url: &str| -> anyhow::Result<Self> {
            // The error would quote the URL, which holds the password.
            let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
                .map_err(|_| anyhow::anyhow!("not a URL of a mail server"))?;
            Ok(Self::Smtp {
                transport: Box::new(builder.timeout(Some(TIMEOUT)).build()),
                from: settings
                    .from
                    .parse()
                    .ok()
                    .context("mail.from is not an e-mail address")?,
            })
        };
        match url.scheme() {
            "log" => {
                let asks_for_proof = Provider::ALL
                    .iter()
                    .any(|provider| sign_in.proof_of(*provider) == Proof::IdToken);
                ensure!(
                    !asks_for_proof,
                    "log: writes codes to the log, which is for laptops: with sign-in.proof = \"id-token\" a mail server is required"
                );
                tracing::warn!("mails are written to the log with their codes");
                Ok(Self::Log)
            }
            "smtps" => smtp(url.expose()),
            "smtp" => smtp(&format!("smtp:{}?tls=required", url.rest())),
            "smtp+plaintext" => {
                let parsed = reqwest::Url::parse(url.expose()).ok();
                let host = parsed.as_ref().and_then(reqwest::Url::host_str);
                ensure!(
                    matches!(host, Some("localhost" | "127.0.0.1" | "[::1]")),
                    "smtp+plaintext: sends codes unencrypted, which is for a mail server on this machine only"
                );
                smtp(&format!("smtp:{}", url.rest()))
            }
            other => bail!("mails leave by smtps:, smtp: or log:, not by {other}:"),
        }
    }

    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    async fn send(&self, mail: &QueuedMail, code: &EmailCode) -> Result<(), MailError> {
        let address = Address::of(mail.account.clone());
        match self {
            Self::Off => Err(MailError::Unavailable("mail.url is not set".to_owned())),
            Self::Log => {
                tracing::info!(to = address.text(), code = code.expose(), "mail with a code");
                Ok(())
            }
            Self::Smtp { transport, from } => {
                let message = compose(&mail.id, &address, from, code).ok_or(MailError::Invalid)?;
                match transport.send(message).await {
                    Ok(_) => Ok(()),
                    Err(error) if error.is_permanent() => Err(MailError::Refused(status(&error))),
                    Err(error) => Err(MailError::Unavailable(status(&error))),
                }
            }
        }
    }
}

/// Returns the status of the mail server's reply, or what else has happened.
fn status(error: &lettre::transport::smtp::Error) -> String {
    match error.status() {
        Some(status) => status.to_string(),
        None if error.is_timeout() => "timeout".to_owned(),
        None if error.is_tls() => "TLS error".to_owned(),
        None => "connection error".to_owned(),
    }
}

fn compose(id: &str, to: &Address, from: &Mailbox, code: &EmailCode) -> Option<Message> {
    let code = code.expose();
    let text = format!(
        "소소해피 인증 코드입니다. 5분 안에 입력해 주세요.\r\n요청하지 않았다면 이 메일을 무시해 주세요.\r\n\r\n{code}\r\n\r\n\
        Your SoSoHappy code, valid for 5 minutes. If you did not ask for it, ignore this mail.\r\n"
    );
    // Quoted-printable keeps the code on a line of its own.
    let body = SinglePart::builder()
        .header(ContentType::TEXT_PLAIN)
        .header(ContentTransferEncoding::QuotedPrintable)
        .body(text);
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to.text().parse().ok()?))
        .message_id(Some(format!("<{id}@{}>", from.email.domain())))
        .subject("소소해피 인증 코드 · SoSoHappy code")
        .singlepart(body)
        .ok()
}

/// Queues a mail with a code; it is sent after the commit.
pub async fn enqueue(
    app: &App,
    tx: &mut dyn Transaction,
    to: &Address,
    code: &EmailCode,
    expires_at: jiff::Timestamp,
) -> Result<(), Error> {
    let entropy = app.context.entropy.as_ref();
    let mail = QueuedMail {
        id: entropy.hex(16),
        account: to.account.clone(),
        sealed: app.provider_tokens.seal(to.account.as_str(), code.expose(), entropy),
        attempts: 0,
        expires_at,
    };
    tx.set_mail(&mail).await?;
    set_timer(tx, &mail.id, app.now()).await
}

/// Sends what is due. A mail that cannot be sent now is sent later; the others go on.
pub async fn send_due(app: &Arc<App>) -> Result<(), Error> {
    let draining = app.context.lifecycle.draining();
    loop {
        let due = app.store.due_timers(TIMER, app.now(), BATCH).await?;
        let is_last = due.len() < BATCH as usize;
        let mut sending = JoinSet::new();
        for timer in due {
            let app = app.clone();
            sending.spawn(async move { deliver(&app, &timer.key).await });
        }
        while let Some(sent) = sending.join_next().await {
            sent.map_err(Error::hashing)??;
        }
        if is_last || draining.is_cancelled() {
            return Ok(());
        }
    }
}

async fn deliver(app: &App, id: &str) -> Result<(), Error> {
    let Some(mail) = retrying(|| lease(app, id)).await? else {
        return Ok(());
    };
    let code = app.provider_tokens.open(mail.account.as_str(), &mail.sealed);
    let sent = match code {
        Some(code) => app.mailer.send(&mail, &EmailCode::typed(code.expose_secret())).await,
        // The key was taken away: the person asks for another code.
        None => Err(MailError::Invalid),
    };
    let outcome = match &sent {
        Ok(()) => "sent",
        Err(MailError::Unavailable(_)) => "retried",
        Err(MailError::Refused(_) | MailError::Invalid) => "refused",
    };
    app.metrics.mails.with_label_values(&[outcome]).inc();
    if let Err(error) = &sent {
        tracing::warn!(%error, attempt = mail.attempts, outcome, "mail delivery failed");
    }
    retrying(|| async {
        let mut tx = app.store.begin().await?;
        let present = tx.mail(id).await?;
        if present.is_none_or(|present| present.attempts != mail.attempts) {
            // The lease has ended, and another replica has taken the mail.
            return Ok(());
        }
        if matches!(sent, Err(MailError::Unavailable(_))) {
            set_timer(tx.as_mut(), id, later(app.now(), pause(mail.attempts))).await?;
        } else {
            tx.delete_mail(id).await?;
            tx.clear_timer(TIMER, id).await?;
        }
        Ok(tx.commit().await?)
    })
    .await
}

/// Takes a due mail for [`LEASE`]; none where another replica was quicker or its code has expired.
async fn lease(app: &App, id: &str) -> Result<Option<QueuedMail>, Error> {
    let mut tx = app.store.begin().await?;
    let found = tx.mail(id).await?;
    if !tx.take_timer(TIMER, id, app.now()).await? {
        return Ok(None);
    }
    let live = found.filter(|mail| mail.expires_at > app.now());
    if let Some(mut mail) = live {
        mail.attempts += 1;
        tx.set_mail(&mail).await?;
        set_timer(tx.as_mut(), id, later(app.now(), LEASE)).await?;
        tx.commit().await?;
        return Ok(Some(mail));
    }
    tx.delete_mail(id).await?;
    tx.commit().await?;
    app.metrics.mails.with_label_values(&["expired"]).inc();
    tracing::warn!("mail not delivered before its code expired");
    Ok(None)
}

fn pause(attempts: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LAST_PAUSE)
}

async fn set_timer(tx: &mut dyn Transaction, id: &str, fire_at: jiff::Timestamp) -> Result<(), Error> {
    let timer = Timer {
        kind: TIMER.to_owned(),
        key: id.to_owned(),
        fire_at,
    };
    Ok(tx.set_timer(&timer).await?)
}
