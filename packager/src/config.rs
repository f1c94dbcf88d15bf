//! The packager's settings.

use std::path::PathBuf;

use millstream_service::{ops, telemetry, trust};

use crate::{events, gate, ingest, keep, origin, policy, renditions, window};

millstream_service::settings! {
    /// The packager: RTMP in, signed low-latency HLS out.
    pub struct Config {
        /// Folder for its key and counts. They must outlive it: numbers that were used must not come again.
        pub data: PathBuf = PathBuf::from("millstream-packager"),
        /// The tracker that knows streams and their keys.
        pub tracker: gate::TrackerConfig = Default::default(),
        /// Whom to believe when connecting to the tracker and to webhooks by TLS.
        pub trust: trust::Config = Default::default(),
        /// Without a tracker: streams and the keys of their publishers, e.g. `[{ stream = "demo", key = "secret" }]`.
        /// They are public, nobody is paid, and the root key is made in the data folder.
        pub local: Vec<gate::LocalStream> = Vec::new(),
        /// Cameras to fetch streams from, for ever, e.g. `[{ stream = "cam", url = "rtsp://name:password@10.0.0.9/live" }]`.
        /// Each is for a `local` stream, or has a `key` beside.
        pub pull: Vec<ingest::pull::Pull> = Vec::new(),
        /// Streams at a time at most.
        pub streams_max: usize = 64,
        /// What publishers may do.
        pub policy: policy::Config = Default::default(),
        /// Milliseconds for what is in hand when the program ends.
        pub grace_ms: u64 = 5_000,
        /// RTMP ingest.
        pub rtmp: ingest::Config = Default::default(),
        /// SRT ingest.
        pub srt: ingest::srt::Config = Default::default(),
        /// Renditions beside the publisher's own.
        pub renditions: renditions::Config = Default::default(),
        /// WHIP ingest.
        pub whip: ingest::whip::Config = Default::default(),
        /// HTTP origin.
        pub origin: origin::Config = Default::default(),
        /// Live window.
        pub window: window::Config = Default::default(),
        /// Events.
        pub events: events::Config = Default::default(),
        /// Recordings and the DVR window.
        pub keep: keep::Config = Default::default(),
        /// Ops listener.
        pub ops: ops::Config = ops::Config { listen: std::net::SocketAddr::from(([127, 0, 0, 1], 9101)) },
        /// Logs.
        pub log: telemetry::Config = Default::default(),
    }
}
