//! Who a request comes from when there are proxies of our own before us.
//!
//! What is counted by address (sessions, joins) must be counted by viewer, not by load balancer. So before any route
//! sees a request, its [`Peer`] is put right.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use hyper::{HeaderMap, Request, service::Service};
use millstream_service::http::Peer;
use serde::{Deserialize, Serialize};

/// Addresses of an `X-Forwarded-For` that are looked at: more proxies than anybody has in a row.
const HOPS_MAX: usize = 16;

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address, or an address, a slash and how many of its bits count, like 10.0.0.0/8")]
pub struct NetworkError;

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let significant = |octets: &[u8]| -> Vec<u8> {
            let mut bits = usize::from(self.bits);
            octets
                .iter()
                .map(|octet| {
                    let kept = bits.min(8);
                    bits -= kept;
                    octet & (0xff_u16 << (8 - kept)).to_be_bytes()[1]
                })
                .collect()
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                significant(&own.octets()) == significant(&other.octets())
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                significant(&own.octets()) == significant(&other.octets())
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(whole), |bits| bits.parse().map_err(|_| NetworkError))?;
        if bits > whole {
            return Err(NetworkError);
        }
        Ok(Self { address, bits })
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The proxies whose word on who asks is believed.
#[derive(Debug, Clone)]
pub(crate) struct Trusted(Arc<[Network]>);

impl Trusted {
    pub(crate) fn new(networks: Vec<Network>) -> Self {
        Self(networks.into())
    }

    /// Puts every request's [`Peer`] right before `service` sees it.
    pub(crate) const fn before<S>(self, service: S) -> Proxied<S> {
        Proxied { trusted: self, service }
    }

    /// The rightmost address that is no proxy of ours; the proxy itself when it names nobody.
    fn client(&self, from: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_trusted = |address: IpAddr| self.0.iter().any(|network| network.contains(address));
        if !is_trusted(from) {
            return from;
        }
        let lines: Vec<&str> =
            headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
        let mut client = from;
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(HOPS_MAX) {
            // What is left of something that is no address was written by whoever liked.
            let Some(address) = address(hop.trim()) else { break };
            client = address;
            if !is_trusted(address) {
                break;
            }
        }
        client
    }
}

/// An address as proxies write it: plain, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|socket: std::net::SocketAddr| socket.ip());
    text.parse().ok().or_else(bare).or_else(with_port)
}

/// A service behind trusted proxies.
#[derive(Debug, Clone)]
pub(crate) struct Proxied<S> {
    trusted: Trusted,
    service: S,
}

impl<B, S: Service<Request<B>>> Service<Request<B>> for Proxied<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<B>) -> S::Future {
        if !self.trusted.0.is_empty()
            && let Some(peer) = request.extensions().get::<Peer>().copied()
        {
            let mut address = peer.address;
            address.set_ip(self.trusted.client(address.ip(), request.headers()));
            request.extensions_mut().insert(Peer { address, ..peer });
        }
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], from: &str, lines: &[&str]) -> String {
        let trusted = Trusted::new(trusted.iter().map(|network| network.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        trusted.client(from.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn without_proxies_nobody_is_believed() {
        assert_eq!(client(&[], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client(&["10.0.0.0/8"], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_asks() {
        let ours = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(client(&ours, "10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&ours, "::ffff:10.0.0.1", &["198.51.100.7, 10.2.3.4"]), "198.51.100.7");
        assert_eq!(client(&ours, "10.0.0.1", &["203.0.113.9, 198.51.100.7", "fd00::1"]), "198.51.100.7");
        assert_eq!(client(&ours, "fd00::2", &["[2001:db8::7]:4711"]), "2001:db8::7");
    }

    #[test]
    fn what_a_viewer_writes_itself_counts_for_nothing() {
        let ours = ["10.0.0.0/8"];
        assert_eq!(client(&ours, "10.0.0.1", &["127.0.0.1, 1.1.1.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&ours, "10.0.0.1", &["198.51.100.7, rubbish"]), "10.0.0.1");
        assert_eq!(client(&ours, "10.0.0.1", &[]), "10.0.0.1");
        let long = vec!["10.9.9.9"; 10_000].join(",");
        assert_eq!(client(&ours, "10.0.0.1", &[&long]), "10.9.9.9");
    }

    #[test]
    fn networks_are_read_strictly_and_written_as_read() {
        for text in ["10.0.0.0/8", "192.0.2.7/32", "::/0", "fd00::/8", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.7".parse::<Network>().unwrap().to_string(), "192.0.2.7/32");
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8", "a/8"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("8.8.8.8".parse().unwrap()));
    }
}
