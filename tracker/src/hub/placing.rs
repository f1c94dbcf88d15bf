//! Placing: which edges a session has, from its beginning through everything that may happen to them.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use dashmap::mapref::multiple::RefMulti;
use futures_util::StreamExt as _;
use millstream_ledger::{Name, grant};
use millstream_model::{BitRate, EdgeId, Price, SessionId, StreamId, WallTime};
use millstream_placement as placement;
use millstream_wire::{
    session::Grant,
    sign::Signed,
    tracker::{EdgeOffer, ToViewer},
};

use super::{Edge, Hub, RATE_UNKNOWN, Session, edges::operator_of, now};
use crate::streams::Stream;

/// Edges that a session has when there are enough: one that pushes, one that stands by.
const EDGES: usize = 2;

/// Sessions that are placed at the same time where many have to be: what they are granted shares commits.
const PLACINGS: usize = 64;

/// Sessions lacking edges that are tried again in one sweep, those first that waited longest: each looks at all edges.
const RETRIES_PER_SWEEP: usize = 64;

/// Milliseconds before a session lacking edges is tried again: by then something may have changed.
const RETRY_MS: u64 = 15_000;

/// A session to be placed anew, with its stream and the edges that it has.
type Placed = (SessionId, StreamId, Vec<EdgeId>);

/// Milliseconds after a start in which edges of before come back: they try at least every 45 s.
const GATHER_MS: u64 = 60_000;

impl Hub {
    /// Chooses edges for a session and has their lanes granted. Those in `keep` stay while they are here.
    pub(super) async fn place(&self, session: SessionId, stream: &Stream, keep: &[EdgeId]) -> Vec<EdgeOffer> {
        let chosen = self.choose(session, stream, keep, now());
        // Counted at once, so that a burst of joins does not all see the same idle edge.
        self.assign(session, chosen.clone());
        let offers = self.offer(session, &stream.id, &chosen).await;
        let granted: Vec<EdgeId> = offers.iter().map(|offer| offer.id).collect();
        if granted != chosen {
            self.assign(session, granted);
        }
        offers
    }

    /// Edges that failed the viewer are chosen only where there is nobody else; those that sent something wrong, never.
    fn choose(&self, id: SessionId, stream: &Stream, keep: &[EdgeId], now: WallTime) -> Vec<EdgeId> {
        let (avoid, barred) = self
            .sessions
            .get(&id)
            .map(|session| (session.watch.avoid(now), session.watch.barred()))
            .unwrap_or_default();
        let chosen = self.fill(id, stream, keep, &avoid, now);
        if chosen.len() < EDGES && avoid.len() > barred.len() {
            return self.fill(id, stream, &chosen, &barred, now);
        }
        chosen
    }

    fn fill(
        &self,
        session: SessionId,
        stream: &Stream,
        keep: &[EdgeId],
        avoid: &[EdgeId],
        now: WallTime,
    ) -> Vec<EdgeId> {
        let stays = |edge: &EdgeId| self.is_here(*edge) && !avoid.contains(edge);
        let mut chosen: Vec<EdgeId> = keep.iter().copied().filter(stays).collect();
        if chosen.len() >= EDGES {
            return chosen;
        }
        let rate = self.rate(&stream.id);
        let candidates = self.candidates(stream, rate, now);
        let request = placement::Request {
            stream: &stream.id,
            session,
            rate,
            price: stream.price,
            whereabouts: placement::Whereabouts::default(),
            avoid,
        };
        if let Some(kept) = chosen.first().copied() {
            let operator = self.operator(kept);
            let operator = operator.as_str();
            let key = self.placement_key;
            chosen.extend(placement::place_beside(&request, kept, operator, &candidates, key));
        } else {
            let placed = placement::place(&request, &candidates, self.placement_key);
            chosen.extend(placed.primary.into_iter().chain(placed.standby));
        }
        chosen
    }

    /// Sets a session's edges, and counts them.
    fn assign(&self, id: SessionId, edges: Vec<EdgeId>) {
        if let Some(mut session) = self.sessions.get_mut(&id) {
            self.count(&edges, &session.edges);
            session.edges = edges;
        }
    }

    /// Notes that edges gained and lost a session.
    pub(super) fn count(&self, gained: &[EdgeId], lost: &[EdgeId]) {
        for edge in gained {
            *self.assigned.entry(*edge).or_default() += 1;
        }
        for edge in lost {
            self.assigned.remove_if_mut(edge, |_, count| {
                *count = count.saturating_sub(1);
                *count == 0
            });
        }
    }

    /// Goes on with a session's edges. Just after a start, those that have not come back yet are waited for: the viewer
    /// still has them.
    pub(super) async fn keep(
        &self,
        session: SessionId,
        stream: &Stream,
        edges: Vec<EdgeId>,
    ) -> Vec<EdgeOffer> {
        let here: Vec<EdgeId> = edges.iter().copied().filter(|edge| self.is_here(*edge)).collect();
        if here.len() == edges.len() || !self.is_gathering() {
            return self.place(session, stream, &edges).await;
        }
        self.assign(session, edges);
        self.offer(session, &stream.id, &here).await
    }

    /// Has the lanes to these edges granted, all in one commit, as far as there is money.
    async fn offer(&self, session: SessionId, stream: &StreamId, edges: &[EdgeId]) -> Vec<EdgeOffer> {
        let offers = edges.iter().map(|edge| self.offer_one(session, stream, *edge));
        futures_util::future::join_all(offers).await.into_iter().flatten().collect()
    }

    async fn offer_one(&self, session: SessionId, stream: &StreamId, id: EdgeId) -> Option<EdgeOffer> {
        let mut address = self.edges.get(&id).map(|edge| edge.address.clone())?;
        if address.behind_nat {
            address.stun = self.stun(&session, None);
        }
        match self.grant(session, stream, id).await {
            Ok(grant) => Some(EdgeOffer { id, address, grant }),
            Err(refused) => {
                // No reserve, no grant: the viewer goes on by plain HTTP, and is tried again with a sweep.
                tracing::debug!(%session, %stream, edge = %id, "no grant: {refused}");
                None
            }
        }
    }

    /// Money came: who went without edges may have some.
    pub(crate) fn funded(&self) {
        self.more_came.store(true, Relaxed);
    }

    /// Gives more edges to sessions that have too few, and others to those whose edges did not come back after a start
    /// of this tracker. When edges or money came, to all of them; else some are tried again.
    pub(super) async fn complete(&self, now: WallTime) {
        let gathering = self.is_gathering();
        let gathered = !gathering && !self.gathered.swap(true, Relaxed);
        let all = self.more_came.swap(false, Relaxed) || gathered;
        let here = |edge: &EdgeId| self.edges.contains_key(edge);
        let could_have =
            EDGES.min(self.edges.iter().filter(|edge| !edge.draining && edge.is_reached()).count());
        let mut lacking: Vec<(WallTime, Placed)> = self
            .sessions
            .iter()
            .filter(|session| session.link.is_some())
            .filter(|session| all || now.millis_since(session.tried) >= RETRY_MS)
            .filter(|session| {
                let complete = session.edges.iter().all(here);
                if complete { session.edges.len() < could_have } else { gathered }
            })
            .map(|session| (session.tried, (*session.key(), session.stream.clone(), session.edges.clone())))
            .collect();
        if !all && lacking.len() > RETRIES_PER_SWEEP {
            lacking.sort_unstable_by_key(|(tried, _)| *tried);
            lacking.truncate(RETRIES_PER_SWEEP);
        }
        for (_, (id, ..)) in &lacking {
            if let Some(mut session) = self.sessions.get_mut(id) {
                session.tried = now;
            }
        }
        let lacking = lacking.into_iter().map(|(_, lacking)| lacking);
        self.place_all(lacking.collect(), None, "there are other edges").await;
    }

    /// Tells viewers where their edges are that have moved, as far as they have not reached them.
    pub(super) async fn tell_moved(&self) {
        let moved: Vec<EdgeId> = self
            .edges
            .iter()
            .filter(|edge| edge.has_moved.swap(false, Relaxed))
            .map(|edge| *edge.key())
            .collect();
        let waits = |session: &Session, edge: &EdgeId| {
            let is_ready = session.report.edges.iter().any(|said| said.edge == *edge && said.ready);
            session.edges.contains(edge) && !is_ready
        };
        let waiting: Vec<Placed> = self
            .sessions
            .iter()
            .filter(|session| session.link.is_some() && moved.iter().any(|edge| waits(session, edge)))
            .map(|session| (*session.key(), session.stream.clone(), session.edges.clone()))
            .collect();
        let waiting = futures_util::stream::iter(waiting);
        waiting
            .for_each_concurrent(PLACINGS, |(id, stream, edges)| async move {
                let Some(stream) = self.streams.get(&stream) else { return };
                let edges = self.keep(id, &stream, edges).await;
                self.reassign(id, edges, "an edge has moved");
            })
            .await;
    }

    /// Places many sessions anew, keeping what each has but for one edge; those whose edges change are told.
    async fn place_all(&self, sessions: Vec<Placed>, without: Option<EdgeId>, reason: &'static str) {
        let sessions = futures_util::stream::iter(sessions);
        sessions
            .for_each_concurrent(PLACINGS, |(id, stream, had)| async move {
                let Some(stream) = self.streams.get(&stream) else { return };
                let keep: Vec<EdgeId> = had.iter().copied().filter(|edge| Some(*edge) != without).collect();
                let edges = self.place(id, &stream, &keep).await;
                if edges.iter().map(|offer| offer.id).ne(had) {
                    self.reassign(id, edges, reason);
                }
            })
            .await;
    }

    fn is_here(&self, edge: EdgeId) -> bool {
        self.edges.get(&edge).is_some_and(|edge| edge.is_reached())
    }

    fn is_gathering(&self) -> bool {
        now().millis_since(self.began) < GATHER_MS
    }

    pub(super) fn reassign(&self, session: SessionId, edges: Vec<EdgeOffer>, reason: &'static str) {
        let link = self.sessions.get(&session).and_then(|session| session.link.clone());
        if let Some(link) = link {
            let _ = link.try_send(ToViewer::Reassign { edges, reason: reason.to_owned() });
        }
    }

    fn candidates(&self, stream: &Stream, rate: BitRate, now: WallTime) -> Vec<placement::Candidate> {
        let candidate = |edge: RefMulti<'_, EdgeId, Edge>| {
            let id = *edge.key();
            // An edge may say too little, to be given more; and its word is a few seconds old.
            let assigned = self.assigned.get(&id).map_or(0, |count| *count);
            let viewers = edge.viewers.max(assigned);
            placement::Candidate {
                edge: id,
                operator: edge.operator.as_str().into(),
                capacity: edge.capacity,
                // Half of its viewers have it as their primary.
                load: BitRate(edge.sending.0.max(rate.0.saturating_mul(u64::from(viewers / 2)))),
                viewers,
                viewers_max: edge.viewers_max,
                warm: edge.warm.contains(&stream.id),
                draining: edge.draining,
                behind_nat: edge.address.behind_nat,
                suspect: self.standings.get(&id).is_some_and(|standing| standing.is_suspect(viewers, now)),
                price_min: Price(0),
                rtt_ms: None,
                whereabouts: placement::Whereabouts::default(),
            }
        };
        let may_be_chosen =
            |edge: &RefMulti<'_, EdgeId, Edge>| edge.is_reached() && self.may_carry(*edge.key(), stream);
        self.edges.iter().filter(may_be_chosen).map(candidate).collect()
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
        // Nobody has checked a catalog's numbers.
        BitRate(groups.values().fold(0, |sum: u64, rate| sum.saturating_add(*rate)).max(1))
    }

    /// Gives every session of a lost or draining edge a new set.
    pub(crate) async fn replace(&self, edge: EdgeId, reason: &'static str) {
        let affected: Vec<Placed> = self
            .sessions
            .iter()
            .filter(|session| session.edges.contains(&edge))
            .map(|session| (*session.key(), session.stream.clone(), session.edges.clone()))
            .collect();
        self.place_all(affected, Some(edge), reason).await;
    }
}
