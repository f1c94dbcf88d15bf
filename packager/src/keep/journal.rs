//! How a recording is written down (`docs/protocol/recordings.md`): where its objects are called what, and the pages of
//! its journal.
//!
//! Pure. A page is a framed body as the origin sends them: delegation and catalogs first, so that each page is believed
//! on its own, then in order of time the records of whole segments, each with a gap behind it where its media is not
//! there. A page is replaced by longer versions of itself until it is full; full pages never change.

use bytes::{Bytes, BytesMut};
use millstream_model::{PublicKey, RenditionId, StreamId, TrackerId, WallTime};
use millstream_wire::{
    chain,
    frame::{Deframer, Frame, write_framed},
    media::{Catalog, Delegation},
    sign::Signed,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::index::{Index, place};

/// Bytes of a page's records at which the next one begins: a minute or two of two renditions. A page is written again
/// with each segment, so that it is also what a segment costs beside its own bytes.
pub const PAGE_BYTES: usize = 96 * 1024;

/// Bytes of a page at most: its head (eight catalogs of up to 64 KiB), and records up to [`PAGE_BYTES`] and one long
/// segment more.
pub const PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Pages of a recording at most: some ten days.
pub const PAGES_MAX: usize = 16_384;

/// Bytes of a manifest at most: a few keys and names.
pub const MANIFEST_BYTES_MAX: u64 = 16 * 1024;

/// Its version, for readers to come.
const VERSION: u32 = 1;

/// What a recording begins with: whose it is. Written before all else, and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of all that is written below.
    pub version: u32,
    /// The stream.
    pub stream: StreamId,
    /// Who signs it.
    pub packager: PublicKey,
    /// Whom to believe about that.
    pub root: PublicKey,
    /// Whose tokens count; none without a tracker.
    pub tracker: Option<TrackerId>,
    /// Anybody may watch.
    pub public: bool,
    /// When it began.
    pub began: WallTime,
}

/// Why something in the store cannot be read.
#[derive(Debug, Error)]
pub enum Damaged {
    /// A page is not what a page is.
    #[error("a page of its journal is damaged: {0}")]
    Page(#[from] millstream_wire::codec::Error),
    /// A page ends in the middle of a frame.
    #[error("a page of its journal ends too early")]
    Short,
    /// The manifest is not what a manifest is.
    #[error("its manifest is damaged: {0}")]
    Manifest(#[from] serde_json::Error),
    /// The manifest is of another stream.
    #[error("its manifest names the stream {0}")]
    Stream(StreamId),
    /// It was written by a program to come.
    #[error("it has version {0}, and version {VERSION} is known here")]
    Version(u32),
}

impl Manifest {
    /// A manifest of today's version.
    #[must_use]
    pub const fn new(
        stream: StreamId,
        packager: PublicKey,
        root: PublicKey,
        tracker: Option<TrackerId>,
        public: bool,
        began: WallTime,
    ) -> Self {
        Self { version: VERSION, stream, packager, root, tracker, public, began }
    }

    /// As it is stored.
    #[must_use]
    pub fn write(&self) -> Bytes {
        // Keys, names and numbers alone: there is nothing in it that JSON could not hold.
        serde_json::to_vec_pretty(self).unwrap_or_default().into()
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8], stream: &StreamId) -> Result<Self, Damaged> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.version != VERSION {
            return Err(Damaged::Version(manifest.version));
        }
        if manifest.stream != *stream {
            return Err(Damaged::Stream(manifest.stream));
        }
        Ok(manifest)
    }
}

/// Where a recording's objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    folder: String,
}

impl Place {
    /// A new recording. Names sort by time; who began it at the same millisecond is told apart by the key.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let key = manifest.packager.as_bytes();
        let id = format!("{:014}-{:02x}{:02x}{:02x}{:02x}", manifest.began.0, key[0], key[1], key[2], key[3]);
        Self::of(&manifest.stream, &id)
    }

    /// A recording that there is.
    #[must_use]
    pub fn of(stream: &StreamId, id: &str) -> Self {
        Self { folder: format!("{stream}/{id}") }
    }

    /// All of it: the stream's name and the recording's own.
    #[must_use]
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        format!("{}/recording.json", self.folder)
    }

    /// All pages.
    #[must_use]
    pub fn journal(&self) -> String {
        format!("{}/journal", self.folder)
    }

    /// One page.
    #[must_use]
    pub fn page(&self, number: u64) -> String {
        format!("{}/journal/{number:08}.frames", self.folder)
    }

    /// The number of a page, by its object's last name.
    #[must_use]
    pub fn page_number(name: &str) -> Option<u64> {
        name.strip_suffix(".frames")?.parse().ok()
    }

    /// All segments of a rendition.
    #[must_use]
    pub fn media(&self, rendition: &str) -> String {
        format!("{}/{rendition}", self.folder)
    }

    /// A segment: as its URL ends.
    #[must_use]
    pub fn segment(&self, rendition: &str, segment: u64) -> String {
        format!("{}/{rendition}/s{segment}.m4s", self.folder)
    }
}

/// Writes pages.
#[derive(Debug, Default)]
pub struct Writer {
    number: u64,
    body: BytesMut,
    /// Of the records in `body`.
    bytes: usize,
    delegation: Option<Signed<Delegation>>,
    /// The newest of the generation.
    catalogs: Vec<Signed<Catalog>>,
}

impl Writer {
    /// Goes on behind pages that were written before.
    pub const fn goes_on_at(&mut self, page: u64) {
        self.number = page;
    }

    /// Adds a delegation.
    pub fn delegation(&mut self, delegation: &Signed<Delegation>) {
        if self.delegation.as_ref() == Some(delegation) {
            return;
        }
        let generation = |d: &Signed<Delegation>| d.unverified().generation;
        if self.delegation.as_ref().map(generation) != Some(generation(delegation)) {
            self.catalogs.clear();
        }
        self.delegation = Some(delegation.clone());
        if !self.body.is_empty() {
            say(&Frame::Delegation(delegation.clone()), &mut self.body);
        }
        self.begin();
    }

    /// Adds a catalog.
    pub fn catalog(&mut self, catalog: &Signed<Catalog>) {
        if self.catalogs.iter().any(|known| place(known) == place(catalog)) {
            return;
        }
        self.begin();
        say(&Frame::Catalog(catalog.clone()), &mut self.body);
        self.catalogs.push(catalog.clone());
        if self.catalogs.len() > chain::CATALOGS_MAX {
            self.catalogs.remove(0);
        }
    }

    /// Adds the framed records of a segment, from number `from` to before `next`.
    pub fn segment(&mut self, rendition: RenditionId, from: u64, next: u64, records: &[u8], lost: bool) {
        self.begin();
        self.body.extend_from_slice(records);
        self.bytes += records.len();
        if lost {
            say(&Frame::Gap { rendition, from, next }, &mut self.body);
        }
    }

    /// The page's number and what it holds so far.
    #[must_use]
    pub fn page(&self) -> (u64, Bytes) {
        (self.number, Bytes::copy_from_slice(&self.body))
    }

    /// The page is full: what comes next stands on another.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.bytes >= PAGE_BYTES
    }

    /// The page is stored; where it is full, the next begins.
    pub fn stored(&mut self) {
        if self.is_full() {
            self.number += 1;
            self.body.clear();
            self.bytes = 0;
        }
    }

    /// What everything on a page is believed by.
    fn begin(&mut self) {
        if !self.body.is_empty() {
            return;
        }
        if let Some(delegation) = &self.delegation {
            say(&Frame::Delegation(delegation.clone()), &mut self.body);
        }
        for catalog in &self.catalogs {
            say(&Frame::Catalog(catalog.clone()), &mut self.body);
        }
    }
}

/// All frames of a page.
///
/// # Errors
/// What is wrong with it. What came before it is read.
pub fn read(page: &[u8], mut each: impl FnMut(Frame)) -> Result<(), Damaged> {
    let mut deframer = Deframer::default();
    let mut rest = page;
    while !rest.is_empty() {
        let length = rest.first_chunk::<4>().ok_or(Damaged::Short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).saturating_add(4);
        let (frame, after) = rest.split_at_checked(length).ok_or(Damaged::Short)?;
        rest = after;
        deframer.push(frame);
        while let Some(frame) = deframer.next_frame()? {
            each(frame);
        }
    }
    Ok(())
}

/// Reads a page into `index`.
///
/// # Errors
/// As [`read`].
pub fn read_into(page: &[u8], index: &mut Index) -> Result<(), Damaged> {
    read(page, |frame| index.read(frame))
}

fn say(frame: &Frame, body: &mut BytesMut) {
    write_framed(&frame.encode(), body);
}

/// A record as it stands on a page.
pub(super) fn framed(frame: &Frame) -> Bytes {
    let mut body = BytesMut::new();
    say(frame, &mut body);
    body.freeze()
}
