//! A fake mail server on loopback (RFC 5321; STARTTLS by RFC 3207, implicit TLS by RFC 8314) that keeps the mails it has taken, and misbehaves as
//! a test chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto};

/// The behaviour of a fake mail server from the next connection on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmtpBehavior {
    /// Takes every mail.
    Accept,
    /// Refuses every recipient with this reply, for example `450 mailbox busy`, which it follows by the address.
    Refuse(&'static str),
    /// Sends its greeting after this delay.
    Slow(Duration),
    /// Closes the connection after it has received the mail, without a reply.
    Drop,
    /// Takes the mail, and closes the connection without a reply.
    TakeAndDrop,
    /// Replies to every command after this delay.
    SlowReplies(Duration),
}

/// How connections to a fake mail server are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Not at all; STARTTLS is not offered.
    Off,
    /// By STARTTLS, without which no mail is taken.
    StartTls,
    /// From the first byte on.
    Implicit,
}

/// A mail that a fake mail server has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMail {
    pub to: String,
    /// Headers and body as they were sent, without escaped dots.
    pub data: String,
}

impl ReceivedMail {
    /// Returns the code: the line of 8 letters and digits in upper case.
    ///
    /// # Panics
    /// If the mail has no such line.
    #[must_use]
    pub fn code(&self) -> String {
        let is_code = |line: &&str| {
            line.len() == 8
                && line
                    .chars()
                    .all(|char| char.is_ascii_uppercase() || char.is_ascii_digit())
        };
        let code = self.data.lines().find(is_code);
        code.unwrap_or_else(|| panic!("a mail without a code: {}", self.data))
            .to_owned()
    }
}

/// A mail server whose behaviour a test chooses. It stops with the test's runtime.
#[derive(Debug, Clone)]
pub struct FakeSmtp {
    url: String,
    ca: String,
    shared: Arc<Shared>,
}

struct Shared {
    tls: SmtpTls,
    acceptor: TlsAcceptor,
    behavior: Mutex<SmtpBehavior>,
    mails: Mutex<Vec<ReceivedMail>>,
    connections: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("tls", &self.tls)
            .field("behavior", &self.behavior)
            .finish_non_exhaustive()
    }
}

impl FakeSmtp {
    /// Starts a server without encryption that takes every mail.
    ///
    /// # Panics
    /// As [`FakeSmtp::start_with`].
    pub async fn start() -> Self {
        Self::start_with(SmtpTls::Off, "localhost").await
    }

    /// Starts a server that takes every mail, with a certificate of its own authority for that name.
    ///
    /// # Panics
    /// If loopback has no free port, or no certificate can be made.
    pub async fn start_with(tls: SmtpTls, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate can be made");
        let key = made.signing_key.serialize_der().try_into().expect("a key in PKCS #8");
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("the key is that of the certificate");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            tls,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            behavior: Mutex::new(SmtpBehavior::Accept),
            mails: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    let (shared, behavior) = (shared.clone(), shared.behavior.lock().clone());
                    // A client that disconnects ends its session, as with any mail server.
                    tokio::spawn(async move { serve(stream, &shared, behavior).await });
                }
            }
        });
        let scheme = match tls {
            SmtpTls::Off => "smtp+plaintext",
            SmtpTls::StartTls => "smtp",
            SmtpTls::Implicit => "smtps",
        };
        Self {
            url: format!("{scheme}://localhost:{}", address.port()),
            ca: made.cert.pem(),
            shared,
        }
    }

    /// Returns the certificate of its authority in PEM form, for the file of the setting `mail.ca`.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Returns the value of the setting `mail.url`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets the behaviour toward later connections.
    pub fn set_behavior(&self, behavior: SmtpBehavior) {
        *self.shared.behavior.lock() = behavior;
    }

    /// Returns the number of connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Returns the mails that were taken, the oldest first.
    #[must_use]
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.shared.mails.lock().clone()
    }

    /// Returns the newest mail to an address, once there are `count` of them.
    ///
    /// # Panics
    /// If they do not arrive in time.
    pub async fn mail_to(&self, address: &str, count: usize) -> ReceivedMail {
        crate::eventually("the mail arrives", async || {
            let mails = self.mails();
            let mut mails = mails.into_iter().filter(|mail| mail.to == address);
            mails.nth(count - 1)
        })
        .await
    }
}

async fn serve(stream: TcpStream, shared: &Shared, behavior: SmtpBehavior) -> std::io::Result<()> {
    if shared.tls == SmtpTls::Implicit {
        let stream = shared.acceptor.accept(stream).await?;
        session(stream, shared, &behavior, true).await?;
    } else if let Some(stream) = session(stream, shared, &behavior, false).await? {
        let stream = shared.acceptor.accept(stream).await?;
        session(stream, shared, &behavior, true).await?;
    }
    Ok(())
}

/// Serves a connection to its end, or to STARTTLS: then it returns the stream.
async fn session<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    shared: &Shared,
    behavior: &SmtpBehavior,
    is_encrypted: bool,
) -> std::io::Result<Option<S>> {
    if let SmtpBehavior::Slow(time) = behavior {
        tokio::time::sleep(*time).await;
    }
    let mut stream = BufReader::new(stream);
    let mut to = String::new();
    // After STARTTLS the client speaks first.
    if !is_encrypted || shared.tls == SmtpTls::Implicit {
        stream.write_all(b"220 fake ESMTP\r\n").await?;
    }
    stream.flush().await?;
    while let Some(line) = read_line(&mut stream).await? {
        if let SmtpBehavior::SlowReplies(time) = behavior {
            tokio::time::sleep(*time).await;
        }
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let may_send = is_encrypted || shared.tls == SmtpTls::Off;
        let reply = match verb.as_str() {
            "EHLO" if may_send => "250-fake\r\n250 8BITMIME".to_owned(),
            "EHLO" => "250-fake\r\n250-8BITMIME\r\n250 STARTTLS".to_owned(),
            "STARTTLS" if shared.tls == SmtpTls::StartTls && !is_encrypted => {
                stream.write_all(b"220 go on\r\n").await?;
                stream.flush().await?;
                return Ok(Some(stream.into_inner()));
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                stream.flush().await?;
                return Ok(None);
            }
            _ if !may_send => "530 STARTTLS first".to_owned(),
            "RCPT" => {
                let address = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                to = address.map(|(address, _)| address.to_owned()).unwrap_or_default();
                match behavior {
                    SmtpBehavior::Refuse(reply) => format!("{reply} <{to}>"),
                    _ => "250 ok".to_owned(),
                }
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                stream.flush().await?;
                let mut data = String::new();
                while let Some(line) = read_line(&mut stream).await?.filter(|line| line != ".") {
                    data.push_str(line.strip_prefix('.').unwrap_or(&line));
                    data.push('\n');
                }
                if *behavior == SmtpBehavior::Drop {
                    return Ok(None);
                }
                shared.mails.lock().push(ReceivedMail { to: to.clone(), data });
                if *behavior == SmtpBehavior::TakeAndDrop {
                    return Ok(None);
                }
                "250 taken".to_owned()
            }
            "MAIL" | "RSET" | "NOOP" => "250 ok".to_owned(),
            _ => "502 unknown command".to_owned(),
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(None)
}

/// Returns the next line without its end; none at the end of the connection.
async fn read_line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}
