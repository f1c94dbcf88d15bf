//! The links of one core, and what its driver notes about each. Found by index; a name is never used twice.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use slab::Slab;

use super::{Config, roster::PeerKey};
use crate::{connection::LinkId, session::Session};

/// One link.
pub(super) struct Slot {
    pub(super) session: Session,
    pub(super) key: PeerKey,
    pub(super) address: SocketAddr,
    /// Our address that the peer speaks to, on a machine with several.
    pub(super) ours: Option<IpAddr>,
    pub(super) stage: Stage,
    /// When an authentic datagram came from `address`.
    pub(super) heard_here: Instant,
    /// When one came from anywhere.
    pub(super) heard: Instant,
    pub(super) born: Instant,
    pub(super) is_dirty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Anybody could have sent this from anywhere.
    Unproven,
    Handshaking,
    Open,
}

impl Slot {
    /// When the peer's silence ends the link.
    pub(super) fn deadline(&self, config: &Config) -> Instant {
        match self.stage {
            Stage::Open => self.heard + config.consent_timeout,
            Stage::Unproven | Stage::Handshaking => self.born + config.handshake_timeout,
        }
    }

    pub(super) fn hear(&mut self, from: SocketAddr, now: Instant) {
        self.heard = now;
        if from == self.address {
            self.heard_here = now;
        }
    }
}

/// All links of a core. A [`LinkId`] is the index, and above it how many links there have been before.
#[derive(Default)]
pub(super) struct Slots {
    slab: Slab<(LinkId, Slot)>,
    made: u64,
}

impl Slots {
    pub(super) fn insert(&mut self, slot: Slot) -> LinkId {
        self.made += 1;
        let entry = self.slab.vacant_entry();
        let id = self.made << 32 | u64::from(index(entry.key()));
        entry.insert((id, slot));
        id
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&Slot> {
        self.slab.get(place(id)).filter(|(own, _)| *own == id).map(|(_, slot)| slot)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Slot> {
        self.slab.get_mut(place(id)).filter(|(own, _)| *own == id).map(|(_, slot)| slot)
    }

    pub(super) fn remove(&mut self, id: LinkId) -> Option<Slot> {
        self.get(id)?;
        self.slab.try_remove(place(id)).map(|(_, slot)| slot)
    }

    /// The name of the link at an index.
    pub(super) fn at(&self, index: u32) -> Option<LinkId> {
        self.slab.get(usize::try_from(index).unwrap_or(usize::MAX)).map(|(id, _)| *id)
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slab.iter_mut().map(|(_, (_, slot))| slot)
    }
}

/// The index in a link's name.
pub(super) fn index_of(id: LinkId) -> u32 {
    u32::try_from(id & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn place(id: LinkId) -> usize {
    usize::try_from(index_of(id)).unwrap_or(usize::MAX)
}

fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
