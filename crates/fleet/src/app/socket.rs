use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Tokens;

/// The time limit for an expected frame.
const FRAME_TIMEOUT: Duration = Duration::from_mins(1);

/// An event on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketEvent {
    /// A text frame.
    Text(String),
    /// The end of the connection, with the close code; `None` if it ended without one.
    Closed(Option<u16>),
}

/// A socket of the app. Pings are answered while it reads.
#[derive(Debug)]
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(super) async fn connect(
        base: &str,
        path: &str,
        nickname: &str,
        query: &[(&str, String)],
        tokens: &Tokens,
    ) -> anyhow::Result<Self> {
        let mut url = reqwest::Url::parse(&format!("ws{}{path}", base.trim_start_matches("http")))?;
        url.query_pairs_mut()
            .append_pair("nickname", nickname)
            .extend_pairs(query);
        let mut request = url.as_str().into_client_request()?;
        request.headers_mut().insert("authorization", tokens.access.parse()?);
        request.headers_mut().insert("email", tokens.account.parse()?);
        let (stream, _) = tokio_tungstenite::connect_async(request)
            .await
            .with_context(|| format!("connecting {path}"))?;
        Ok(Self(stream))
    }

    /// Sends a text frame of JSON.
    pub async fn send(&mut self, frame: &impl serde::Serialize) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(serde_json::to_string(frame)?)).await?)
    }

    /// Returns the next text frame, within 15 s.
    pub async fn text(&mut self) -> anyhow::Result<String> {
        match self.next(FRAME_TIMEOUT).await? {
            Some(Message::Text(text)) => Ok(text.as_str().to_owned()),
            Some(other) => bail!("expected a text frame, got {other:?}"),
            None => bail!("no frame within {} s", FRAME_TIMEOUT.as_secs()),
        }
    }

    /// Waits for the next text frame or the end of the connection, without a time limit.
    pub async fn next_event(&mut self) -> SocketEvent {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return SocketEvent::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => return SocketEvent::Closed(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return SocketEvent::Closed(None),
            }
        }
    }

    /// Returns whether no frame arrives for that long.
    pub async fn silent_for(&mut self, time: Duration) -> anyhow::Result<bool> {
        Ok(self.next(time).await?.is_none())
    }

    /// Returns the close code that the server sends, within 15 s.
    pub async fn closed(&mut self) -> anyhow::Result<u16> {
        match self.next(FRAME_TIMEOUT).await? {
            Some(Message::Close(Some(frame))) => Ok(frame.code.into()),
            other => bail!("expected the socket to be closed, got {other:?}"),
        }
    }

    async fn next(&mut self, within: Duration) -> anyhow::Result<Option<Message>> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(frame) => return Ok(frame?),
                    None => bail!("the connection ended"),
                }
            }
        };
        match tokio::time::timeout(within, next).await {
            Ok(frame) => frame.map(Some),
            Err(_) => Ok(None),
        }
    }
}
