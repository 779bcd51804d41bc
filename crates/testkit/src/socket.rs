use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{PATIENCE, Person};

/// A WebSocket client.
#[derive(Debug)]
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects with a person's credentials; the error of a refused handshake carries the HTTP answer.
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

    pub async fn send(&mut self, text: impl Into<String>) {
        self.0
            .send(Message::text(text.into()))
            .await
            .expect("the socket takes frames");
    }

    /// [`Socket::send`], for a socket that the server may close.
    pub async fn try_send(&mut self, text: impl Into<String>) -> Result<(), tungstenite::Error> {
        self.0.send(Message::text(text.into())).await
    }

    /// The next text frame, or the close code; none when the socket ends without one, or nothing comes for as long as [`PATIENCE`].
    pub async fn text_or_code(&mut self) -> Result<String, Option<u16>> {
        match self.next(PATIENCE).await {
            Some(Message::Text(text)) => Ok(text.as_str().to_owned()),
            Some(Message::Close(Some(frame))) => Err(Some(frame.code.into())),
            _ => Err(None),
        }
    }

    /// The next text frame; pings are answered on the way.
    ///
    /// # Panics
    /// When none comes for as long as [`PATIENCE`], or the socket ends.
    pub async fn text(&mut self) -> String {
        match self.next(PATIENCE).await {
            Some(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("expected a text frame, got {other:?}"),
        }
    }

    pub async fn json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.text().await).expect("frames are JSON")
    }

    /// The close code the server sent.
    ///
    /// # Panics
    /// When text comes first, or nothing for as long as [`PATIENCE`].
    pub async fn closed(&mut self) -> u16 {
        match self.next(PATIENCE).await {
            Some(Message::Close(Some(frame))) => frame.code.into(),
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    /// Whether no text comes for that long.
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
