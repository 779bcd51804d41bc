//! Counts the statements of a command on their way to MariaDB.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

/// Commands of MySQL's protocol: a statement as text, and one that was prepared.
const COM_QUERY: u8 = 0x03;
const COM_STMT_EXECUTE: u8 = 0x17;

/// An address of the test's MariaDB at which statements are counted.
pub struct CountedServer {
    address: SocketAddr,
    statements: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl CountedServer {
    pub async fn start() -> Self {
        let server = std::env::var("SOSOHAPPY_TEST_MYSQL").expect("the engines are there");
        let server = Url::parse(&server).expect("a URL");
        let server = format!(
            "{}:{}",
            server.host_str().expect("a host"),
            server.port().unwrap_or(3306)
        );
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let statements = Arc::<AtomicUsize>::default();
        let counter = statements.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, server.clone(), counter.clone()));
            }
        });
        Self {
            address,
            statements,
            _serving: serving,
        }
    }

    /// Returns the URL of a database at this address, without TLS.
    pub fn url(&self, url: &str) -> String {
        let mut url = Url::parse(url).expect("a URL");
        url.set_host(Some(&self.address.ip().to_string()))
            .expect("the URL has a host");
        url.set_port(Some(self.address.port())).expect("the URL has a port");
        url.query_pairs_mut().append_pair("ssl-mode", "disabled");
        url.into()
    }

    /// Returns the number of statements since the last call.
    pub fn take(&self) -> usize {
        self.statements.swap(0, Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, server: String, statements: Arc<AtomicUsize>) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    tokio::select! {
        copied = tokio::io::copy(&mut from_server, &mut to_client) => copied.map(|_| ()),
        ended = count(from_client, to_server, &statements) => ended,
    }
}

/// Passes packets of a client on, until it ends the connection.
async fn count(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, statements: &AtomicUsize) -> std::io::Result<()> {
    loop {
        let mut header = [0; 4];
        client.read_exact(&mut header).await?;
        let [low, middle, high, sequence] = header;
        let length = u32::from_le_bytes([low, middle, high, 0]);
        let mut packet = vec![0; usize::try_from(length).expect("24 bits fit")];
        client.read_exact(&mut packet).await?;
        // A command begins a sequence.
        if sequence == 0 && matches!(packet.first(), Some(&(COM_QUERY | COM_STMT_EXECUTE))) {
            statements.fetch_add(1, Ordering::SeqCst);
        }
        server.write_all(&header).await?;
        server.write_all(&packet).await?;
    }
}
