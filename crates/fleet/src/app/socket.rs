use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Tokens;

/// How long the app waits for a frame that must come.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a socket says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Text(String),
    /// The code it was closed with; none when the connection just ended.
    Closed(Option<u16>),
}

/// A socket of the app.
#[derive(Debug)]
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(super) async fn connect(base: &str, path: &str, nickname: &str, tokens: &Tokens) -> anyhow::Result<Self> {
        let mut url = reqwest::Url::parse(&format!("ws{}{path}", base.trim_start_matches("http")))?;
        url.query_pairs_mut().append_pair("nickname", nickname);
        let mut request = url.as_str().into_client_request()?;
        request.headers_mut().insert("authorization", tokens.access.parse()?);
        request.headers_mut().insert("email", tokens.account.parse()?);
        let (stream, _) = tokio_tungstenite::connect_async(request)
            .await
            .with_context(|| format!("connecting {path}"))?;
        Ok(Self(stream))
    }

    pub async fn send(&mut self, frame: &impl serde::Serialize) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(serde_json::to_string(frame)?)).await?)
    }

    /// The next text frame.
    pub async fn text(&mut self) -> anyhow::Result<String> {
        match self.next(PATIENCE).await? {
            Some(Message::Text(text)) => Ok(text.as_str().to_owned()),
            Some(other) => bail!("expected a text frame, got {other:?}"),
            None => bail!("no frame within {} s", PATIENCE.as_secs()),
        }
    }

    /// Waits for whatever comes, however long that takes.
    pub async fn hear(&mut self) -> Heard {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => return Heard::Closed(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    /// Whether nothing comes for that long.
    pub async fn silent_for(&mut self, time: Duration) -> anyhow::Result<bool> {
        Ok(self.next(time).await?.is_none())
    }

    /// The code the server closes with.
    pub async fn closed(&mut self) -> anyhow::Result<u16> {
        match self.next(PATIENCE).await? {
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
                    None => bail!("the socket ended"),
                }
            }
        };
        match tokio::time::timeout(within, next).await {
            Ok(frame) => frame.map(Some),
            Err(_) => Ok(None),
        }
    }
}
