//! The player goes over from one rendition of a group to another: what it left costs nothing any more, for a line that
//! is too narrow for one rendition has no room for two.

use crate::{port::Resource, swarm::Swarm};

impl Swarm {
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
