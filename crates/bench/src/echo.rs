//! Raw sockets that echo, the lower bound of a frame's way.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A client's end.
pub type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Starts an echo and connects to it.
pub async fn connect() -> anyhow::Result<Client> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    tokio::spawn(echo(listener));
    let (socket, _) = tokio_tungstenite::connect_async(url).await?;
    Ok(socket)
}

async fn echo(listener: TcpListener) -> anyhow::Result<()> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(frame) = socket.next().await {
        socket.send(frame?).await?;
    }
    Ok(())
}

/// The sockets of each group.
type Groups = Arc<Mutex<HashMap<String, Vec<UnboundedSender<Message>>>>>;

/// Serves sockets and nothing else. The first frame of a socket names its group; each later one is written to all sockets of the group.
pub async fn serve_groups(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let groups = Groups::default();
    loop {
        let (stream, _) = listener.accept().await?;
        // The end of a connection, in whatever way, ends its task.
        tokio::spawn(serve_member(stream, groups.clone()));
    }
}

async fn serve_member(stream: TcpStream, groups: Groups) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    // The buffers of the fleet's sockets.
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(4 * 1024);
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    let Some(Message::Text(group)) = socket.next().await.transpose()? else {
        bail!("the first frame names the group");
    };
    let group = group.as_str().to_owned();
    let (sender, mut frames) = mpsc::unbounded_channel();
    groups.lock().await.entry(group.clone()).or_default().push(sender);
    loop {
        tokio::select! {
            frame = frames.recv() => socket.send(frame.context("the group has ended")?).await?,
            frame = socket.next() => match frame.transpose()? {
                Some(frame @ Message::Text(_)) => {
                    for member in groups.lock().await.get(&group).into_iter().flatten() {
                        // A member that has left needs no frame.
                        let _ = member.send(frame.clone());
                    }
                }
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}
