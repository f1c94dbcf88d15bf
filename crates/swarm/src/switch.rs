//! The player goes over from one rendition of a group to another: what it left costs nothing any more, for a line that
//! is too narrow for one rendition has no room for two.

use millstream_model::Instant;
use millstream_wire::media::{Record, Rendition};

use crate::{port::Resource, swarm::Swarm};

/// Where a player goes on that comes from another rendition of the group; zeros where nobody knows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Onward {
    /// The first record of the segment that it begins with: a decoder starts there.
    pub(crate) media: u64,
    /// The first record of the segment before, which is over when that one is not yet: its playlist has to list a whole
    /// one, and needs no media of it.
    pub(crate) records: u64,
}

impl Swarm {
    /// Where whoever asks for this rendition, and plays another of its group until now, will go on.
    pub(crate) fn goes_over(&self, name: &str, now: Instant) -> Option<Onward> {
        let catalog = self.catalog()?;
        let chosen = catalog.named(name)?;
        let mut others = catalog.renditions.iter().filter(|other| other.group == chosen.group);
        let left = others.find_map(|other| {
            let rendition = self.renditions.get(&other.id)?;
            (other.id != chosen.id && rendition.is_wanted(now)).then_some(rendition)
        })?;
        Some(left.goes_on_at().filter(|_| self.is_aligned).unwrap_or_default())
    }

    /// Parts of one number are the same moment in all renditions of a group, unless a packager numbers them otherwise.
    pub(crate) fn align(&mut self, record: &Record) {
        let Some(catalog) = self.catalog() else { return };
        let Some(own) = catalog.rendition(record.rendition) else { return };
        let twin = |other: &Rendition| self.record(other.id, record.number);
        let mut twins = catalog.renditions.iter().filter(|other| other.group == own.group).filter_map(twin);
        let differs = twins.any(|twin| (twin.segment, twin.part) != (record.segment, record.part));
        self.is_aligned &= !differs;
    }

    /// The player asks for something of a rendition: it has left the others of the group that it waits for nothing of.
    pub(crate) fn go_over(&mut self, resource: &Resource) {
        let Some(catalog) = self.chain.as_ref().and_then(|chain| chain.catalog()) else { return };
        let Some(chosen) = resource.rendition().and_then(|name| catalog.named(name)) else { return };
        for other in &catalog.renditions {
            let waits = || self.wants.iter().any(|(_, want)| want.rendition() == Some(&other.name));
            if other.group == chosen.group
                && other.id != chosen.id
                && !waits()
                && let Some(left) = self.renditions.get_mut(&other.id)
            {
                left.forsake();
            }
        }
    }
}
