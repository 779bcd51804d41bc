//! The client address of a request: the peer's, or the one that trusted proxies forward.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::extract::Request;
use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// The most entries of `X-Forwarded-For` that are read, from the right: more hops than any deployment has.
const MOST_HOPS: usize = 16;
/// A site has an IPv6 network of at least this size (RFC 6177), and may call from a new address in it each time.
const PREFIX_V6: u32 = 64;

/// The key of a client's quota: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Returns the class of the address, which tells a person more about a session than its number: `loopback`, `private` (a home or company
    /// network) or `public`.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self.0 {
            IpAddr::V4(v4) if v4.is_loopback() => "loopback",
            IpAddr::V4(v4) if v4.is_private() || v4.is_link_local() => "private",
            IpAddr::V6(v6) if v6 == Ipv6Addr::LOCALHOST || v6 == Ipv6Addr::UNSPECIFIED => "loopback",
            IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() => "private",
            IpAddr::V4(_) | IpAddr::V6(_) => "public",
        }
    }

    /// Returns the IPv4 address, or the IPv6 network of 64 bits. Personal data: it reaches no log line.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }

    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - PREFIX_V6))).into(),
        })
    }
}

/// Returns the client of a request. Requests without a known peer (a test without a connection) share `0.0.0.0`: none is
/// left uncounted.
pub(crate) fn client_address(request: &Request, trusted: &[IpNet]) -> ClientAddress {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    ClientAddress::of(behind_proxies(peer, request.headers(), trusted))
}

/// Returns the right-most address that is not a trusted proxy's. Each proxy appends the address of its peer, so entries left of
/// the first untrusted address come from the client itself and are ignored.
fn behind_proxies(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    // Several fields are one list (RFC 9110, section 5.3): the last field holds the right-most entries.
    let fields = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries.take(MOST_HOPS) {
        if !is_trusted(&client) {
            break;
        }
        // No proxy writes an invalid entry: the last valid hop counts as the client.
        let Some(address) = parse(entry) else { break };
        client = address.to_canonical();
    }
    client
}

/// Parses an address, with or without a port: `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(entry).parse().ok();
    address.or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(peer: &str, fields: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FORWARDED_FOR, field.parse().unwrap());
        }
        behind_proxies(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(found("192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(found("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "an untrusted peer");
        assert_eq!(found("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(found("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(found("fd00::1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(found("10.0.0.1", &[]), "10.0.0.1", "the proxy itself");
    }

    #[test]
    fn addresses_written_by_the_client_are_ignored() {
        assert_eq!(found("10.0.0.1", &["203.0.113.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            found("10.0.0.1", &["203.0.113.1, 10.9.9.9, 198.51.100.7, 10.0.0.2"]),
            "198.51.100.7"
        );
        assert_eq!(found("10.0.0.1", &["203.0.113.1", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(found("10.0.0.1", &["203.0.113.1, unknown"]), "10.0.0.1");
        assert_eq!(found("10.0.0.1", &["203.0.113.1, "]), "10.0.0.1");
        assert_eq!(
            found("10.0.0.1", &["10.0.0.3, 10.0.0.2"]),
            "10.0.0.3",
            "a client inside"
        );
        let many = "10.0.0.2,".repeat(10_000);
        assert_eq!(found("10.0.0.1", &[&format!("203.0.113.1,{many}10.0.0.2")]), "10.0.0.2");
    }

    #[test]
    fn invalid_entries_are_ignored() {
        for invalid in [
            "",
            "   ",
            "unknown",
            "_hidden",
            "[",
            "]",
            "[]",
            "[]:1",
            ":",
            "::::",
            "1.2.3",
            "198.51.100.7:99999",
        ] {
            let list = format!("203.0.113.1, {invalid}");
            assert_eq!(found("10.0.0.1", &[&list]), "10.0.0.1", "{invalid:?}");
        }
        let opaque = http::HeaderValue::from_bytes(b"203.0.113.1, \xff\xfe").expect("obs-text is valid in a header");
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(FORWARDED_FOR), opaque)]);
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(behind_proxies(peer, &headers, &trusted), peer);
    }

    #[test]
    fn ports_and_brackets_are_understood() {
        assert_eq!(found("10.0.0.1", &["198.51.100.7:8443"]), "198.51.100.7");
        assert_eq!(found("10.0.0.1", &["[2001:db8::1]:8443"]), "2001:db8::1");
        assert_eq!(found("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(found("10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let of = |address: &str| ClientAddress::of(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
