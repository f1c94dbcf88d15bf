//! How it goes, for people (a page at `/` of the ops listener) and programs (`/v1/status`).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use millstream_lane::Reach;
use millstream_model::{BitRate, EdgeId, Micros, StreamId, TrackerId, WallTime};
use millstream_service::ops;
use reqwest::StatusCode;
use serde::Serialize;

use crate::{book::Earnings, edge::Shared};

/// What an edge tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The edge.
    pub edge: EdgeId,
    /// Its program's version.
    pub version: &'static str,
    /// The tracker's time.
    pub time: WallTime,
    /// When this process began.
    pub began: WallTime,
    /// The tracker, and whether it can be reached.
    pub tracker: TrackerStatus,
    /// Where viewers reach it.
    pub address: AddressStatus,
    /// Viewers connected.
    pub viewers: usize,
    /// Viewers it takes at most.
    pub viewers_max: u32,
    /// What it sends now, as last told to the tracker.
    pub sending: BitRate,
    /// What it offers to send.
    pub capacity: BitRate,
    /// Media bytes sent to viewers since the process began.
    pub sent_bytes: u64,
    /// Bytes of feeds received since the process began.
    pub feed_bytes: u64,
    /// Feeds asked for since the process began.
    pub feed_requests: u64,
    /// What is in memory.
    pub cache: CacheStatus,
    /// Streams whose feed it has.
    pub streams: Vec<StreamId>,
    /// What was vouched for.
    pub vouchers: VoucherStatus,
    /// What was earned since the data folder was made.
    pub earnings: Earnings,
    /// Lanes that this edge ended since the process began, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Lanes that viewers ended with a reason since the process began.
    pub left: BTreeMap<String, u64>,
}

/// The tracker as this edge knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackerStatus {
    /// Where it is looked for.
    pub url: String,
    /// Its key; none before the first meeting.
    pub id: Option<TrackerId>,
    /// Whether this edge is registered there now.
    pub registered: bool,
}

/// Where viewers reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressStatus {
    /// Best first. Behind NAT: where it is seen from outside, as soon as that is known.
    pub sockets: Vec<SocketAddr>,
    /// It sends something first to each viewer that wants to come.
    pub behind_nat: bool,
    /// Its NAT shows each destination another port: few viewers get through.
    pub varies: bool,
}

/// What is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CacheStatus {
    /// Bytes.
    pub bytes: u64,
    /// Bytes at most.
    pub bytes_max: u64,
    /// Parts.
    pub parts: u64,
    /// Feeds open.
    pub feeds: u64,
    /// Pieces that did not fit their record.
    pub bad_pieces: u64,
    /// Signed objects from origins that were not believed.
    pub refused: u64,
}

/// What was vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VoucherStatus {
    /// Vouchers accepted from viewers since the process began.
    pub accepted: u64,
    /// Lanes whose latest voucher has no receipt yet.
    pub open: usize,
    /// What those will bring at least.
    pub due: Micros,
}

impl Status {
    pub(crate) fn of(shared: &Shared) -> Self {
        let (cache, streams) = {
            let cache = shared.store.cache();
            (cache.stats(), cache.warm().cloned().collect())
        };
        let (open, due, earnings) = {
            let book = shared.ledger.book();
            let (open, due) = book.open();
            (open, due, book.earnings().clone())
        };
        let endings = shared.endings.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = |viewer: bool| {
            let of = endings.iter().filter(|((by_viewer, _), _)| *by_viewer == viewer);
            of.map(|((_, reason), count)| (reason.clone(), *count)).collect()
        };
        Self {
            edge: millstream_wire::sign::Signer::public(&shared.identity.key),
            version: env!("CARGO_PKG_VERSION"),
            time: shared.clock.wall(),
            began: shared.clock.began(),
            tracker: TrackerStatus {
                url: shared.config.tracker.clone(),
                id: *shared.tracker.borrow(),
                registered: *shared.reach.borrow() != Reach::Out,
            },
            address: AddressStatus {
                sockets: shared.nat.address.borrow().sockets.clone(),
                behind_nat: shared.config.behind_nat,
                varies: shared.nat.varies(),
            },
            viewers: shared.viewers.load(Ordering::Relaxed),
            viewers_max: shared.config.viewers_max,
            sending: *shared.sending.lock().unwrap_or_else(PoisonError::into_inner),
            capacity: BitRate(shared.config.capacity),
            sent_bytes: shared.metrics.sent_bytes.get(),
            feed_bytes: shared.metrics.feed_bytes.get(),
            feed_requests: shared.metrics.feed_requests.get(),
            cache: CacheStatus {
                bytes: cache.bytes,
                bytes_max: shared.config.cache.bytes_max.max(millstream_cache::BYTES_MIN),
                parts: cache.parts,
                feeds: cache.feeds,
                bad_pieces: cache.bad_pieces,
                refused: cache.refused,
            },
            streams,
            vouchers: VoucherStatus { accepted: shared.metrics.vouchers.get(), open, due },
            earnings,
            refused: ended(false),
            left: ended(true),
        }
    }
}

/// Adds the page and the status to the ops listener. It outlives the edge by a moment, and holds nothing of it:
/// the data folder is free when the edge has ended.
pub(crate) fn routes(ops: ops::Listener, shared: &Arc<Shared>) -> ops::Listener {
    let shared = Arc::downgrade(shared);
    ops.route("/", |_| async { ops::html(include_str!("status.html")) }).route("/v1/status", move |_| {
        let status = shared.upgrade().map(|shared| Status::of(&shared));
        async move {
            match status {
                Some(status) => ops::json(&status),
                None => ops::text(StatusCode::SERVICE_UNAVAILABLE, "stopped\n"),
            }
        }
    })
}
