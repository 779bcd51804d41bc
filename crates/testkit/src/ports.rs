//! Ports that no other process takes.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// Reserves TCP ports of loopback for the servers of one test until it is dropped, also while a server is down.
///
/// Each port is held by a bound socket that does not listen. With `SO_REUSEADDR` on both sockets, which every server of the fleet
/// sets, a server may bind to the port and listen on it (socket(7)). The kernel assigns the port to no outgoing connection and to no
/// other bind to port 0, in any process.
#[derive(Debug, Default)]
pub struct ReservedPorts(Vec<TcpSocket>);

impl ReservedPorts {
    /// Reserves one more port.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub fn reserve(&mut self) -> u16 {
        let socket = TcpSocket::new_v4().expect("a socket can be created");
        socket.set_reuseaddr(true).expect("a new socket takes options");
        socket
            .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .expect("loopback has a free port");
        let port = socket.local_addr().expect("a bound socket has an address").port();
        self.0.push(socket);
        port
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use super::ReservedPorts;

    #[test]
    fn reserved_ports_are_assigned_to_no_other_socket() {
        let mut reserved = ReservedPorts::default();
        let ports: HashSet<_> = (0..200).map(|_| reserved.reserve()).collect();
        assert_eq!(ports.len(), 200, "no port is reserved twice");

        let others: Vec<_> = (0..2000).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for other in &others {
            assert!(!ports.contains(&other.local_addr().unwrap().port()));
        }
        let target = others[0].local_addr().unwrap();
        for _ in 0..2000 {
            let outgoing = std::net::TcpStream::connect(target).unwrap();
            others[0].accept().unwrap();
            assert!(!ports.contains(&outgoing.local_addr().unwrap().port()));
        }
    }

    #[test]
    fn a_server_can_listen_on_its_reserved_port_repeatedly() {
        let mut reserved = ReservedPorts::default();
        let port = reserved.reserve();
        for _ in 0..3 {
            let server = TcpListener::bind(("127.0.0.1", port)).unwrap();
            assert!(
                TcpListener::bind(("127.0.0.1", port)).is_err(),
                "a second server is refused while the first listens"
            );
            drop(server);
        }
    }
}
