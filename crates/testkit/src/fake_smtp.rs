//! A fake mail server on loopback (RFC 5321, without TLS) that keeps the mails it has taken, and misbehaves as a test chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    behavior: Mutex<SmtpBehavior>,
    mails: Mutex<Vec<ReceivedMail>>,
    connections: AtomicUsize,
}

impl FakeSmtp {
    /// Starts a server that takes every mail.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
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
                    tokio::spawn(async move { session(stream, &shared, behavior).await });
                }
            }
        });
        Self {
            url: format!("smtp+plaintext://{address}"),
            shared,
        }
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

async fn session(stream: TcpStream, shared: &Shared, behavior: SmtpBehavior) -> std::io::Result<()> {
    if let SmtpBehavior::Slow(time) = behavior {
        tokio::time::sleep(time).await;
    }
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut to = String::new();
    write.write_all(b"220 fake ESMTP\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => "250-fake\r\n250 8BITMIME".to_owned(),
            "RCPT" => {
                let address = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                to = address.map(|(address, _)| address.to_owned()).unwrap_or_default();
                match behavior {
                    SmtpBehavior::Refuse(reply) => format!("{reply} <{to}>"),
                    _ => "250 ok".to_owned(),
                }
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut data = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    data.push_str(line.strip_prefix('.').unwrap_or(&line));
                    data.push('\n');
                }
                if behavior == SmtpBehavior::Drop {
                    return Ok(());
                }
                shared.mails.lock().push(ReceivedMail { to: to.clone(), data });
                if behavior == SmtpBehavior::TakeAndDrop {
                    return Ok(());
                }
                "250 taken".to_owned()
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            "MAIL" | "RSET" | "NOOP" => "250 ok".to_owned(),
            _ => "502 unknown command".to_owned(),
        };
        write.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
    Ok(())
}
