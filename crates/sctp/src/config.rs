//! What an association is told when it is made, with the reasons for the defaults.

use std::time::Duration;

/// Settings of one association. Many share one: hold it in an `Arc`.
#[derive(Debug, Clone)]
pub struct Config {
    /// SCTP port of both sides; they are told apart by DTLS, so it means nothing (RFC 8831 §6.2 defaults to 5000).
    pub port: u16,
    /// Streams we announce, each way. A page that opens more channels than this is refused.
    pub streams: u16,
    /// Bytes that may wait for the application, or for their missing neighbours: the receive window.
    pub receive_window_bytes: u32,
    /// Longest message taken, in bytes. Beyond it the association ends.
    pub message_bytes_max: usize,
    /// Bytes of messages that may wait to be sent or acknowledged.
    pub send_bytes_max: usize,
    /// Bytes of the largest packet that every path carries: 1,200 less what DTLS adds (RFC 8831 §5, RFC 8899 §5.1).
    pub packet_bytes_min: usize,
    /// Bytes of the largest packet that is probed for. As `packet_bytes_min`: no probing.
    pub packet_bytes_max: usize,
    /// The round trip, where a protocol below has measured it already; else the first timer waits for 500 ms.
    pub round_trip_hint: Option<Duration>,
    /// Which congestion controller.
    pub congestion: Congestion,
    /// Offer and take I-DATA (RFC 8260), by which an urgent message need not wait for the end of a long one.
    pub interleaving: bool,
    /// Say that packets without checksum are taken (RFC 9653): DTLS below has a better one.
    pub zero_checksum: bool,
    /// Timeouts in a row after which the peer counts as gone; none leaves that to consent (RFC 7675).
    pub timeouts_max: Option<u32>,
    /// Send a HEARTBEAT after so long a silence; none sends none (ICE consent does the same for data channels).
    pub heartbeat_interval: Option<Duration>,
}

/// Which congestion controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Congestion {
    /// A model of the path: rate and round trip.
    #[default]
    Bbr,
    /// RFC 9260's, as a reference.
    NewReno,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 5000,
            streams: 16,
            receive_window_bytes: 256 * 1024,
            message_bytes_max: 65_600,
            send_bytes_max: 1024 * 1024,
            packet_bytes_min: 1_160,
            packet_bytes_max: 1_160,
            round_trip_hint: None,
            congestion: Congestion::Bbr,
            interleaving: true,
            zero_checksum: true,
            timeouts_max: None,
            heartbeat_interval: None,
        }
    }
}
