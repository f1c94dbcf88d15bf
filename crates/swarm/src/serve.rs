//! The player's requests: answered from what is here, and noted where it has to be brought.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use millstream_model::{Instant, RenditionId};
use millstream_playlist::{
    self as playlist,
    reload::{Head, Verdict},
};
use millstream_wire::media::Catalog;

use crate::{
    limits::{PULL_ALLOWANCE_MS, READ_AHEAD_MS, READ_AHEAD_PARTS},
    port::{Content, Output, Resource, WantId},
    swarm::Swarm,
};

impl Swarm {
    pub(crate) fn on_want(&mut self, want: WantId, resource: Resource, now: Instant) {
        if let Some(name) = resource.rendition().cloned() {
            self.touch(&name, resource.is_media(), now);
            self.go_over(&resource);
        }
        if !self.wants.add(want, resource) {
            self.push(Output::Refuse { want, status: 429 });
        }
    }

    pub(crate) fn on_unwant(&mut self, want: WantId) {
        let Some(resource) = self.wants.remove(want) else { return };
        let named = |name: &String| self.catalog()?.named(name).map(|described| described.id);
        let Some(id) = resource.rendition().and_then(named) else { return };
        let Some(rendition) = self.renditions.get(&id) else { return };
        let others = self.wants.iter().filter(|(_, other)| other.rendition() == resource.rendition());
        let waited_for: Vec<u64> = others.flat_map(|(_, other)| rendition.parts_of(other)).collect();
        let mut given_up = rendition.parts_of(&resource);
        given_up.retain(|number| !waited_for.contains(number));
        for number in given_up {
            let part = self.renditions.get_mut(&id).and_then(|rendition| rendition.part_mut(number));
            let Some(part) = part else { continue };
            part.wanted = false;
            // What is pushed comes all the same.
            if !part.pushed {
                self.close(id, number);
            }
        }
    }

    /// A part is not brought any more: nobody waits for it.
    pub(crate) fn close(&mut self, id: RenditionId, number: u64) {
        self.take_back(id, number, None);
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        rendition.open.remove(&number);
        if let Some(part) = rendition.part_mut(number) {
            part.asked.clear();
        }
    }

    pub(crate) fn touch(&mut self, name: &str, media: bool, now: Instant) {
        let over = self.goes_over(name, now);
        if let Some(rendition) = self.renditions.values_mut().find(|rendition| rendition.name == name) {
            rendition.touch(over, now);
            if media {
                rendition.touch_media(now);
            }
        }
    }

    /// Answers what can be answered, and marks what has to be brought.
    pub(crate) fn answer(&mut self, now: Instant) {
        let open: Vec<(WantId, Resource)> =
            self.wants.iter().map(|(want, resource)| (want, resource.clone())).collect();
        for (want, resource) in open {
            if let Some(name) = resource.rendition() {
                self.touch(name, resource.is_media(), now);
            }
            match self.content(&resource, now) {
                Some(Ok(content)) => {
                    self.wants.remove(want);
                    self.push(Output::Deliver { want, content });
                }
                Some(Err(status)) => {
                    self.wants.remove(want);
                    self.push(Output::Refuse { want, status });
                }
                None => {}
            }
        }
    }

    /// The answer to a want, a status when there can be none, or `None` while it is on its way.
    fn content(&mut self, resource: &Resource, now: Instant) -> Option<Result<Content, u16>> {
        let chain = self.chain.as_ref()?;
        let catalog = chain.catalog()?;
        let ended = catalog.ended;
        let Some(name) = resource.rendition() else {
            return Some(Ok(Content::Playlist(playlist::multivariant(catalog))));
        };
        let Some(id) = catalog.named(name).map(|described| described.id) else { return Some(Err(404)) };
        let Some(rendition) = self.renditions.get_mut(&id) else { return Some(Err(404)) };
        match resource {
            Resource::Multivariant => None,
            Resource::Init { generation, version, .. } => {
                // Versions begin anew with each generation: the same number may be another init segment.
                if catalog.generation != *generation {
                    return Some(Err(404));
                }
                // A newer one may be on its way; an older one that is not kept never comes again.
                let gone = (*version <= catalog.version).then_some(Err(404));
                let known = chain.catalogs().find(|catalog| catalog.version == *version);
                let described = known.and_then(|catalog| catalog.rendition(id));
                described.map(|described| Ok(Content::Media(described.init.clone()))).or(gone)
            }
            Resource::Playlist { at, .. } => {
                rendition.settle(now);
                if !ended && rendition.is_coming(now) {
                    return None;
                }
                let head = rendition.listed().last().map(Head::of);
                let target = catalog.rendition(id)?.part_target_ms;
                match at.map_or(Verdict::Ready, |reload| reload.judge(head, target, ended)) {
                    Verdict::Ready => {}
                    Verdict::Wait => return None,
                    Verdict::Absurd => return Some(Err(400)),
                }
                let catalogs: Vec<&Catalog> = chain.catalogs().collect();
                let text = playlist::media(&catalogs, id, rendition.listed(), &playlist::Options::default())?;
                rendition.pin();
                Some(Ok(Content::Playlist(text)))
            }
            Resource::Part { number, .. } => self.media(id, &[*number], now),
            Resource::Segment { segment, .. } => {
                rendition.settle(now);
                match rendition.segment(*segment, ended) {
                    Some(numbers) => self.media(id, &numbers, now),
                    None => rendition.is_gone(*segment).then_some(Err(404)),
                }
            }
        }
    }

    fn media(&mut self, id: RenditionId, numbers: &[u64], now: Instant) -> Option<Result<Content, u16>> {
        let rendition = self.renditions.get_mut(&id)?;
        if let Some(bytes) = rendition.join(numbers) {
            rendition.played = numbers.last().copied();
            for number in numbers {
                if let Some(part) = rendition.part_mut(*number) {
                    part.wanted = false;
                }
            }
            return Some(Ok(Content::Media(bytes)));
        }
        for number in numbers {
            let rendition = self.renditions.get(&id)?;
            if rendition.part(*number).is_none() {
                // Behind what is known: never again. Ahead of it: its record will come.
                return rendition.is_lost(*number).then_some(Err(404));
            }
            self.want(id, *number, PULL_ALLOWANCE_MS, now);
        }
        self.read_ahead(id, *numbers.last()?, now);
        None
    }

    /// Marks a part as one that the player waits for.
    fn want(&mut self, id: RenditionId, number: u64, patience_ms: u64, now: Instant) {
        let allowance = self.record(id, number).map(|record| self.allowance(record, now)).unwrap_or_default();
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        let Some(part) = rendition.part_mut(number).filter(|part| !part.whole() && !part.wanted) else {
            return;
        };
        part.wanted = true;
        if !part.pushed {
            part.since = now;
            part.deadline = now + allowance.min(Duration::from_millis(patience_ms));
        }
        rendition.open.insert(number);
    }

    /// A player asks for one part after another. Those that nobody pushes are asked for before it does, or each would
    /// take a round trip.
    fn read_ahead(&mut self, id: RenditionId, from: u64, now: Instant) {
        for ahead in 1..=READ_AHEAD_PARTS {
            let part = self.renditions.get(&id).and_then(|rendition| rendition.part(from + ahead));
            if part.is_none_or(|part| part.pushed || part.whole()) {
                return;
            }
            self.want(id, from + ahead, PULL_ALLOWANCE_MS + ahead * READ_AHEAD_MS, now);
        }
    }
}
