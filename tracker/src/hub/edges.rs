//! Edges: how they come, what they may know, how they go.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, Hash},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use millstream_ledger::Name;
use millstream_model::{BitRate, EdgeId, StreamId, WallTime};
use millstream_wire::{
    session::{Bearer, Registration},
    sign::{Context, Signed},
    tracker::{EdgeAddress, Fault, FaultCode, Nonce, SOCKETS_MAX, STUN_MAX, ToEdge},
};
use tokio::sync::mpsc;

use super::{Hub, TOKEN_MS, fault, now};
use crate::streams::Stream;

/// Milliseconds over which edges are spread that shall register again: less than they are waited for.
const CALL_BACK_MS: u64 = 2_000;

/// A registered edge.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) address: EdgeAddress,
    pub(crate) operator: Name,
    pub(crate) capacity: BitRate,
    pub(crate) viewers_max: u32,
    pub(crate) viewers: u32,
    pub(crate) sending: BitRate,
    pub(crate) warm: Vec<StreamId>,
    pub(crate) draining: bool,
    pub(crate) since: WallTime,
    pub(crate) version: String,
    /// It is behind NAT, and there was no STUN server to name when it registered.
    lacks_stun: AtomicBool,
    /// Its address changed since its viewers were last told.
    pub(super) has_moved: AtomicBool,
    /// Streams whose source it was told, and when. It had a lane of each.
    told: BTreeMap<StreamId, WallTime>,
    pub(super) link: mpsc::Sender<ToEdge>,
}

impl Edge {
    /// Whether it is known where viewers reach it: one behind NAT has to find out first.
    pub(super) fn is_reached(&self) -> bool {
        !self.address.sockets.is_empty()
    }
}

/// What an edge offers when it registers.
#[derive(Debug)]
pub(crate) struct EdgeOfferings {
    pub(crate) address: EdgeAddress,
    pub(crate) capacity: BitRate,
    pub(crate) viewers_max: u32,
    pub(crate) version: String,
}

impl Hub {
    /// Takes an edge in.
    pub(crate) fn register(
        &self,
        proof: &Signed<Registration>,
        nonce: Nonce,
        offerings: EdgeOfferings,
        link: mpsc::Sender<ToEdge>,
    ) -> Result<EdgeId, Fault> {
        let edge = proof.unverified().edge;
        let expected = Registration {
            tracker: self.id(),
            nonce: nonce.0,
            edge,
            fingerprint: offerings.address.fingerprint,
        };
        let proven = proof
            .verify(&edge, Context::None)
            .map_err(|error| fault(FaultCode::BadProof, format_args!("the proof does not hold: {error}")))?;
        if *proven != expected {
            return Err(fault(FaultCode::BadProof, "the proof is for another connection or certificate"));
        }
        let address = sound(offerings.address)?;
        let edges_max = usize::try_from(self.limits.edges_max).unwrap_or(usize::MAX);
        if !self.edges.contains_key(&edge) && self.edges.len() >= edges_max {
            return Err(fault(FaultCode::RateLimited, "this tracker has all the edges it can take"));
        }
        let lacks_stun = address.behind_nat && self.stun(&edge, Some(edge)).is_empty();
        self.edges.insert(
            edge,
            Edge {
                address,
                lacks_stun: AtomicBool::new(lacks_stun),
                operator: operator_of(edge),
                capacity: offerings.capacity,
                viewers_max: offerings.viewers_max,
                viewers: 0,
                sending: BitRate(0),
                warm: Vec::new(),
                draining: false,
                since: now(),
                version: offerings.version.chars().take(64).collect(),
                has_moved: AtomicBool::new(false),
                told: BTreeMap::new(),
                link,
            },
        );
        self.more_came.store(true, Relaxed);
        Ok(edge)
    }

    /// An edge is reached elsewhere from now on. Those who try to reach it are told with the next sweep.
    pub(crate) fn moved(&self, edge: EdgeId, address: EdgeAddress) -> Result<(), Fault> {
        let address = sound(address)?;
        let Some(mut edge) = self.edges.get_mut(&edge) else { return Ok(()) };
        if address.fingerprint != edge.address.fingerprint {
            return Err(fault(FaultCode::BadRequest, "an edge that changes its certificate registers anew"));
        }
        if !edge.is_reached() && !address.sockets.is_empty() {
            self.more_came.store(true, Relaxed);
        }
        edge.has_moved.fetch_or(edge.address.sockets != address.sockets, Relaxed);
        edge.address = address;
        Ok(())
    }

    /// STUN servers for `who`, an edge or a session, `host:port`: our own, and then public edges other than `but`, which
    /// answer a bare request as any STUN server does.
    pub(crate) fn stun(&self, who: &impl Hash, but: Option<EdgeId>) -> Vec<String> {
        let mut servers = self.stun.clone();
        let room = STUN_MAX.saturating_sub(servers.len());
        if room == 0 {
            return servers;
        }
        // Each asks others, drawn by a secret, so that all together spread over the edges.
        let mut drawn: Vec<(u64, SocketAddr)> = self
            .edges
            .iter()
            .filter(|edge| !edge.address.behind_nat && !edge.draining && Some(*edge.key()) != but)
            .filter_map(|edge| {
                Some((self.spread.hash_one((who, edge.key())), *edge.address.sockets.first()?))
            })
            .collect();
        drawn.sort_unstable();
        servers.extend(drawn.iter().take(room).map(|(_, socket)| socket.to_string()));
        servers
    }

    /// Has edges behind NAT register again that were named no STUN server, once there is one: after a start of this tracker
    /// they may be back before any public edge.
    pub(super) fn call_back(&self) {
        let lacking: Vec<(EdgeId, mpsc::Sender<ToEdge>)> = self
            .edges
            .iter()
            .filter(|edge| edge.lacks_stun.load(Relaxed))
            .map(|edge| (*edge.key(), edge.link.clone()))
            .collect();
        // They are not named themselves, so what there is all of them can be told.
        if lacking.is_empty() || self.stun(&(), None).is_empty() {
            return;
        }
        for (id, link) in lacking {
            // Within the time that its viewers are kept for it.
            let spread = self.spread.hash_one(id) % CALL_BACK_MS;
            let retry_ms = u32::try_from(spread).unwrap_or_default();
            if link.try_send(ToEdge::Goaway { retry_ms }).is_ok()
                && let Some(edge) = self.edges.get(&id)
            {
                edge.lacks_stun.store(false, Relaxed);
            }
        }
    }

    /// Notes how an edge fares.
    pub(crate) fn status(&self, edge: EdgeId, viewers: u32, sending: BitRate, mut warm: Vec<StreamId>) {
        if let Some(mut edge) = self.edges.get_mut(&edge) {
            warm.truncate(1_000);
            (edge.viewers, edge.sending, edge.warm) = (viewers, sending, warm);
        }
    }

    /// Where a stream comes from, for an edge that has a lane of it: the token opens all of the stream's media.
    pub(crate) fn lookup(&self, edge: EdgeId, id: &StreamId) -> ToEdge {
        let told = self.source(edge, id, now());
        told.unwrap_or_else(|fault| {
            let Fault { code, message } = fault;
            ToEdge::NoStream { stream: id.clone(), code, message }
        })
    }

    fn source(&self, edge: EdgeId, id: &StreamId, now: WallTime) -> Result<ToEdge, Fault> {
        // Whether there is such a stream is nobody's business who does not serve it.
        let unknown = || fault(FaultCode::UnknownStream, format_args!("you have no lane of a stream {id}"));
        let stream = self.streams.get(id).ok_or_else(unknown)?;
        if !self.money.carries(edge, id) || !self.may_carry(edge, &stream) {
            return Err(unknown());
        }
        let origin = self
            .origin(id)
            .ok_or_else(|| fault(FaultCode::NotLive, format_args!("nobody publishes {id} at the moment")))?;
        let token = self.token(id, Bearer::Edge(edge), now.plus_millis(TOKEN_MS));
        if let Some(mut edge) = self.edges.get_mut(&edge) {
            edge.told.insert(id.clone(), now);
        }
        Ok(ToEdge::Stream { stream: id.clone(), root: stream.root, origin, token })
    }

    /// Gives edges new tokens for the streams that they still carry, when those that they have are half through their
    /// lives.
    pub(super) fn renew_sources(&self, now: WallTime) {
        let is_due = |at: WallTime| now.millis_since(at) >= TOKEN_MS / 2;
        let due: Vec<(EdgeId, mpsc::Sender<ToEdge>, Vec<StreamId>)> = self
            .edges
            .iter()
            .map(|edge| {
                let due = edge.told.iter().filter(|(_, at)| is_due(**at)).map(|(stream, _)| stream.clone());
                (*edge.key(), edge.link.clone(), due.collect())
            })
            .collect();
        for (id, link, streams) in due {
            for stream in streams {
                // An edge that takes nothing now is told at the next sweep.
                let Ok(place) = link.try_reserve() else { break };
                match self.source(id, &stream, now) {
                    Ok(told) => place.send(told),
                    // It asks when it needs to.
                    Err(_) => {
                        if let Some(mut edge) = self.edges.get_mut(&id) {
                            edge.told.remove(&stream);
                        }
                    }
                }
            }
        }
    }

    /// Whether an edge may carry a stream: every one that is for everybody, and the others where it is trusted.
    pub(super) fn may_carry(&self, edge: EdgeId, stream: &Stream) -> bool {
        let is_open = stream.public && stream.ticket_key.is_none();
        is_open || self.private_edges.is_empty() || self.private_edges.contains(&edge)
    }

    /// An edge will stop: no new viewers, and the present ones move.
    pub(crate) async fn drain(&self, edge: EdgeId) {
        if let Some(mut edge) = self.edges.get_mut(&edge) {
            edge.draining = true;
        }
        self.replace(edge, "the edge is shutting down").await;
    }

    /// An edge's connection is gone. True when it was this connection that counted.
    pub(crate) fn unregister(&self, edge: EdgeId, link: &mpsc::Sender<ToEdge>) -> bool {
        self.edges.remove_if(&edge, |_, current| current.link.same_channel(link)).is_some()
    }
}

/// Every edge is its own operator until operators have accounts that name their edges. A key's text form is a name.
pub(super) fn operator_of(edge: EdgeId) -> Name {
    Name::new(&edge.to_string()).unwrap_or_else(|_| unreachable!("base64url is made of a name's characters"))
}

/// An address as others may be told it: within its bounds, and naming no STUN servers, which are ours to name.
fn sound(mut address: EdgeAddress) -> Result<EdgeAddress, Fault> {
    let bad = |why: &dyn std::fmt::Display| Err(fault(FaultCode::BadRequest, why));
    let EdgeAddress { sockets, ufrag, password, behind_nat, stun, .. } = &mut address;
    if sockets.is_empty() && !*behind_nat || sockets.len() > SOCKETS_MAX {
        return bad(&format_args!("an edge has 1 to {SOCKETS_MAX} addresses"));
    }
    if let Some(socket) = sockets.iter().find(|socket| !is_one_hosts(**socket)) {
        return bad(&format_args!("{socket} is no address that viewers could reach an edge by"));
    }
    let is_ice = |text: &str, chars: std::ops::RangeInclusive<usize>| {
        chars.contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    if !is_ice(ufrag, 4..=32) || !is_ice(password, 22..=64) {
        return bad(&"ufrag has 4 to 32, password 22 to 64 ICE characters");
    }
    stun.clear();
    Ok(address)
}

/// Whether one host may be there. A private address may: viewers at home, and tests.
fn is_one_hosts(socket: SocketAddr) -> bool {
    let ip = socket.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    socket.port() > 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}
