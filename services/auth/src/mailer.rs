//! Delivery of mails with codes, by SMTP or to the log.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Mailbox, SinglePart};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use crate::domain::email::{Address, EmailCode};
use crate::domain::provider::Provider;
use crate::settings::{MailSettings, Proof, SignIn};
use crate::store::email::QueuedMail;

/// How long the mail server may take for one step.
const TIMEOUT: Duration = Duration::from_secs(10);

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
pub enum MailError {
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

    /// Sends a mail with its code once.
    pub async fn send(&self, mail: &QueuedMail, code: &EmailCode) -> Result<(), MailError> {
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
