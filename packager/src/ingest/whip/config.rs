//! The WHIP ingest's settings.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use millstream_service::http;

use crate::ingest::{Terms, seat::Limits};

millstream_service::settings! {
    /// WHIP ingest: where browsers and OBS publish to over WebRTC, by `POST /whip` with their key as bearer token.
    pub struct Config {
        /// Whether to listen at all.
        pub on: bool = false,
        /// Address and TCP port for HTTP; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8889)),
        /// Address and UDP port for media of all publishers; port 0 takes a free one.
        pub media: SocketAddr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8189)),
        /// Addresses at which publishers reach the UDP port, told to them. Empty: the one it listens on, or the one from
        /// which this machine reaches the publisher. Behind NAT it must be set, and the port forwarded as it is.
        pub public_addresses: Vec<IpAddr> = Vec::new(),
        /// Publishers at once. One holds up to 27 MiB, most of it only while nobody takes its samples.
        pub connections_max: usize = 128,
        /// Offers whose key was not found good yet, at most. Each holds up to 64 KiB.
        pub waiting_max: usize = 64,
        /// The same from one address (IPv6: one /64), so that one host cannot keep all others out. Raise it to
        /// `waiting_max` behind a proxy that hides addresses.
        pub waiting_per_address_max: usize = 8,
        /// To check a stream key and hand the publisher over, at most, in milliseconds.
        pub admit_timeout_ms: u64 = 5_000,
        /// From the answer to a connection, at most, in milliseconds; the stream's key is taken meanwhile.
        pub connect_timeout_ms: u64 = 10_000,
        /// A publisher from whom no packet comes for so long is gone, in milliseconds. Short, for a page that was killed
        /// cannot say goodbye, and its key is taken until then.
        pub idle_timeout_ms: u64 = 5_000,
        /// A connected publisher who sends no picture and no sound for so long is cut off, in milliseconds.
        pub media_timeout_ms: u64 = 15_000,
        /// A keyframe is asked for when the last is so old, in milliseconds: browsers send none by themselves. OBS does not
        /// listen to that; there the encoder's setting counts.
        pub keyframe_every_ms: u64 = 2_000,
        /// Bytes of samples that wait for the segmenter at most, per publisher. Counts as 8 MiB where it is less,
        /// because one sample may be that long.
        pub queue_bytes_max: usize = 16 * 1024 * 1024,
        /// TLS, when certificate files are named. Browsers give a camera to pages from `https:` alone, and those may ask
        /// nothing of `http:`; a proxy before this will do as well.
        pub tls: http::tls::Config = Default::default(),
        /// Bounds on HTTP connections.
        pub http: http::Limits = http::Limits { connections_max: 512, ..Default::default() },
    }
}

impl Config {
    pub(super) fn seats(&self) -> Limits {
        Limits {
            connections_max: self.connections_max,
            waiting_max: self.waiting_max,
            waiting_per_address_max: self.waiting_per_address_max,
        }
    }

    pub(super) fn terms(&self) -> Terms {
        Terms {
            patience: Duration::from_millis(self.admit_timeout_ms),
            queue_bytes_max: self.queue_bytes_max,
        }
    }
}
