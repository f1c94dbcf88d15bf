//! The ingest's settings, and what they let a connection hold.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    Terms,
    conversation::{PUBLISHER_READ_BYTES, READ_BYTES},
    events,
    seat::Limits,
    tls,
};

millstream_service::settings! {
    /// RTMP ingest: where publishers push to.
    pub struct Config {
        /// Address and port to listen on; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1935)),
        /// Connections at once, publishers and those that want to become one. A publisher holds up to 37 MiB, most
        /// of it only while it sends keyframes of megabytes or nobody takes its samples.
        pub connections_max: usize = 512,
        /// Connections whose key was not found good yet, at most. Each holds up to 100 KiB.
        pub waiting_max: usize = 128,
        /// The same from one address (IPv6: one /64), so that one host cannot keep all others out. Raise it to
        /// `waiting_max` behind a proxy that hides addresses.
        pub waiting_per_address_max: usize = 16,
        /// From connecting to asking to publish, at most, in milliseconds; with RTMPS, as long again for its handshake.
        pub handshake_timeout_ms: u64 = 10_000,
        /// To check a stream key and hand the publisher over, at most, in milliseconds.
        pub admit_timeout_ms: u64 = 5_000,
        /// A publisher from whom nothing comes for so long is gone, in milliseconds; so is one that does not take
        /// what it is sent.
        pub idle_timeout_ms: u64 = 15_000,
        /// Bytes of samples that wait for the segmenter at most, per publisher. When they are there, the socket is
        /// not read. Counts as 8 MiB where it is less, because one sample may be that long.
        pub queue_bytes_max: usize = 16 * 1024 * 1024,
        /// RTMPS. TLS adds up to 100 KiB to what a connection holds.
        pub tls: tls::Config = Default::default(),
    }
}

/// The only application there is; people know it from every other server.
pub(super) const APP: &str = "live";

impl Config {
    /// How the protocol's core is to behave.
    pub(super) fn rtmp(&self) -> millstream_rtmp::Config {
        millstream_rtmp::Config {
            app: APP.to_owned(),
            handshake_timeout: self.handshake_timeout(),
            idle_timeout: self.idle_timeout(),
            ..millstream_rtmp::Config::default()
        }
    }

    pub(super) fn seats(&self) -> Limits {
        Limits {
            connections_max: self.connections_max,
            waiting_max: self.waiting_max,
            waiting_per_address_max: self.waiting_per_address_max,
        }
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(super) fn terms(&self) -> Terms {
        Terms {
            patience: Duration::from_millis(self.admit_timeout_ms),
            queue_bytes_max: self.queue_bytes_max,
        }
    }
}

/// Bytes that a connection whose key was not found good may hold, its read buffer included.
#[must_use]
pub fn unadmitted_bytes_max() -> usize {
    millstream_rtmp::Config::default().unadmitted_bytes_max(READ_BYTES) + READ_BYTES
}

/// Bytes that a publisher may hold: unfinished messages, read buffer, and what waits in its queue.
#[must_use]
pub fn admitted_bytes_max(config: &Config) -> usize {
    let queue = events::queue_bytes(config.queue_bytes_max);
    let read = PUBLISHER_READ_BYTES;
    millstream_rtmp::Config::default().admitted_bytes_max(read) + read + queue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_what_the_manual_says() {
        assert!(unadmitted_bytes_max() <= 100 * 1024, "{}", unadmitted_bytes_max());
        let publisher = admitted_bytes_max(&Config::default());
        assert!(publisher <= 37 * 1024 * 1024, "{publisher}");
    }
}
