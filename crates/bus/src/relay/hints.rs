//! Hints between the relays of a service's replicas: a replica that has committed an event and does not lead notifies the one that leads, which
//! then reads the outbox at once rather than at its next poll.
//!
//! A hint is one UDP datagram to the address in the leader's lease. It carries no event, and nothing depends on it: one that is lost costs
//! the wait for the next poll, one that is doubled or late costs one read of the outbox. Its content is an HMAC of the lease's holder under
//! the service token, so that only replicas of this fleet cause reads.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use sosohappy_common::settings::{Credentials, Server};
use subtle::ConstantTimeEq as _;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::metrics::Relaying;

/// Between the instance and the address in the holder of a lease. An instance does not contain it; a holder of an earlier release has no
/// address.
const SEPARATOR: char = '@';

/// Makes the HMAC differ from any other use of the key.
const CONTEXT: &[u8] = b"outbox-hint\0";

const TAG_BYTES: usize = 32;

/// Datagrams that are read at once: those that wait are one hint.
const MOST_WAITING: usize = 1000;

/// Pause after a receive that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The content of a hint for one leader.
type Tag = [u8; TAG_BYTES];

/// The end of a replica's hints: it sends them while another replica leads, and receives them while it leads.
pub struct Hints(Option<Endpoint>);

struct Endpoint {
    socket: UdpSocket,
    /// Where other replicas reach the socket.
    address: SocketAddr,
    is_ipv6: bool,
    key: SecretString,
    /// The end of the pause after a receive that failed. Kept here, because a call that pauses may be cancelled.
    paused_until: Mutex<Option<Instant>>,
}

/// A leading replica that receives hints.
pub(super) struct Leader {
    address: SocketAddr,
    tag: Tag,
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hints")
            .field(&self.0.as_ref().map(|endpoint| endpoint.address))
            .finish()
    }
}

impl Hints {
    /// Opens the UDP port with the number of the HTTP port. Without it the relay works, and finds rows of other replicas by polling.
    pub async fn open(server: &Server, credentials: &Credentials) -> Self {
        let address = SocketAddr::new(server.host, server.port);
        match Self::bind(address, credentials.service_token.clone()).await {
            Ok(hints) => hints,
            Err(error) => {
                tracing::warn!(%error, %address, "UDP port for outbox hints unavailable; relay polls");
                Self::off()
            }
        }
    }

    /// Opens the UDP port; the key is that of all replicas.
    pub async fn bind(address: SocketAddr, key: SecretString) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let port = socket.local_addr()?.port();
        Ok(Self(Some(Endpoint {
            socket,
            address: SocketAddr::new(reachable(address.ip()).await, port),
            is_ipv6: address.is_ipv6(),
            key,
            paused_until: Mutex::default(),
        })))
    }

    /// Returns the end of a replica that neither sends nor receives hints.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Returns whether this replica sends and receives hints.
    pub(super) const fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the name under which the replica holds the relay's lease: the instance, and the address for hints.
    pub(super) fn holder(&self, instance: &str) -> String {
        match &self.0 {
            Some(endpoint) => format!("{instance}{SEPARATOR}{}", endpoint.address),
            None => instance.to_owned(),
        }
    }

    /// Returns the leader that holds the lease under this name; `None` if one of the two ends has no address.
    pub(super) fn leader(&self, holder: &str) -> Option<Leader> {
        let endpoint = self.0.as_ref()?;
        let (_, address) = holder.rsplit_once(SEPARATOR)?;
        let address = match address.parse().ok()? {
            SocketAddr::V4(address) if endpoint.is_ipv6 => (address.ip().to_ipv6_mapped(), address.port()).into(),
            address => address,
        };
        Some(Leader {
            address,
            tag: endpoint.tag(holder),
        })
    }

    pub(super) async fn send(&self, leader: &Leader) -> io::Result<()> {
        if let Some(endpoint) = &self.0 {
            endpoint.socket.send_to(&leader.tag, leader.address).await?;
        }
        Ok(())
    }

    /// Resolves when a hint for the lease of `holder` has arrived; those that wait count as one. Cancel safe. Never resolves without a
    /// port.
    pub(super) async fn received(&self, holder: &str, metrics: &Relaying) {
        let Some(endpoint) = &self.0 else {
            return std::future::pending().await;
        };
        let expected = endpoint.tag(holder);
        // One byte more than a hint has, so that a longer datagram is recognised.
        let mut datagram = [0; TAG_BYTES + 1];
        let count = |datagram: &[u8]| {
            let is_valid = bool::from(datagram.ct_eq(&expected));
            let outcome = if is_valid { "received" } else { "rejected" };
            metrics.hints.with_label_values(&[outcome]).inc();
            is_valid
        };
        loop {
            let paused_until = *endpoint.paused_until.lock();
            if let Some(until) = paused_until {
                tokio::time::sleep_until(until).await;
                *endpoint.paused_until.lock() = None;
            }
            match endpoint.socket.recv_from(&mut datagram).await {
                Ok((bytes, _)) if count(&datagram[..bytes]) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "receiving outbox hints failed; retrying");
                    *endpoint.paused_until.lock() = Some(Instant::now() + PAUSE);
                }
            }
        }
        for _ in 0..MOST_WAITING {
            match endpoint.socket.try_recv_from(&mut datagram) {
                Ok((bytes, _)) => _ = count(&datagram[..bytes]),
                // None waits. Another error is met again by the next call, which logs it.
                Err(_) => break,
            }
        }
    }
}

impl Endpoint {
    fn tag(&self, holder: &str) -> Tag {
        let key = self.key.expose_secret().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(CONTEXT);
        mac.update(holder.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Returns the address at which other replicas reach a port on `host`. Of a host that stands for all addresses it is the one from which this
/// machine (in a cluster: this pod) reaches others; loopback if it reaches none.
async fn reachable(host: IpAddr) -> IpAddr {
    if !host.is_unspecified() {
        return host;
    }
    // Of networks for documentation (RFC 5737, RFC 3849). Nothing is sent: connecting only looks the route up.
    let (v4, v6) = (
        Ipv4Addr::new(192, 0, 2, 1),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    );
    let targets: &[IpAddr] = if host.is_ipv4() {
        &[IpAddr::V4(v4)]
    } else {
        &[IpAddr::V6(v6), IpAddr::V4(v4)]
    };
    for target in targets {
        if let Ok(source) = source_towards(*target).await {
            return source;
        }
    }
    match host {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

async fn source_towards(target: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match target {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Any port: discard (RFC 863).
    socket.connect((target, 9)).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hints(address: &str) -> Hints {
        let address = address.parse().expect("an address");
        let hints = Hints::bind(address, "a-service-token-1".into()).await;
        hints.expect("a free port")
    }

    #[tokio::test]
    async fn a_lease_names_the_address_of_its_holder() {
        let (one, two) = (hints("127.0.0.1:0").await, hints("127.0.0.1:0").await);
        let holder = one.holder("feed-service:8891:0123");
        let leader = two.leader(&holder).expect("an address");
        assert_eq!(Some(leader.address), one.0.as_ref().map(|endpoint| endpoint.address));
        assert!(leader.address.ip().is_loopback());
        assert_ne!(leader.tag, two.leader(&two.holder("x")).expect("an address").tag);
        // Of an earlier release, of a replica without a port, and of no form that is known.
        for holder in [
            "feed-service:8891:0123",
            "feed-service:8891:0123@",
            "x@localhost:1",
            "x@1.2.3.4",
        ] {
            assert!(two.leader(holder).is_none(), "{holder}");
        }
        assert_eq!(Hints::off().holder("x"), "x");
        assert!(Hints::off().leader(&holder).is_none());
    }

    #[tokio::test]
    async fn the_pause_after_a_failed_receive_outlives_a_cancelled_call() {
        let (one, two) = (hints("127.0.0.1:0").await, hints("127.0.0.1:0").await);
        let (receiver, sender) = (one.0.as_ref().expect("a port"), two.0.as_ref().expect("a port"));
        let metrics = Relaying::of(&sosohappy_common::Context::system("test-service", 0));
        let holder = one.holder("feed-service:8891:0123");
        // A datagram to a closed port makes the next receive of its sender fail.
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = closed.local_addr().expect("bound");
        drop(closed);
        receiver.socket.connect(address).await.expect("connected");
        receiver.socket.send(&[0]).await.expect("sent");
        let until = loop {
            let call = one.received(&holder, &metrics);
            assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
            let paused_until = *receiver.paused_until.lock();
            if let Some(until) = paused_until {
                break until;
            }
        };
        receiver.socket.connect(sender.address).await.expect("connected");
        let leader = two.leader(&holder).expect("an address");
        two.send(&leader).await.expect("sent");
        one.received(&holder, &metrics).await;
        assert!(Instant::now() >= until, "received before the end of the pause");
        assert!(receiver.paused_until.lock().is_none());
    }

    #[tokio::test]
    async fn a_host_that_stands_for_all_is_not_the_address() {
        let endpoint = hints("0.0.0.0:0").await.0.expect("a port");
        assert!(endpoint.address.is_ipv4());
        assert!(!endpoint.address.ip().is_unspecified(), "{}", endpoint.address);
    }
}
