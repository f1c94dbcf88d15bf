//! What must hold for any bytes: one function for each door that outsiders knock at.
//!
//! Each function takes bytes and panics when a property is broken: that what reads also writes the same bytes, that
//! cuts make no difference, that a model too simple to be wrong agrees, that nothing grows beyond its bound. `cargo
//! fuzz` (`scripts/fuzz`) feeds them for as long as it likes, through `fuzz_targets/`; `tests/replay.rs` feeds the same
//! functions the committed corpora and seeded changes of them, on stable, in every `make test`.
//!
//! Models and worlds are those of the crates' own tests, included by path: there is one of each.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "to panic is how a broken property is told")]

extern crate alloc;

mod association;
mod cache;
mod datachannel;
mod door;
mod lane;
mod ledger;
mod playlist;
mod rtmp;
mod script;
mod sctp;
mod segmenter;
mod swarm;
mod ticket;
mod wire;

// Out of crates' tests, and private rooms that read from outside. They name each other by these names.
#[allow(dead_code, reason = "the door's own code uses the rest")]
#[path = "../../crates/swarm-wasm/src/json.rs"]
mod json;
#[allow(dead_code, reason = "the door's own code uses the rest")]
#[path = "../../crates/swarm-wasm/src/message.rs"]
mod message;
#[allow(dead_code, reason = "the ledger's own tests use the rest")]
#[path = "../../crates/ledger/tests/it/model.rs"]
mod model;
#[allow(dead_code, reason = "the ledger's own tests use the rest")]
#[path = "../../crates/ledger/tests/it/stage.rs"]
mod stage;
#[allow(dead_code, reason = "the ledger's own tests use the rest")]
#[path = "../../crates/ledger/tests/it/world.rs"]
mod world;

/// A property, by the name of its target, its corpus and its test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Holds the property against these bytes.
    pub run: fn(&[u8]),
    /// How many seeded changes of its corpus are tried on stable: as many as a second or two allows.
    pub changes: usize,
}

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident = $run:path, $changes:literal;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(data: &[u8]) {
                $run(data);
            }
        )*

        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $name, changes: $changes },)*];
    };
}

targets! {
    /// Peer frames: what reads, writes the same bytes.
    frame = wire::frame, 20_000;
    /// The feed: frames behind lengths, in any cuts.
    feed = wire::feed, 10_000;
    /// Signed objects of every kind: one encoding, one text form.
    signed = wire::signed, 20_000;
    /// Delegations, catalogs and records, true, forged and forked, in any order: no two truths for one place.
    chain = wire::chain, 300;
    /// The tracker's messages, all ways: what reads, writes and reads again the same.
    tracker_message = wire::tracker_message, 10_000;
    /// Tickets: nothing unsigned admits, and nothing signed for longer than its life.
    ticket = ticket::ticket, 1_000;
    /// A publisher's connection: cuts make no difference, memory has a bound.
    rtmp_connection = rtmp::connection, 1_000;
    /// RTMP's messages out of interleaved pieces: cuts make no difference, what was read can be written.
    rtmp_messages = rtmp::messages, 5_000;
    /// AMF0 values: read, write and read again.
    rtmp_values = rtmp::values, 20_000;
    /// Tags of an admitted publisher, through to the segmenter: every rule for parts holds.
    rtmp_media = rtmp::media, 1_000;
    /// Codec configurations: those that are taken make init segments that parse.
    segmenter_setup = segmenter::setup, 5_000;
    /// Samples in any order, at any time: every rule for parts holds, memory has a bound.
    segmenter = segmenter::segmenter, 300;
    /// The playlist checker reads any text.
    playlist = playlist::playlist, 5_000;
    /// Media URLs: one spelling for each thing.
    playlist_url = playlist::url, 20_000;
    /// STUN: nothing changed is authentic, what we write we read.
    stun = datachannel::stun, 5_000;
    /// Datagrams: who they are for, and what of DTLS and SCTP is let in.
    datagram = datachannel::datagram, 20_000;
    /// SCTP packets: what reads, writes and reads again the same.
    sctp_packet = sctp::packet, 10_000;
    /// Messages about data channels: bounded, one form.
    dcep = sctp::dcep, 20_000;
    /// Two associations among losses and forgeries: nothing grows or storms, and what honest peers send arrives.
    association = association::association, 1_500;
    /// A lane of an edge: window, cap and queues hold whatever a viewer says.
    lane = lane::lane, 80;
    /// An edge's cache: the bound holds, and only what was signed is visible.
    cache = cache::cache, 200;
    /// A viewer's swarm among liars: nothing unverified is delivered, nothing grows without bound.
    swarm = swarm::swarm, 200;
    /// The browser's door: bytes in, bytes out, never a trap.
    door = door::door, 3_000;
    /// The door's own JSON, beside serde's.
    door_message = door::message, 10_000;
    /// The book beside its model: sums are zero, nothing is paid twice, replays move nothing.
    ledger = ledger::ledger, 60;
}
