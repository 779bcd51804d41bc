//! A WebSocket client of the tests.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{PATIENCE, Person};

/// A WebSocket client. Pings are answered while it reads.
#[derive(Debug)]
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects with a person's credentials. The error of a refused handshake contains the HTTP response.
    pub async fn connect(url: &str, person: Option<&Person>) -> Result<Self, tungstenite::Error> {
        let mut request = url.into_client_request()?;
        if let Some(person) = person {
            let headers = request.headers_mut();
            headers.insert(
                "authorization",
                format!("Bearer {}", person.token).parse().expect("tokens are ASCII"),
            );
            headers.insert(
                "email",
                person.account.as_str().parse().expect("test accounts are ASCII"),
            );
        }
        let (stream, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self(stream))
    }

    /// Sends a text frame.
    ///
    /// # Panics
    /// If the connection is closed.
    pub async fn send(&mut self, text: impl Into<String>) {
        self.0
            .send(Message::text(text.into()))
            .await
            .expect("the socket is open");
    }

    /// Sends a text frame on a socket that the server may have closed.
    pub async fn try_send(&mut self, text: impl Into<String>) -> Result<(), tungstenite::Error> {
        self.0.send(Message::text(text.into())).await
    }

    /// Returns the next text frame, or the close code: `None` if the connection ends without one, or no frame arrives within [`PATIENCE`].
    pub async fn text_or_code(&mut self) -> Result<String, Option<u16>> {
        match self.next(PATIENCE).await {
            Some(Message::Text(text)) => Ok(text.as_str().to_owned()),
            Some(Message::Close(Some(frame))) => Err(Some(frame.code.into())),
            _ => Err(None),
        }
    }

    /// Returns the next text frame.
    ///
    /// # Panics
    /// If none arrives within [`PATIENCE`], or the connection ends.
    pub async fn text(&mut self) -> String {
        match self.next(PATIENCE).await {
            Some(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("expected a text frame, got {other:?}"),
        }
    }

    /// Returns the next text frame as JSON.
    ///
    /// # Panics
    /// As [`Socket::text`], and if the frame is not JSON.
    pub async fn json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.text().await).expect("frames are JSON")
    }

    /// Returns the close code that the server sends.
    ///
    /// # Panics
    /// If a text frame arrives first, or no frame within [`PATIENCE`].
    pub async fn closed(&mut self) -> u16 {
        self.closing().await.0
    }

    /// Returns the close code and the reason that the server sends.
    ///
    /// # Panics
    /// As [`Socket::closed`].
    pub async fn closing(&mut self) -> (u16, String) {
        match self.next(PATIENCE).await {
            Some(Message::Close(Some(frame))) => (frame.code.into(), frame.reason.as_str().to_owned()),
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    /// Returns whether no text frame arrives for that long.
    pub async fn silent_for(&mut self, time: Duration) -> bool {
        !matches!(self.next(time).await, Some(Message::Text(_)))
    }

    async fn next(&mut self, within: Duration) -> Option<Message> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(message)) => return Some(message),
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(within, next).await.ok().flatten()
    }
}
