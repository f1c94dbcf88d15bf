//! What an operator of an edge can set. `millstream-edge --print-config` prints it with these comments.

use std::{net::SocketAddr, path::PathBuf};

use millstream_model::PublicKey;
use millstream_service::{ops, telemetry, trust};

millstream_service::settings! {
    /// The edge: takes a rendition's feed once, passes it on over data channels, and earns.
    pub struct Config {
        /// UDP address and port for viewers; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 4443)),
        /// Addresses that viewers reach it by, best first, 1 to 4. Empty: `listen`, and where that is 0.0.0.0 or
        /// [::], the address this machine uses towards the tracker.
        pub public: Vec<SocketAddr> = Vec::new(),
        /// For a machine at home, behind a router that lets nobody in: the edge finds out where it is seen from outside,
        /// and opens the way for each viewer that wants to come. No port has to be forwarded for that. Where the log
        /// warns that the NAT shows each destination another port, forward one all the same, and set `public` instead.
        pub behind_nat: bool = false,
        /// With `behind_nat`: servers that tell it where it is seen (STUN), as `host:port`, up to 4; two are enough. They
        /// are asked before those that the tracker names. Empty: those alone.
        pub stun: Vec<String> = Vec::new(),
        /// The folder for keys, vouchers and earnings.
        pub data: PathBuf = PathBuf::from("data/edge"),
        /// The tracker's URL: `https://…`, or `http://…` for tests.
        pub tracker: String = String::from("http://localhost:8080"),
        /// The tracker's key, when it shall be this one and no other. Otherwise whoever answers at the URL is it.
        pub tracker_key: Option<PublicKey> = None,
        /// Whom to believe when connecting to tracker and origins by TLS.
        pub trust: trust::Config = Default::default(),
        /// Bits a second it offers to send, all viewers together.
        pub capacity: u64 = 1_000_000_000,
        /// Threads that serve viewers, behind the one address; 0 takes one for each processor.
        pub cores: u16 = 0,
        /// Viewers at a time.
        pub viewers_max: u32 = 500,
        /// Bytes buffered for sending to one viewer, unacknowledged ones included: rate × round trip must fit.
        pub send_bytes_max: usize = 512 * 1024,
        /// What it keeps in memory.
        pub cache: Cache = Default::default(),
        /// Milliseconds viewers get to move elsewhere when it stops.
        pub drain_ms: u64 = 5_000,
        /// Health, metrics and status.
        pub ops: ops::Config = ops::Config { listen: SocketAddr::from(([127, 0, 0, 1], 9102)) },
        /// Logs.
        pub log: telemetry::Config = Default::default(),
    }
}

millstream_service::settings! {
    /// The edge's memory for media.
    pub struct Cache {
        /// Bytes of records and pieces over all streams; at least 32 MiB are used.
        pub bytes_max: u64 = 512 * 1024 * 1024,
        /// Streams it knows at the same time.
        pub streams_max: usize = 256,
        /// Milliseconds a feed stays open after its last viewer.
        pub linger_ms: u64 = 15_000,
    }
}
