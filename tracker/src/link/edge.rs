//! An edge's conversation: challenge, registration, then status, lookups and vouchers until it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use millstream_ledger::voucher::Bringer;
use millstream_model::EdgeId;
use millstream_service::tasks::{Drain, Spawner};
use millstream_wire::{
    session::Voucher,
    sign::Signed,
    tracker::{Challenge, FaultCode, FromEdge, ToEdge},
};
use tokio::{sync::mpsc, time::Instant};

use super::{Budget, INTRODUCTION, PING_EVERY, spread_ms};
use crate::{
    hub::{EdgeOfferings, Hub, QUEUE_MAX, REPORT_MS, fault, now},
    socket::{Received, Socket},
};

/// An edge whose connection is lost may come back in this time before its viewers are given others.
const COMEBACK: Duration = Duration::from_secs(5);

/// Vouchers of one edge being booked at the same time, so that they share a commit. Above it, the edge is not heard.
const BOOKINGS_MAX: usize = 64;

/// Vouchers a second of an edge at most, beside those for its lanes: what it brings at the end of lanes.
const VOUCHERS_PER_SECOND: usize = 50;

/// Of this many lanes one brings a voucher in a second at most. An edge brings each lane's newest every ten seconds,
/// and at its close; after an absence, all of them at once.
const LANES_PER_VOUCHER: usize = 2;

/// Talks to one edge until either side ends it.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    mut socket: Socket,
    address: SocketAddr,
    drain: Drain,
    tasks: Spawner,
) {
    let challenge = match hub.challenge() {
        Ok(challenge) => challenge,
        Err(fault) => return drop(socket.send(&ToEdge::Error(fault)).await),
    };
    if socket.send(&ToEdge::Challenge(challenge.clone())).await.is_err() {
        return;
    }
    let (link, queue) = mpsc::channel(QUEUE_MAX);
    let mut edge = Edge { hub: Arc::clone(&hub), challenge, link, id: None };
    edge.talk(&mut socket, queue, &drain).await;
    if let Some(id) = edge.id
        && hub.unregister(id, &edge.link)
    {
        tracing::info!(edge = %id, %address, "edge gone");
        tasks.spawn_until_drain("edge comeback", async move {
            tokio::time::sleep(COMEBACK).await;
            if !hub.edges.contains_key(&id) {
                hub.replace(id, "the edge is gone").await;
            }
        });
    }
    socket.close("goodbye").await;
}

struct Edge {
    hub: Arc<Hub>,
    challenge: Challenge,
    link: mpsc::Sender<ToEdge>,
    id: Option<EdgeId>,
}

impl Edge {
    async fn talk(&mut self, socket: &mut Socket, mut queue: mpsc::Receiver<ToEdge>, drain: &Drain) {
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.reset();
        let mut silent = 0;
        let mut budget = Budget::new();
        let mut pace = Pace { until: Instant::now(), left: 0 };
        let mut booking = FuturesUnordered::new();
        let introduced_by = Instant::now() + INTRODUCTION;
        let mut deaf_until = None;
        loop {
            let hears = deaf_until.is_none() && booking.len() < BOOKINGS_MAX;
            let answer = tokio::select! {
                received = socket.receive::<FromEdge>(), if hears => {
                    silent = 0;
                    match (received, self.id) {
                        (None, _) => return,
                        // An edge brings the vouchers of all its viewers: it is not cut off for them, but slowed down.
                        (Some(Received::Message(FromEdge::Voucher { voucher })), Some(edge)) => {
                            deaf_until = pace.count(|| self.vouchers_per_second(edge));
                            booking.push(book(Arc::clone(&self.hub), edge, voucher));
                            None
                        }
                        (Some(_), _) if !budget.take() => {
                            Some(ToEdge::Error(fault(FaultCode::RateLimited, "too many messages")))
                        }
                        (Some(Received::Message(message)), _) => self.hear(message).await,
                        (Some(Received::Malformed(why)), _) => {
                            Some(ToEdge::Error(fault(FaultCode::BadRequest, why)))
                        }
                        (Some(Received::Nothing), _) => None,
                    }
                }
                () = tokio::time::sleep_until(deaf_until.unwrap_or(introduced_by)), if deaf_until.is_some() => {
                    deaf_until = None;
                    None
                }
                Some(answer) = booking.next(), if !booking.is_empty() => Some(answer),
                () = tokio::time::sleep_until(introduced_by), if self.id.is_none() => return,
                message = queue.recv() => message,
                _ = ping.tick() => {
                    silent += 1;
                    if silent > 2 || socket.ping().await.is_err() {
                        return;
                    }
                    None
                }
                () = drain.begun() => {
                    // What is being booked is on disk in a moment, and its edge had better know.
                    while let Some(answer) = booking.next().await {
                        let _ = socket.send(&answer).await;
                    }
                    let _ = socket.send(&ToEdge::Goaway { retry_ms: spread_ms() }).await;
                    return;
                }
            };
            let Some(answer) = answer else { continue };
            let ends = matches!(&answer, ToEdge::Error(fault)
                if self.id.is_none() || matches!(fault.code, FaultCode::RateLimited | FaultCode::BadProof));
            if socket.send(&answer).await.is_err() || ends {
                return;
            }
        }
    }

    fn vouchers_per_second(&self, edge: EdgeId) -> usize {
        VOUCHERS_PER_SECOND + self.hub.money.lanes_of(edge) / LANES_PER_VOUCHER
    }

    async fn hear(&mut self, message: FromEdge) -> Option<ToEdge> {
        match (message, self.id) {
            (FromEdge::Register { proof, address, capacity, viewers_max, version }, known) => {
                let edge = proof.unverified().edge;
                if known.is_some_and(|known| known != edge) {
                    return Some(ToEdge::Error(fault(FaultCode::BadRequest, "another edge registered here")));
                }
                let offerings = EdgeOfferings { address, capacity, viewers_max, version };
                match self.hub.register(&proof, self.challenge.nonce, offerings, self.link.clone()) {
                    Ok(edge) => {
                        tracing::info!(%edge, "edge registered");
                        self.id = Some(edge);
                        let tracker = self.hub.id();
                        Some(ToEdge::Registered {
                            edge,
                            tracker,
                            time: now(),
                            status_ms: REPORT_MS,
                            stun: self.hub.stun(&edge, Some(edge)),
                        })
                    }
                    Err(fault) => Some(ToEdge::Error(fault)),
                }
            }
            (FromEdge::Address { address }, Some(edge)) => {
                self.hub.moved(edge, address).err().map(ToEdge::Error)
            }
            (FromEdge::Status { viewers, sending, warm }, Some(edge)) => {
                self.hub.status(edge, viewers, sending, warm);
                None
            }
            (FromEdge::Lookup { stream }, Some(edge)) => Some(self.hub.lookup(edge, &stream)),
            (FromEdge::Drain, Some(edge)) => {
                self.hub.drain(edge).await;
                None
            }
            (FromEdge::Signal(signal), Some(edge)) => {
                self.hub.signal_viewer(edge, signal).err().map(ToEdge::Error)
            }
            (FromEdge::Voucher { .. }, Some(_)) => None,
            (_, None) => Some(ToEdge::Error(fault(FaultCode::BadRequest, "register comes first"))),
        }
    }
}

/// Books a voucher; the answer comes when it is on disk, or why it never will be.
async fn book(hub: Arc<Hub>, edge: EdgeId, voucher: Signed<Voucher>) -> ToEdge {
    let session = voucher.unverified().session;
    match hub.voucher(Bringer::Edge(edge), voucher).await {
        Ok(receipt) => ToEdge::Receipt { receipt },
        Err(refused) => {
            let retry = refused.may_pass_later();
            ToEdge::Rejected { session, reason: refused.to_string(), retry }
        }
    }
}

/// How many vouchers an edge may bring in a second.
struct Pace {
    until: Instant,
    left: usize,
}

impl Pace {
    /// Counts one; says until when nothing is to be heard, when it was the last.
    fn count(&mut self, per_second: impl FnOnce() -> usize) -> Option<Instant> {
        let now = Instant::now();
        if now >= self.until {
            (self.until, self.left) = (now + Duration::from_secs(1), per_second());
        }
        self.left = self.left.saturating_sub(1);
        (self.left == 0).then_some(self.until)
    }
}
