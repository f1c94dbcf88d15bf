//! What a stream's receiver believes: delegation, catalog and the chain of records, checked as they arrive.
//!
//! Edges and viewers keep one [`Chain`] per stream and let nothing past it that it has not accepted. It does not
//! look at media bytes: a piece is checked against the hash in an accepted record ([`Chain`]'s callers do that
//! where the bytes are).

use bytes::Bytes;
use millstream_model::{Hash, Map, PublicKey, RenditionId, StreamId, WallTime};
use thiserror::Error;

use crate::{
    media::{Catalog, Delegation, Record},
    sign::{self, Context, Signed, sha256},
};

/// Links remembered per rendition: four minutes of 250 ms parts, more than any live window between two resyncs.
pub const LINKS_MAX: usize = 1_024;

/// What is left of them when that is too many: forgetting moves the rest, so it is done for many at once.
const LINKS_KEPT: usize = LINKS_MAX - 128;

/// Catalog versions remembered of a generation: each means a change of codec or size, of which a live window holds
/// few.
pub const CATALOGS_MAX: usize = 8;

/// Milliseconds by which clocks may differ before a delegation's dates count against it.
pub const CLOCK_SKEW_MS: u64 = 120_000;

/// Why something signed was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is malformed, or the signature is not by the right key.
    #[error(transparent)]
    Signature(#[from] sign::Error),
    /// It belongs to another stream.
    #[error("it is for another stream")]
    Stream,
    /// The delegation's dates do not cover now.
    #[error("the delegation is not valid at this time")]
    Expired,
    /// An older generation than one already believed.
    #[error("generation {got} is rolled back: {known} is known")]
    Generation {
        /// The generation offered.
        got: u32,
        /// The highest generation believed.
        known: u32,
    },
    /// No delegation (or not of this generation) has been accepted yet.
    #[error("no delegation of generation {0} is known")]
    Undelegated(u32),
    /// Another catalog with a version that is known already, or another delegation with a known generation.
    #[error("two different objects claim the same place")]
    Fork,
    /// A record names a catalog version or rendition that is not known.
    #[error("no catalog describes it")]
    Catalog,
    /// A record that does not follow the one before it.
    #[error("the chain of records is broken")]
    Broken,
}

/// What became of something that was believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is new.
    New,
    /// It was known already.
    Known,
    /// It is true but older than anything that matters now, and was not kept.
    Old,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    digest: Hash,
    previous: Hash,
    generation: u32,
    segment: u64,
    part: u16,
}

/// The trust state of one stream.
#[derive(Debug, Clone)]
pub struct Chain {
    stream: StreamId,
    root: PublicKey,
    delegation: Option<(Delegation, Bytes)>,
    /// By version; the last is in force.
    catalogs: Map<u32, (Catalog, Bytes)>,
    links: Map<RenditionId, Map<u64, Link>>,
}

impl Chain {
    /// Believes only what `root` (pinned in the page, or named by the tracker) stands behind.
    #[must_use]
    pub const fn new(stream: StreamId, root: PublicKey) -> Self {
        Self { stream, root, delegation: None, catalogs: Map::new(), links: Map::new() }
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The root key.
    #[must_use]
    pub const fn root(&self) -> PublicKey {
        self.root
    }

    /// The delegation in force.
    #[must_use]
    pub fn delegation(&self) -> Option<&Delegation> {
        self.delegation.as_ref().map(|(delegation, _)| delegation)
    }

    /// The delegation in force as it was signed, to be passed on.
    #[must_use]
    pub fn delegation_bytes(&self) -> Option<&Bytes> {
        self.delegation.as_ref().map(|(_, bytes)| bytes)
    }

    /// The newest catalog.
    #[must_use]
    pub fn catalog(&self) -> Option<&Catalog> {
        self.catalogs.last_key_value().map(|(_, (catalog, _))| catalog)
    }

    /// The newest catalogs of this generation, oldest first: at most [`CATALOGS_MAX`].
    pub fn catalogs(&self) -> impl Iterator<Item = &Catalog> {
        self.catalogs.values().map(|(catalog, _)| catalog)
    }

    /// The newest catalog as it was signed, to be passed on.
    #[must_use]
    pub fn catalog_bytes(&self) -> Option<&Bytes> {
        self.catalogs.last_key_value().map(|(_, (_, bytes))| bytes)
    }

    /// The highest record number believed.
    #[must_use]
    pub fn head(&self, rendition: RenditionId) -> Option<u64> {
        self.links.get(&rendition).and_then(|links| links.last_key_value()).map(|(number, _)| *number)
    }

    /// Takes a delegation. A new generation forgets the catalog of the one before.
    ///
    /// # Errors
    /// [`Refused`] when the root did not sign it, its dates do not cover `now`, or it is rolled back.
    pub fn accept_delegation(
        &mut self,
        signed: &Signed<Delegation>,
        now: WallTime,
    ) -> Result<Accepted, Refused> {
        let offered = signed.unverified();
        if offered.stream != self.stream {
            return Err(Refused::Stream);
        }
        if let Some((known, bytes)) = &self.delegation {
            if bytes == signed.bytes() {
                return Ok(Accepted::Known);
            }
            if offered.generation < known.generation {
                return Err(Refused::Generation { got: offered.generation, known: known.generation });
            }
            if offered.generation == known.generation && offered.packager != known.packager {
                signed.verify(&self.root, Context::None)?;
                return Err(Refused::Fork);
            }
        }
        let delegation = signed.verify(&self.root, Context::None)?;
        let began = delegation.not_before.0 <= now.0.saturating_add(CLOCK_SKEW_MS);
        let lasts = delegation.expires.0.saturating_add(CLOCK_SKEW_MS) > now.0;
        if !began || !lasts {
            return Err(Refused::Expired);
        }
        let generation = self.delegation().map(|known| known.generation);
        if generation != Some(delegation.generation) {
            self.catalogs.clear();
        }
        self.delegation = Some((delegation.clone(), signed.bytes().clone()));
        Ok(Accepted::New)
    }

    /// Takes a catalog.
    ///
    /// # Errors
    /// [`Refused`] when the delegated packager did not sign it, or another catalog has its version.
    pub fn accept_catalog(&mut self, signed: &Signed<Catalog>) -> Result<Accepted, Refused> {
        let packager = self.packager(signed.unverified().generation)?;
        let version = signed.unverified().version;
        if let Some((_, bytes)) = self.catalogs.get(&version) {
            if bytes == signed.bytes() {
                return Ok(Accepted::Known);
            }
            signed.verify(&packager, Context::Stream(&self.stream))?;
            return Err(Refused::Fork);
        }
        let catalog = signed.verify(&packager, Context::Stream(&self.stream))?;
        if self.catalogs.len() >= CATALOGS_MAX {
            if self.catalogs.first_key_value().is_some_and(|(oldest, _)| version < *oldest) {
                return Ok(Accepted::Old);
            }
            self.catalogs.keep_last(CATALOGS_MAX - 1);
        }
        let newest = self.catalog().is_none_or(|known| known.version < version);
        self.catalogs.insert(version, (catalog.clone(), signed.bytes().clone()));
        Ok(if newest { Accepted::New } else { Accepted::Old })
    }

    /// Takes a record, in any order. A record whose digest is named by an accepted successor needs no signature
    /// check of its own, so a window read from its newest record backwards costs one signature.
    ///
    /// # Errors
    /// [`Refused`] when it is not signed, not described, or does not fit its neighbours.
    pub fn accept_record(&mut self, signed: &Signed<Record>) -> Result<Accepted, Refused> {
        let record = signed.unverified();
        let packager = self.packager(record.generation)?;
        let catalog = self.catalog().ok_or(Refused::Catalog)?;
        if record.catalog > catalog.version || catalog.rendition(record.rendition).is_none() {
            return Err(Refused::Catalog);
        }
        let digest = signed.digest();
        let empty = Map::new();
        let links = self.links.get(&record.rendition).unwrap_or(&empty);
        if let Some(known) = links.get(&record.number) {
            if known.digest == digest {
                return Ok(Accepted::Known);
            }
            signed.verify(&packager, Context::Stream(&self.stream))?;
            return Err(Refused::Fork);
        }
        if links.len() >= LINKS_KEPT && links.first_key_value().is_some_and(|(n, _)| record.number < *n) {
            return Ok(Accepted::Old);
        }
        let link = Link {
            digest,
            previous: record.previous,
            generation: record.generation,
            segment: record.segment,
            part: record.part,
        };
        let after = record.number.checked_add(1).and_then(|next| links.get(&next));
        let before = record.number.checked_sub(1).and_then(|before| links.get(&before));
        if after.is_none_or(|after| after.previous != digest) {
            signed.verify(&packager, Context::Stream(&self.stream))?;
        }
        let fits = before.is_none_or(|before| follows(before, &link))
            && after.is_none_or(|after| follows(&link, after));
        if !fits {
            return Err(Refused::Broken);
        }
        let links = self.links.or_insert_with(record.rendition, Map::new);
        links.insert(record.number, link);
        if links.len() > LINKS_MAX {
            links.keep_last(LINKS_KEPT);
        }
        Ok(Accepted::New)
    }

    fn packager(&self, generation: u32) -> Result<PublicKey, Refused> {
        let delegation = self.delegation().ok_or(Refused::Undelegated(generation))?;
        if generation < delegation.generation {
            return Err(Refused::Generation { got: generation, known: delegation.generation });
        }
        if generation > delegation.generation {
            return Err(Refused::Undelegated(generation));
        }
        Ok(delegation.packager)
    }
}

fn follows(before: &Link, after: &Link) -> bool {
    if before.generation != after.generation {
        // A packager that restarts may leave out numbers it had reserved, but always begins a segment.
        return before.generation < after.generation
            && after.previous == Record::NO_PREVIOUS
            && after.part == 0
            && before.segment < after.segment;
    }
    let in_place = if after.part == 0 {
        before.segment.checked_add(1) == Some(after.segment)
    } else {
        before.segment == after.segment && before.part.checked_add(1) == Some(after.part)
    };
    after.previous == before.digest && in_place
}

/// True when `bytes` are the piece `index` of the part that `record` describes.
#[must_use]
pub fn piece_fits(record: &Record, index: u32, bytes: &[u8]) -> bool {
    let Some(hash) = usize::try_from(index).ok().and_then(|index| record.pieces.get(index)) else {
        return false;
    };
    bytes.len() as u64 == u64::from(millstream_model::piece_len(record.size, index)) && sha256(bytes) == *hash
}
