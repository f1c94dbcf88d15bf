//! Believes a stored recording no more than what came over the network: every signature, every link of the chain,
//! every piece of media.

use std::collections::BTreeMap;

use millstream_model::{PIECE_BYTES, PublicKey, RenditionId, StreamId};
use millstream_wire::{
    chain::{CLOCK_SKEW_MS, Chain, piece_fits},
    frame::Frame,
    media::{Catalog, Record},
};

use super::{
    journal::{self, PAGE_BYTES_MAX, Place},
    recorder::pages,
    store::{self, Store},
};

/// Longest segment that is read: far above what the segmenter cuts.
const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a recording was found to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records whose signature or chain was checked.
    pub records: u64,
    /// Segments whose media was checked, piece by piece.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments that the journal says are lost.
    pub lost: u64,
    /// Places where numbers were left out within a generation: not even records were kept.
    pub holes: u64,
    /// The show is over, and what is here is all of it.
    pub ended: bool,
    /// What is not as it should be.
    pub problems: Vec<String>,
}

/// Checks a recording of `stream` against its root's key.
///
/// # Errors
/// When the store cannot be read. What is wrong with the recording is in the verdict.
pub async fn verify(
    store: &Store,
    place: &Place,
    stream: &StreamId,
    root: PublicKey,
) -> Result<Verdict, store::Error> {
    let mut walk = Walk {
        chain: Chain::new(stream.clone(), root),
        verdict: Verdict::default(),
        segments: BTreeMap::new(),
        last: BTreeMap::new(),
        lost: Vec::new(),
    };
    for number in pages(store, place).await? {
        match store.get(&place.page(number), PAGE_BYTES_MAX).await {
            Ok(page) => {
                if let Err(error) = journal::read(&page, |frame| walk.take(&frame)) {
                    walk.verdict.problems.push(format!("page {number}: {error}"));
                }
            }
            Err(error @ store::Error::Absent(_)) => {
                walk.verdict.problems.push(format!("page {number}: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    walk.media(store, place).await
}

struct Walk {
    chain: Chain,
    verdict: Verdict,
    /// With their renditions' names.
    segments: BTreeMap<(RenditionId, u64), (String, Vec<Record>)>,
    /// Generation and number of the newest record.
    last: BTreeMap<RenditionId, (u32, u64)>,
    lost: Vec<(RenditionId, std::ops::Range<u64>)>,
}

impl Walk {
    fn take(&mut self, frame: &Frame) {
        let taken = match frame {
            // It was valid when it was used; whether it still is does not matter to a recording.
            Frame::Delegation(signed) => {
                self.chain.accept_delegation(signed, signed.unverified().not_before).map(|_| ())
            }
            Frame::Catalog(signed) => {
                self.chain.accept_catalog(signed).map(|_| self.catalog(signed.unverified()))
            }
            Frame::Record(signed) => {
                let taken = self.chain.accept_record(signed).map(|_| ());
                if taken.is_ok() {
                    self.record(signed.unverified());
                }
                taken
            }
            Frame::Gap { rendition, from, next } => {
                self.lost.push((*rendition, *from..*next));
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(refused) = taken {
            self.verdict.problems.push(format!("{refused}: {frame:?}"));
        }
    }

    fn catalog(&mut self, catalog: &Catalog) {
        self.verdict.ended = catalog.ended;
        let expires = self.chain.delegation().map_or(0, |delegation| delegation.expires.0);
        // That a show is over may be said later: nothing is signed with it that could be watched.
        if !catalog.ended && catalog.created.0 > expires.saturating_add(CLOCK_SKEW_MS) {
            self.verdict
                .problems
                .push(format!("catalog {} was made after its delegation expired", catalog.version));
        }
    }

    fn record(&mut self, record: &Record) {
        self.verdict.records += 1;
        if let Some((generation, number)) =
            self.last.insert(record.rendition, (record.generation, record.number))
            && generation == record.generation
            && number.checked_add(1) != Some(record.number)
        {
            self.verdict.holes += 1;
        }
        let described = self.chain.catalogs().find(|catalog| catalog.version == record.catalog);
        let Some(name) = described.and_then(|c| c.rendition(record.rendition)).map(|r| r.name.clone()) else {
            self.verdict.problems.push(format!("no catalog describes record {}", record.number));
            return;
        };
        let segment = self.segments.entry((record.rendition, record.segment)).or_insert((name, Vec::new()));
        segment.1.push(record.clone());
    }

    async fn media(mut self, store: &Store, place: &Place) -> Result<Verdict, store::Error> {
        for ((rendition, segment), (name, records)) in &self.segments {
            let is_lost = |record: &Record| {
                self.lost.iter().any(|(of, lost)| of == rendition && lost.contains(&record.number))
            };
            if records.iter().any(is_lost) {
                self.verdict.lost += 1;
                continue;
            }
            let object = place.segment(name, *segment);
            let found = match store.get(&object, SEGMENT_BYTES_MAX).await {
                Ok(found) => found,
                Err(error @ (store::Error::Absent(_) | store::Error::TooLong(..))) => {
                    self.verdict.problems.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            if fits(records, &found) {
                self.verdict.segments += 1;
                self.verdict.bytes += found.len() as u64;
            } else {
                self.verdict.problems.push(format!("{object} is not what its records say"));
            }
        }
        Ok(self.verdict)
    }
}

/// Whether `media` is the parts that `records` describe, and nothing more.
fn fits(records: &[Record], mut media: &[u8]) -> bool {
    for record in records {
        let size = usize::try_from(record.size).unwrap_or(usize::MAX);
        let Some((part, rest)) = media.split_at_checked(size) else { return false };
        media = rest;
        let piece_bytes = usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX);
        let pieces = (0_u32..).zip(part.chunks(piece_bytes));
        if !pieces.into_iter().all(|(index, piece)| piece_fits(record, index, piece)) {
            return false;
        }
    }
    media.is_empty()
}
