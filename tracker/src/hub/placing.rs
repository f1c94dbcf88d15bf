//! Placing: which edges a session has, from its beginning through everything that may happen to them.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use dashmap::mapref::multiple::RefMulti;
use millstream_ledger::{Name, grant};
use millstream_model::{BitRate, EdgeId, Price, SessionId, StreamId};
use millstream_placement as placement;
use millstream_wire::{
    session::Grant,
    sign::Signed,
    tracker::{EdgeOffer, ToViewer},
};

use super::{Edge, Hub, RATE_UNKNOWN, now, operator_of};
use crate::streams::Stream;

/// Edges that a session has when there are enough: one that pushes, one that stands by.
const EDGES: usize = 2;

/// Milliseconds after a start in which edges of before come back: they try at least every 45 s.
const GATHER_MS: u64 = 60_000;

impl Hub {
    /// Chooses edges for a session and has their lanes granted. Those in `keep` stay while they are here.
    pub(super) async fn place(&self, session: SessionId, stream: &Stream, keep: &[EdgeId]) -> Vec<EdgeOffer> {
        let mut chosen: Vec<EdgeId> =
            keep.iter().copied().filter(|edge| self.edges.contains_key(edge)).collect();
        let rate = self.rate(&stream.id);
        let candidates = self.candidates(&stream.id, rate);
        let request = placement::Request {
            stream: &stream.id,
            session,
            rate,
            price: stream.price,
            whereabouts: placement::Whereabouts::default(),
            avoid: &[],
        };
        match chosen.first().copied() {
            None => {
                let placed = placement::place(&request, &candidates, self.placement_key);
                chosen.extend(placed.primary.into_iter().chain(placed.standby));
            }
            Some(kept) if chosen.len() == 1 => {
                let operator = self.operator(kept);
                let operator = operator.as_str();
                chosen.extend(placement::place_beside(
                    &request,
                    kept,
                    operator,
                    &candidates,
                    self.placement_key,
                ));
            }
            Some(_) => {}
        }
        let offers = self.offer(session, &stream.id, &chosen).await;
        let ids: Vec<EdgeId> = offers.iter().map(|offer| offer.id).collect();
        for id in ids.iter().filter(|id| !keep.contains(id)) {
            if let Some(mut edge) = self.edges.get_mut(id) {
                // Counted at once, so that a burst of joins does not all see the same idle edge.
                edge.viewers += 1;
            }
        }
        if let Some(mut session) = self.sessions.get_mut(&session) {
            session.edges = ids;
        }
        offers
    }

    /// Goes on with a session's edges. Just after a start, those that have not come back yet are waited for: the viewer
    /// still has them.
    pub(super) async fn keep(
        &self,
        session: SessionId,
        stream: &Stream,
        edges: Vec<EdgeId>,
    ) -> Vec<EdgeOffer> {
        let here: Vec<EdgeId> = edges.iter().copied().filter(|edge| self.edges.contains_key(edge)).collect();
        if here.len() == edges.len() || !self.is_gathering() {
            return self.place(session, stream, &edges).await;
        }
        let offers = self.offer(session, &stream.id, &here).await;
        if let Some(mut session) = self.sessions.get_mut(&session) {
            session.edges = edges;
        }
        offers
    }

    /// Has the lanes to these edges granted, as far as there is money.
    async fn offer(&self, session: SessionId, stream: &StreamId, edges: &[EdgeId]) -> Vec<EdgeOffer> {
        let mut offers = Vec::new();
        for id in edges.iter().copied() {
            let Some(address) = self.edges.get(&id).map(|edge| edge.address.clone()) else { continue };
            match self.grant(session, stream, id).await {
                Ok(grant) => offers.push(EdgeOffer { id, address, grant }),
                Err(refused) => {
                    // No reserve, no grant: the viewer goes on by plain HTTP.
                    tracing::info!(%session, %stream, edge = %id, "no grant: {refused}");
                }
            }
        }
        offers
    }

    /// Gives more edges to sessions that joined when there were too few, and others to those whose edges did not come
    /// back after a start of this tracker.
    pub(super) async fn complete(&self) {
        let gathering = self.is_gathering();
        let gathered = !gathering && !self.gathered.swap(true, Relaxed);
        if !self.edge_came.swap(false, Relaxed) && !gathered {
            return;
        }
        let here = |edge: &EdgeId| self.edges.contains_key(edge);
        let could_have = EDGES.min(self.edges.iter().filter(|edge| !edge.draining).count());
        let lacking: Vec<(SessionId, StreamId, Vec<EdgeId>)> = self
            .sessions
            .iter()
            .filter(|session| session.link.is_some())
            .filter(|session| {
                let complete = session.edges.iter().all(here);
                if complete { session.edges.len() < could_have } else { gathered }
            })
            .map(|session| (*session.key(), session.stream.clone(), session.edges.clone()))
            .collect();
        for (id, stream, keep) in lacking {
            let Some(stream) = self.streams.get(&stream) else { continue };
            let edges = self.place(id, &stream, &keep).await;
            if edges.iter().map(|offer| offer.id).ne(keep) {
                self.reassign(id, edges, "there are other edges");
            }
        }
    }

    fn is_gathering(&self) -> bool {
        now().millis_since(self.began) < GATHER_MS
    }

    fn reassign(&self, session: SessionId, edges: Vec<EdgeOffer>, reason: &'static str) {
        let link = self.sessions.get(&session).and_then(|session| session.link.clone());
        if let Some(link) = link {
            let _ = link.try_send(ToViewer::Reassign { edges, reason: reason.to_owned() });
        }
    }

    fn candidates(&self, stream: &StreamId, rate: BitRate) -> Vec<placement::Candidate> {
        let candidate = |edge: RefMulti<'_, EdgeId, Edge>| placement::Candidate {
            edge: *edge.key(),
            operator: edge.operator.as_str().into(),
            capacity: edge.capacity,
            // Half of its viewers have it as their primary.
            load: BitRate(edge.sending.0.max(rate.0.saturating_mul(u64::from(edge.viewers / 2)))),
            viewers: edge.viewers,
            viewers_max: edge.viewers_max,
            warm: edge.warm.contains(stream),
            draining: edge.draining,
            price_min: Price(0),
            rtt_ms: None,
            whereabouts: placement::Whereabouts::default(),
        };
        self.edges.iter().map(candidate).collect()
    }

    fn operator(&self, edge: EdgeId) -> Name {
        self.edges.get(&edge).map_or_else(|| operator_of(edge), |edge| edge.operator.clone())
    }

    async fn grant(
        &self,
        session: SessionId,
        stream: &StreamId,
        edge: EdgeId,
    ) -> Result<Signed<Grant>, grant::Refused> {
        let operator = self.operator(edge);
        self.money.grant(&grant::Request { session, edge, operator, rate: self.rate(stream) }).await
    }

    /// What one viewer of a stream takes at most: the best rendition of each group together.
    pub(super) fn rate(&self, stream: &StreamId) -> BitRate {
        let carried = self.carried.get(stream);
        let catalog = carried.as_ref().and_then(|carried| carried.catalog.as_ref());
        let Some(catalog) = catalog.map(Signed::unverified) else { return RATE_UNKNOWN };
        let mut groups = BTreeMap::new();
        for rendition in &catalog.renditions {
            let best = groups.entry(rendition.group.as_str()).or_insert(0);
            *best = rendition.bandwidth.0.max(*best);
        }
        BitRate(groups.values().sum::<u64>().max(1))
    }

    /// Gives every session of a lost or draining edge a new set.
    pub(crate) async fn replace(&self, edge: EdgeId, reason: &'static str) {
        let affected: Vec<(SessionId, StreamId, Vec<EdgeId>)> = self
            .sessions
            .iter()
            .filter(|session| session.edges.contains(&edge))
            .map(|session| (*session.key(), session.stream.clone(), session.edges.clone()))
            .collect();
        for (id, stream, mut keep) in affected {
            let Some(stream) = self.streams.get(&stream) else { continue };
            keep.retain(|kept| *kept != edge);
            let edges = self.place(id, &stream, &keep).await;
            self.reassign(id, edges, reason);
        }
    }
}
