//! The SRT ingest's settings.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use millstream_service::Secret;

use crate::ingest::Terms;

millstream_service::settings! {
    /// SRT ingest: where publishers push MPEG transport streams to, their key in the stream id.
    pub struct Config {
        /// Whether to listen at all.
        pub on: bool = false,
        /// Address and UDP port to listen on; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8890)),
        /// When set, callers must encrypt with it (AES-128), else none may: 10 to 79 characters. It keeps a key from
        /// being read on the way no more than the stream id does, which SRT never encrypts.
        pub passphrase: Secret<String> = Secret::new(String::new()),
        /// Milliseconds that packets wait for lost ones to be sent again, at least; a caller that asks for more gets
        /// more. Three to four round trips are enough.
        pub latency_ms: u64 = 120,
        /// Callers at once, publishers and those that want to become one. A publisher holds up to 40 MiB, most of it
        /// only while nobody takes its samples.
        pub connections_max: usize = 128,
        /// Callers whose key was not found good yet, at most. Each holds 2 KiB.
        pub waiting_max: usize = 64,
        /// The same from one address (IPv6: one /64), so that one host cannot keep all others out.
        pub waiting_per_address_max: usize = 8,
        /// Beginnings of a connection that are answered in a second, at most; more are not heard.
        pub handshakes_per_second_max: u32 = 200,
        /// To check a stream key and hand the publisher over, at most, in milliseconds.
        pub admit_timeout_ms: u64 = 5_000,
        /// A publisher from whom no packet comes for so long is gone, in milliseconds. Short, for an encoder that
        /// was killed cannot say goodbye, and its key is taken until then.
        pub idle_timeout_ms: u64 = 5_000,
        /// A publisher whose packets hold no picture and no sound for so long is cut off, in milliseconds.
        pub media_timeout_ms: u64 = 15_000,
        /// Bytes of samples that wait for the segmenter at most, per publisher. Counts as 8 MiB where it is less,
        /// because one sample may be that long.
        pub queue_bytes_max: usize = 16 * 1024 * 1024,
    }
}

/// Packets that wait for lost ones, per publisher: a second and a half of 60 Mbit/s, 12 MiB at most.
const BUFFER_PACKETS_MAX: usize = 8192;

impl Config {
    /// How the protocol is to behave. The text of an error says which setting is wrong.
    pub(super) fn listener(&self) -> Result<sapflow_srt::Config, &'static str> {
        let passphrase = self.passphrase.expose();
        let crypto = if passphrase.is_empty() {
            None
        } else {
            let size = sapflow_srt::crypto::KeySize::Aes128;
            let crypto = sapflow_srt::crypto::CryptoConfig::new(passphrase.as_bytes().to_vec(), size);
            Some(crypto.map_err(|_| "`srt.passphrase` must have 10 to 79 characters")?)
        };
        Ok(sapflow_srt::Config {
            latency: Duration::from_millis(self.latency_ms),
            max_connections: self.connections_max,
            handshakes_per_second: self.handshakes_per_second_max,
            buffer_packets: BUFFER_PACKETS_MAX,
            peer_idle: Duration::from_millis(self.idle_timeout_ms),
            // Ours ends first, and says why.
            accept_timeout: Duration::from_millis(self.admit_timeout_ms) * 2,
            require_encryption: crypto.is_some(),
            crypto,
            allow_plaintext: false,
        })
    }

    pub(super) fn terms(&self) -> Terms {
        Terms {
            patience: Duration::from_millis(self.admit_timeout_ms),
            queue_bytes_max: self.queue_bytes_max,
        }
    }

    pub(super) fn media_timeout(&self) -> Duration {
        Duration::from_millis(self.media_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_that_srt_cannot_have_is_refused_by_name() {
        assert!(Config::default().listener().is_ok_and(|config| config.crypto.is_none()));
        let short = Config { passphrase: Secret::new("short".to_owned()), ..Config::default() };
        assert!(short.listener().unwrap_err().contains("srt.passphrase"));
        let good = Config { passphrase: Secret::new("long enough".to_owned()), ..Config::default() };
        assert!(good.listener().is_ok_and(|config| config.require_encryption));
    }
}
