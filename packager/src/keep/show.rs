//! A recording as the stream and the origin hold it: put in by the live side, taken out by the recorder, asked by requests.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use millstream_model::RenditionId;
use millstream_playlist::{self as playlist, Delta, Options, Report};
use millstream_wire::{
    media::{Catalog, Delegation, Record},
    sign::Signed,
};
use tokio::sync::Notify;

use super::{
    index::{Index, Media},
    journal::Place,
    recording::Recording,
};
use crate::{stream::Asked, window::Window};

/// A segment that left the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It waits for the store.
    Here(Vec<Bytes>),
    /// It is in the store.
    Stored {
        /// Its object.
        name: String,
        /// Its bytes.
        bytes: u64,
    },
    /// It is nowhere any more.
    Lost,
}

/// One show's recording.
#[derive(Debug)]
pub(crate) struct Show {
    recording: Mutex<Recording>,
    /// Something came, or nothing comes any more.
    pub(super) wake: Notify,
    /// Where it is stored; not known before the store was asked.
    pub(super) place: OnceLock<Place>,
    /// How far live playlists reach back.
    dvr_ms: u64,
}

impl Show {
    pub(super) fn live(backlog_bytes_max: usize, dvr_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            recording: Mutex::new(Recording::new(backlog_bytes_max)),
            wake: Notify::new(),
            place: OnceLock::new(),
            dvr_ms,
        })
    }

    /// One that is over.
    pub(super) fn finished(index: Index, place: Place) -> Arc<Self> {
        Arc::new(Self {
            recording: Mutex::new(Recording::finished(index)),
            wake: Notify::new(),
            place: OnceLock::from(place),
            dvr_ms: u64::MAX,
        })
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Recording) -> T) -> T {
        look(&mut self.recording())
    }

    pub(crate) fn delegation(&self, delegation: &Signed<Delegation>) {
        self.look(|recording| recording.delegation(delegation));
    }

    pub(crate) fn catalog(&self, catalog: &Signed<Catalog>) {
        self.look(|recording| recording.catalog(catalog));
        self.wake.notify_one();
    }

    pub(crate) fn part(&self, record: &Signed<Record>, data: &Bytes) {
        self.look(|recording| recording.part(record, data));
        // What is stored is whole segments: the one before this.
        if record.unverified().first {
            self.wake.notify_one();
        }
    }

    /// Nothing comes any more from this program, whether or not the show is over.
    pub(crate) fn stop(&self) {
        self.look(Recording::close);
        self.wake.notify_one();
    }

    /// A segment of a rendition.
    pub(crate) fn segment(&self, name: &str, segment: u64) -> Option<Found> {
        let recording = self.recording();
        let index = recording.index();
        let rendition = index.named(name)?;
        let span = index.find(rendition, segment)?;
        Some(match span.media {
            Media::Stored => {
                let name = index.name(rendition)?;
                Found::Stored { name: self.place.get()?.segment(name, segment), bytes: span.bytes }
            }
            Media::Waiting => recording.waiting(rendition, segment).map_or(Found::Lost, Found::Here),
            Media::Lost => Found::Lost,
        })
    }

    /// The store does not have what it should.
    pub(crate) fn lose(&self, name: &str, segment: u64) {
        self.look(|recording| recording.lose(name, segment));
    }

    /// The init segment of a catalog version that left the window.
    pub(crate) fn init(&self, name: &str, generation: u32, version: u32) -> Option<Bytes> {
        self.recording().index().init(name, generation, version)
    }

    /// Whether playlists reach further back than the window.
    pub(crate) const fn is_listed(&self) -> bool {
        self.dvr_ms > 0
    }

    /// The live playlist of a rendition: what is stored, then what is in `window`.
    pub(crate) fn live_playlist(
        &self,
        window: &Window,
        rendition: RenditionId,
        asked: Asked,
        reports: &[Report<'_>],
    ) -> Option<String> {
        let mut recording = self.recording();
        let first = window.parts(rendition).next().map(|held| held.record.unverified().segment);
        let outlines: Vec<_> = recording
            .listed(rendition)
            .map(|span| span.outline)
            .take_while(|outline| first.is_none_or(|first| outline.segment < first))
            .collect();
        let catalogs: Vec<&Catalog> = recording.index().catalogs().map(Signed::unverified).collect();
        let listed_ms = self.dvr_ms.max(window.listed_ms());
        let delta = if asked.delta { Delta::Asked } else { Delta::Offered };
        let low_latency = asked.low_latency;
        let options = Options { low_latency, listed_ms, reports, bridged: true, vod: false, delta };
        let records = window.parts(rendition).map(|held| held.record.unverified());
        playlist::media_with(&catalogs, rendition, &outlines, records, &options)
    }

    /// The playlist of a show that is over.
    pub(crate) fn vod_playlist(&self, rendition: RenditionId) -> Option<String> {
        let recording = self.recording();
        let index = recording.index();
        let catalogs: Vec<&Catalog> = index.catalogs().map(Signed::unverified).collect();
        let options = Options {
            low_latency: false,
            listed_ms: u64::MAX,
            bridged: true,
            vod: true,
            ..Options::default()
        };
        let outlines = index.spans(rendition).map(|span| &span.outline);
        playlist::media_with(&catalogs, rendition, outlines, [], &options)
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        // A panic under this lock would be a bug in the recording; the journal is still true.
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
