//! Delivery of mails with codes, by SMTP or to the log.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::domain::email::{Address, EmailCode};
use crate::domain::provider::Provider;
use crate::settings::{MailSettings, Proof, SignIn};

/// How long the mail server may take for one step.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The beginning of a certificate: a file without one would trust nothing.
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

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

/// A mail with a code, as a queued call holds it.
pub struct Mail {
    pub address: Address,
    pub code: EmailCode,
}

impl Mail {
    /// Returns the payload of the call: both on a line of their own, for neither has a line break.
    pub fn payload(&self) -> SecretString {
        format!("{}\n{}", self.address.account.as_str(), self.code.expose()).into()
    }

    /// Reads what [`Mail::payload`] gave.
    pub fn read(payload: &SecretString) -> Option<Self> {
        let (account, code) = payload.expose_secret().split_once('\n')?;
        Some(Self {
            address: Address::of(account.parse().ok()?),
            code: EmailCode::typed(code),
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
    /// Opens `mail.url`. Certificates are verified by the authorities of the system, or by those of `mail.ca` alone.
    ///
    /// # Errors
    /// Where the URL is of no known kind, sends passwords or codes in the clear over a network, or writes codes to the log of a fleet that asks
    /// for proof of identities; where `mail.ca` cannot be read or has no effect.
    pub fn of(settings: &MailSettings, sign_in: &SignIn) -> anyhow::Result<Self> {
        let Some(url) = &settings.url else { return Ok(Self::Off) };
        sosohappy_common::tls::install_provider();
        let authorities = settings.ca.as_deref().map(authorities).transpose()?;
        let smtp = |url: &str, tls: fn(TlsParameters) -> Tls| -> anyhow::Result<Self> {
            // The error would quote the URL, which holds the password.
            let invalid = || anyhow::anyhow!("not a URL of a mail server");
            let mut builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| invalid())?;
            if let Some(authorities) = &authorities {
                let parsed = reqwest::Url::parse(url).map_err(|_| invalid())?;
                let parameters = TlsParameters::builder(parsed.host_str().ok_or_else(invalid)?.to_owned())
                    .certificate_store(CertificateStore::None)
                    .add_root_certificate(authorities.clone())
                    .build()
                    .context("mail.ca")?;
                builder = builder.tls(tls(parameters));
            }
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
            "smtps" => smtp(url.expose(), Tls::Wrapper),
            // A server that does not offer STARTTLS gets no mail.
            "smtp" => smtp(&format!("smtp:{}?tls=required", url.rest()), Tls::Required),
            "smtp+plaintext" => {
                let parsed = reqwest::Url::parse(url.expose()).ok();
                let host = parsed.as_ref().and_then(reqwest::Url::host_str);
                ensure!(
                    matches!(host, Some("localhost" | "127.0.0.1" | "[::1]")),
                    "smtp+plaintext: sends codes unencrypted, which is for a mail server on this machine only"
                );
                ensure!(authorities.is_none(), "mail.ca has no effect with smtp+plaintext:");
                smtp(&format!("smtp:{}", url.rest()), |_| Tls::None)
            }
            other => bail!("mails leave by smtps:, smtp: or log:, not by {other}:"),
        }
    }

    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Sends a mail once. A mail that is sent again has the same `Message-ID`, which follows from `id`.
    pub async fn send(&self, id: Uuid, mail: &Mail) -> Result<(), MailError> {
        let Mail { address, code } = mail;
        match self {
            Self::Off => Err(MailError::Unavailable("mail.url is not set".to_owned())),
            Self::Log => {
                tracing::info!(to = address.text(), code = code.expose(), "mail with a code");
                Ok(())
            }
            Self::Smtp { transport, from } => {
                let message = compose(id, address, from, code).ok_or(MailError::Invalid)?;
                match transport.send(message).await {
                    Ok(_) => Ok(()),
                    Err(error) if error.is_permanent() => Err(MailError::Refused(status(&error))),
                    Err(error) => Err(MailError::Unavailable(status(&error))),
                }
            }
        }
    }
}

/// Reads a file of certificates in PEM form.
fn authorities(path: &Path) -> anyhow::Result<Certificate> {
    let pem = std::fs::read(path).with_context(|| format!("mail.ca: {}", path.display()))?;
    ensure!(
        pem.windows(PEM.len()).any(|window| window == PEM),
        "mail.ca: no certificate in PEM form"
    );
    Certificate::from_pem(&pem).context("mail.ca: no certificate in PEM form")
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

fn compose(id: Uuid, to: &Address, from: &Mailbox, code: &EmailCode) -> Option<Message> {
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
        .message_id(Some(format!("<{}@{}>", id.simple(), from.email.domain())))
        .subject("소소해피 인증 코드 · SoSoHappy code")
        .singlepart(body)
        .ok()
}
