//! What is believed: delegation, catalog and records as they arrive from anywhere, and what a lie costs.

use alloc::vec::Vec;

use millstream_model::{EdgeId, Instant, PublicKey};
use millstream_wire::{
    chain::{Accepted, Chain, Refused},
    frame::Reason,
    media::{Catalog, Delegation, Record},
    sign::Signed,
};

use crate::{
    fetch::Purpose,
    limits::BAD_PIECES_MAX,
    port::{Event, Source},
    rendition::Rendition,
    swarm::Swarm,
};

impl Swarm {
    pub(crate) fn trust(&mut self, root: PublicKey, now: Instant) {
        if self.chain.is_none() {
            self.chain = Some(Chain::new(self.config.stream.clone(), root));
        }
        if let Some(body) = self.unread.take() {
            self.read_records(&body, now);
            if self.catalog().is_none() {
                self.fetch_failed(&Purpose::Start, None, now);
            }
        }
    }

    pub(crate) fn on_delegation(&mut self, source: Source, signed: &Signed<Delegation>, now: Instant) {
        let wall = self.session.wall(now);
        let Some(chain) = &mut self.chain else { return };
        if let Err(why) = chain.accept_delegation(signed, wall) {
            self.refuse(source, why, now);
        }
    }

    /// Takes a catalog; true when it is new.
    pub(crate) fn on_catalog(&mut self, source: Source, signed: &Signed<Catalog>, now: Instant) -> bool {
        let Some(chain) = &mut self.chain else { return false };
        match chain.accept_catalog(signed) {
            Ok(Accepted::New) => {
                let catalog = signed.unverified();
                for rendition in &catalog.renditions {
                    self.renditions
                        .or_insert_with(rendition.id, || Rendition::new(rendition.name.clone(), now));
                }
                let wanted = self.wants.iter().map(|(_, resource)| resource.clone());
                for resource in wanted.collect::<Vec<_>>() {
                    if let Some(name) = resource.rendition() {
                        self.touch(name, resource.is_media(), now);
                    }
                }
                if catalog.ended {
                    self.event(Event::Ended);
                }
                return true;
            }
            Ok(Accepted::Known | Accepted::Old) => {}
            Err(why) => self.refuse(source, why, now),
        }
        false
    }

    /// Takes a record; true when it is new.
    pub(crate) fn on_record(&mut self, source: Source, signed: &Signed<Record>, now: Instant) -> bool {
        let Some(chain) = &mut self.chain else { return false };
        match chain.accept_record(signed) {
            Ok(Accepted::New) => {}
            Ok(Accepted::Known | Accepted::Old) => return false,
            Err(why) => {
                self.refuse(source, why, now);
                return false;
            }
        }
        let record = signed.unverified().clone();
        let (id, number) = (record.rendition, record.number);
        self.align(&record);
        let allowance = self.allowance(&record, now);
        let Some(rendition) = self.renditions.get_mut(&id) else { return true };
        let newer = rendition.head().is_none_or(|head| number > head);
        self.held -= rendition.insert(record, now).min(self.held);
        let primary = rendition.primary.filter(|_| rendition.wants_media(now));
        // Of parts that the origin names, it brings those that it was told to; where it began by itself, the newer ones.
        let told = |edge: &EdgeId| self.lanes.get(edge).is_some_and(|lane| lane.pushes(id, number));
        let pushes = primary.is_some_and(|edge| newer || source != Source::Origin || told(&edge));
        if let Some(lane) = primary.filter(|_| pushes).and_then(|edge| self.lanes.get_mut(&edge)) {
            lane.owes.get_or_insert(now);
        }
        if let Some(part) = rendition.part_mut(number) {
            part.deadline = now + allowance;
            part.pushed = pushes;
            if pushes {
                rendition.open.insert(number);
            }
        }
        for early in self.early.take(id, number) {
            self.place(Source::Edge(early.edge), id, number, early.index, &early.data, now);
        }
        true
    }

    pub(crate) fn refuse(&mut self, source: Source, why: Refused, now: Instant) {
        self.event(Event::Refused { source, why });
        // Something merely early or old is no lie; a wrong signature or a second truth is.
        let lie = matches!(why, Refused::Signature(_) | Refused::Fork | Refused::Broken | Refused::Stream);
        if let (Source::Edge(edge), true) = (source, lie) {
            self.blame(edge, now);
        }
    }

    /// Counts something false from an edge; the second ends the lane for good.
    pub(crate) fn blame(&mut self, edge: EdgeId, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&edge) else { return };
        lane.bad += 1;
        if lane.bad >= BAD_PIECES_MAX {
            self.leave_edge(edge, Some(Reason::Bad), now);
        }
    }
}
