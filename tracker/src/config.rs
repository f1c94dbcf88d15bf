//! What an operator of the tracker can set. `millstream-tracker --print-config` prints it with these comments.

use std::{net::SocketAddr, path::PathBuf};

use millstream_model::EdgeId;
use millstream_service::{Secret, http, ops, telemetry};

pub use crate::proxies::Network;

/// Bytes of a host's name at most (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

millstream_service::settings! {
    /// The tracker: finds edges for viewers and keeps the book.
    pub struct Config {
        /// Address and port for viewers, edges, packagers and the API; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8080)),
        /// Certificate and key for HTTPS; without them, HTTP.
        pub tls: http::tls::Config = Default::default(),
        /// The folder for the database and the tracker's key.
        pub data: PathBuf = PathBuf::from("data/tracker"),
        /// The URL that others reach this tracker by, without a slash at its end; empty: made from `listen`.
        pub public_url: String = String::new(),
        /// Where publishers push to, as shown to broadcasters; the stream key follows.
        pub rtmp_url: String = "rtmp://localhost/live".to_owned(),
        /// What the API wants as a bearer token; empty: made at the first start, printed once and kept in the data
        /// folder.
        pub admin_token: Secret<String> = Secret::new(String::new()),
        /// What packagers show; empty: the admin token.
        pub packager_token: Secret<String> = Secret::new(String::new()),
        /// Whether anybody may read `/v1/overview` (streams, edges and earnings, without secrets).
        pub open_overview: bool = true,
        /// Edges that may carry streams which are not public or ask for tickets, by their keys; empty: every edge that
        /// registers.
        pub private_edges: Vec<EdgeId> = Vec::new(),
        /// STUN servers (`host:port`, 4 at most) that edges behind NAT and their viewers ask where they are. Public edges
        /// answer such questions too, and are named after these.
        pub stun: Vec<String> = Vec::new(),
        /// Networks of the load balancers and TLS proxies before this tracker, like `10.0.0.0/8`: a request from there
        /// is taken to come from the rightmost address of its `X-Forwarded-For` that is in none of them. Anybody could
        /// write that field, so name only machines that set it themselves.
        pub trusted_proxies: Vec<Network> = Vec::new(),
        /// Bounds on viewers, by their address.
        pub admission: Admission = Default::default(),
        /// Bounds on HTTP and WebSocket connections.
        pub http: http::Limits = http::Limits { connections_max: 50_000, ..Default::default() },
        /// Milliseconds for what is in hand when the program ends.
        pub grace_ms: u64 = 5_000,
        /// Health, metrics and status.
        pub ops: ops::Config = ops::Config { listen: SocketAddr::from(([127, 0, 0, 1], 9100)) },
        /// Logs.
        pub log: telemetry::Config = Default::default(),
    }
}

millstream_service::settings! {
    /// How often one address may join streams, open ones and those with tickets: each session costs the broadcaster a
    /// reserve.
    pub struct Admission {
        /// Sessions at a time from one address (an IPv4 address, an IPv6 /56). Above homes and offices behind one
        /// NAT, below a machine that pretends to be an audience.
        pub sessions_per_address: u32 = 256,
        /// Joins a minute from one address, after as many at once as may watch at a time: leaving makes room at once,
        /// what is set aside for a session comes free later.
        pub joins_per_minute: u32 = 60,
        /// Joins a day from one address.
        pub joins_per_day: u32 = 10_000,
        /// Sessions at a time in all.
        pub sessions_max: u32 = 100_000,
        /// Edges registered at a time.
        pub edges_max: u32 = 10_000,
    }
}

/// Whether a text is `host:port`, as in a `stun:` URL (RFC 7064): a name, an IPv4 or a bracketed IPv6 address, and a port.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let named = |host: &str| {
        let is_sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(is_sound)
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let has_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    has_port && bracketed.map_or_else(|| named(host), |ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
}
