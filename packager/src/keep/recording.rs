//! One show while it is recorded: what is in memory on its way to the store, what is given up when the store does not
//! take it, and what the journal says.
//!
//! Pure. The live side puts catalogs and parts in and never waits; the shell ([`super::recorder`]) takes out what is to
//! be stored, in this order: a segment's media, then its records. So whatever is in the journal is in the store.
//!
//! At the bound the oldest segments' media is given up first, and their records are kept: the recording says what it
//! lost, and its chain stays whole. Where even the records are too much, the oldest of them go, too: a hole.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use millstream_model::RenditionId;
use millstream_wire::{
    frame::Frame,
    media::{Catalog, Delegation, Record},
    sign::Signed,
};

use super::{
    index::{Index, Media, Span},
    journal::{Writer, framed},
};

/// A segment's media on its way.
#[derive(Debug, Clone)]
pub struct Put {
    /// Its rendition.
    pub rendition: RenditionId,
    /// Its rendition's name.
    pub name: String,
    /// Its number.
    pub segment: u64,
    /// Its bytes, part by part.
    pub parts: Vec<Bytes>,
}

/// What was lost and kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Segments stored, their records too.
    pub stored: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Segments whose media was given up.
    pub lost: u64,
}

/// A show on its way to the store.
#[derive(Debug)]
pub struct Recording {
    backlog_bytes_max: usize,
    backlog_bytes: usize,
    index: Index,
    open: BTreeMap<RenditionId, Open>,
    entries: VecDeque<Entry>,
    writer: Writer,
    /// The page holds what is not stored.
    dirty: bool,
    counts: Counts,
    /// What stands in pages that are not stored yet.
    written: Counts,
    /// Nothing comes any more.
    closed: bool,
    /// Segments of this run begin with this generation; what was recorded before it is hidden from live playlists.
    hidden_below: Option<u32>,
    listed: bool,
}

/// A segment that still grows.
#[derive(Debug)]
struct Open {
    span: Span,
    records: BytesMut,
    parts: Vec<Bytes>,
}

/// What the journal has to say next.
#[derive(Debug)]
enum Entry {
    Delegation(Signed<Delegation>),
    Catalog(Signed<Catalog>),
    Segment(Waiting),
}

#[derive(Debug)]
struct Waiting {
    rendition: RenditionId,
    segment: u64,
    from: u64,
    next: u64,
    records: Bytes,
    parts: Vec<Bytes>,
    /// Of its media, once that is in the store.
    stored_bytes: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    UnderWay,
    Stored,
    Lost,
}

impl Waiting {
    fn media_bytes(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

impl Recording {
    /// An empty recording that holds `backlog_bytes_max` bytes in memory at most, beside a segment of each rendition.
    #[must_use]
    pub fn new(backlog_bytes_max: usize) -> Self {
        Self {
            backlog_bytes_max,
            backlog_bytes: 0,
            index: Index::default(),
            open: BTreeMap::new(),
            entries: VecDeque::new(),
            writer: Writer::default(),
            dirty: false,
            counts: Counts::default(),
            written: Counts::default(),
            closed: false,
            hidden_below: None,
            listed: false,
        }
    }

    /// One that is over, as it was read from the store.
    #[must_use]
    pub fn finished(index: Index) -> Self {
        Self { index, closed: true, ..Self::new(0) }
    }

    /// Takes the delegation that follows.
    pub fn delegation(&mut self, delegation: &Signed<Delegation>) {
        self.index.delegation(delegation.clone());
        self.entries.push_back(Entry::Delegation(delegation.clone()));
    }

    /// Takes the catalog that follows. One that says that the stream is over closes the recording.
    pub fn catalog(&mut self, catalog: &Signed<Catalog>) {
        if catalog.unverified().ended {
            self.close();
        }
        self.index.catalog(catalog.clone());
        self.entries.push_back(Entry::Catalog(catalog.clone()));
    }

    /// Takes the part that follows.
    pub fn part(&mut self, record: &Signed<Record>, data: &Bytes) {
        let told = record.unverified();
        let frame = framed(&Frame::Record(record.clone()));
        if told.first {
            self.cut(told.rendition);
            let open =
                Open { span: Span::of(told), records: BytesMut::from(&frame[..]), parts: vec![data.clone()] };
            self.backlog_bytes += data.len() + frame.len();
            self.open.insert(told.rendition, open);
        } else if let Some(open) = self.open.get_mut(&told.rendition)
            && open.span.push(told)
        {
            open.records.extend_from_slice(&frame);
            open.parts.push(data.clone());
            self.backlog_bytes += data.len() + frame.len();
        }
        self.give_up();
    }

    /// Nothing follows, for now or for ever: what is there of open segments is all of them.
    pub fn close(&mut self) {
        let open: Vec<RenditionId> = self.open.keys().copied().collect();
        open.into_iter().for_each(|rendition| self.cut(rendition));
        self.closed = true;
    }

    /// Puts what was recorded before in front. Where playlists were given out already, they go on without it.
    pub fn goes_on_from(&mut self, before: Index, next_page: u64) {
        if self.listed {
            self.hidden_below =
                self.index.newest_delegation().map(|delegation| delegation.unverified().generation);
        }
        self.index.goes_on_from(before);
        self.writer.goes_on_at(next_page);
    }

    /// What is to be stored next, oldest first.
    pub fn next_put(&mut self) -> Option<Put> {
        let waiting = self.entries.iter_mut().find_map(|entry| match entry {
            Entry::Segment(waiting) if waiting.state == State::Waiting => Some(waiting),
            _ => None,
        })?;
        let name = self.index.name(waiting.rendition)?.to_owned();
        waiting.state = State::UnderWay;
        Some(Put {
            rendition: waiting.rendition,
            name,
            segment: waiting.segment,
            parts: waiting.parts.clone(),
        })
    }

    /// Says what became of a put.
    pub fn put_done(&mut self, rendition: RenditionId, segment: u64, is_stored: bool) {
        let Some(waiting) = self.waiting_mut(rendition, segment) else { return };
        if !is_stored {
            waiting.state = State::Waiting;
            self.give_up();
            return;
        }
        waiting.state = State::Stored;
        let bytes = waiting.media_bytes();
        waiting.parts.clear();
        waiting.stored_bytes = bytes as u64;
        self.backlog_bytes -= bytes;
        self.index.mark(rendition, segment, Media::Stored);
    }

    /// The page to be written, where it has something new: its number and all of it.
    pub fn page(&mut self) -> Option<(u64, Bytes)> {
        while !self.writer.is_full()
            && let Some(entry) = self.entries.pop_front()
        {
            match entry {
                Entry::Segment(waiting) if matches!(waiting.state, State::Waiting | State::UnderWay) => {
                    self.entries.push_front(Entry::Segment(waiting));
                    break;
                }
                Entry::Segment(it) => {
                    self.backlog_bytes -= it.records.len();
                    let lost = it.state == State::Lost;
                    self.written.stored += u64::from(!lost);
                    self.written.stored_bytes += it.stored_bytes;
                    self.writer.segment(it.rendition, it.from, it.next, &it.records, lost);
                }
                Entry::Delegation(delegation) => self.writer.delegation(&delegation),
                Entry::Catalog(catalog) => self.writer.catalog(&catalog),
            }
            self.dirty = true;
        }
        self.dirty.then(|| self.writer.page())
    }

    /// The page that was given last is stored.
    pub fn page_stored(&mut self) {
        self.dirty = false;
        self.writer.stored();
        let written = std::mem::take(&mut self.written);
        self.counts.stored += written.stored;
        self.counts.stored_bytes += written.stored_bytes;
    }

    /// Something can be stored now.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let waits = |entry: &Entry| matches!(entry, Entry::Segment(it) if it.state == State::Waiting);
        let ready = self.entries.front().is_some_and(
            |first| !matches!(first, Entry::Segment(it) if matches!(it.state, State::Waiting | State::UnderWay)),
        );
        self.dirty || ready || self.entries.iter().any(waits)
    }

    /// Everything that came is stored or given up, and nothing comes any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.closed && self.entries.is_empty() && !self.dirty
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// What was stored and lost.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// What there is.
    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// The segments for live playlists. From the first time on, nothing is put in front of them.
    pub fn listed(&mut self, rendition: RenditionId) -> impl Iterator<Item = &Span> {
        self.listed = true;
        let from = self.hidden_below.unwrap_or(0);
        self.index.spans(rendition).filter(move |span| span.outline.generation >= from)
    }

    /// The store does not have a segment that it should have.
    pub fn lose(&mut self, name: &str, segment: u64) {
        if let Some(rendition) = self.index.named(name) {
            self.index.mark(rendition, segment, Media::Lost);
        }
    }

    /// A segment's bytes, while they wait.
    #[must_use]
    pub fn waiting(&self, rendition: RenditionId, segment: u64) -> Option<Vec<Bytes>> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Segment(it)
                if (it.rendition, it.segment) == (rendition, segment) && !it.parts.is_empty() =>
            {
                Some(it.parts.clone())
            }
            _ => None,
        })
    }

    /// Segments that wait.
    #[cfg(test)]
    pub(super) fn waiting_count(&self) -> usize {
        let waits = |entry: &&Entry| matches!(entry, Entry::Segment(it) if !it.parts.is_empty());
        self.entries.iter().filter(waits).count()
    }

    fn cut(&mut self, rendition: RenditionId) {
        let Some(Open { span, records, parts }) = self.open.remove(&rendition) else { return };
        let outline = span.outline;
        self.entries.push_back(Entry::Segment(Waiting {
            rendition,
            segment: outline.segment,
            from: outline.number,
            next: outline.next_number().unwrap_or(outline.number),
            records: records.freeze(),
            parts,
            stored_bytes: 0,
            state: State::Waiting,
        }));
        self.index.push(rendition, span);
    }

    fn waiting_mut(&mut self, rendition: RenditionId, segment: u64) -> Option<&mut Waiting> {
        self.entries.iter_mut().find_map(|entry| match entry {
            Entry::Segment(it) if (it.rendition, it.segment) == (rendition, segment) => Some(it),
            _ => None,
        })
    }

    fn give_up(&mut self) {
        while self.backlog_bytes > self.backlog_bytes_max {
            let oldest = self.entries.iter_mut().find_map(|entry| match entry {
                Entry::Segment(it) if it.state == State::Waiting => Some(it),
                _ => None,
            });
            if let Some(it) = oldest {
                it.state = State::Lost;
                let (rendition, segment) = (it.rendition, it.segment);
                self.backlog_bytes -= it.media_bytes();
                it.parts = Vec::new();
                self.counts.lost += 1;
                self.index.mark(rendition, segment, Media::Lost);
                continue;
            }
            // Records alone are too much: the oldest whose media is lost anyway go.
            let lost = |entry: &Entry| matches!(entry, Entry::Segment(it) if it.state == State::Lost);
            let Some(at) = self.entries.iter().position(lost) else { return };
            if let Some(Entry::Segment(it)) = self.entries.remove(at) {
                self.backlog_bytes -= it.records.len();
            }
        }
    }
}

#[cfg(test)]
mod tests;
