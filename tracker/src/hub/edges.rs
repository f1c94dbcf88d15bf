//! Edges: how they come, what they may know, how they go.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use millstream_ledger::Name;
use millstream_model::{BitRate, EdgeId, StreamId, WallTime};
use millstream_wire::{
    session::{Bearer, Registration},
    sign::{Context, Signed},
    tracker::{EdgeAddress, Fault, FaultCode, Nonce, SOCKETS_MAX, ToEdge},
};
use tokio::sync::mpsc;

use super::{Hub, TOKEN_MS, fault, now};
use crate::streams::Stream;

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
    /// Streams whose source it was told, and when. It had a lane of each.
    told: BTreeMap<StreamId, WallTime>,
    pub(super) link: mpsc::Sender<ToEdge>,
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
        check(&offerings.address)?;
        let edges_max = usize::try_from(self.limits.edges_max).unwrap_or(usize::MAX);
        if !self.edges.contains_key(&edge) && self.edges.len() >= edges_max {
            return Err(fault(FaultCode::RateLimited, "this tracker has all the edges it can take"));
        }
        self.edges.insert(
            edge,
            Edge {
                address: offerings.address,
                operator: operator_of(edge),
                capacity: offerings.capacity,
                viewers_max: offerings.viewers_max,
                viewers: 0,
                sending: BitRate(0),
                warm: Vec::new(),
                draining: false,
                since: now(),
                version: offerings.version.chars().take(64).collect(),
                told: BTreeMap::new(),
                link,
            },
        );
        self.more_came.store(true, Relaxed);
        Ok(edge)
    }

    /// An edge is reached elsewhere from now on. Viewers that have it keep what they have; new ones are told.
    pub(crate) fn moved(&self, edge: EdgeId, address: EdgeAddress) -> Result<(), Fault> {
        check(&address)?;
        let Some(mut edge) = self.edges.get_mut(&edge) else { return Ok(()) };
        if address.fingerprint != edge.address.fingerprint {
            return Err(fault(FaultCode::BadRequest, "an edge that changes its certificate registers anew"));
        }
        edge.address = address;
        self.more_came.store(true, Relaxed);
        Ok(())
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

fn check(address: &EdgeAddress) -> Result<(), Fault> {
    let EdgeAddress { sockets, ufrag, password, behind_nat, .. } = address;
    if sockets.is_empty() && !behind_nat || sockets.len() > SOCKETS_MAX {
        let text = format_args!("an edge has 1 to {SOCKETS_MAX} addresses");
        return Err(fault(FaultCode::BadRequest, text));
    }
    let sound = |text: &str, chars: std::ops::RangeInclusive<usize>| {
        chars.contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    if !sound(ufrag, 4..=32) || !sound(password, 22..=64) {
        return Err(fault(FaultCode::BadRequest, "ufrag has 4 to 32, password 22 to 64 ICE characters"));
    }
    Ok(())
}
