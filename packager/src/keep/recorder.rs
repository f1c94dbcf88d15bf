//! Brings recordings to the store: one task for each show, beside the live path.
//!
//! It tries for ever, with growing pauses, and meanwhile the recording itself looks after its bound. A packager that
//! starts again goes on with a recording that it did not finish.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all, stream};
use millstream_model::StreamId;
use millstream_service::Spawner;
use millstream_wire::{
    media::Catalog,
    sign::{Context, SecretKey, Signed, Signer as _},
};
use tracing::{Instrument as _, info, info_span, warn};

use super::{
    Config,
    index::{Index, Media},
    journal::{self, Manifest, PAGE_BYTES_MAX, PAGES_MAX, Place, Writer},
    library::Library,
    metrics::Metrics,
    recording::{Counts, Recording},
    show::Show,
    store::{self, Store},
};
use crate::{
    clock::Clock,
    events::{Herald, What},
    gate::Permission,
    policy::Policies,
    streams::Streams,
};

/// Segments of one recording that are on their way at a time: a store far away answers late.
const PUTS_AT_A_TIME: usize = 4;

/// Pages that are read at a time.
const READS_AT_A_TIME: usize = 8;

/// The first pause before another try.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// A catalog that ends another run's generation has a version this far above the last that was written down: a killed
/// packager may have used more.
const VERSIONS_AHEAD: u32 = 1 << 16;

/// What all shows are kept with.
pub(crate) struct Means {
    pub(crate) store: Store,
    /// Signs that a show is over whose publisher never came back.
    pub(crate) key: SecretKey,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) herald: Herald,
    /// How long a publisher may be away.
    pub(crate) policies: Arc<Policies>,
    pub(crate) spawner: Spawner,
}

/// Keeps shows.
pub struct Keeper {
    pub(super) config: Config,
    pub(super) means: Means,
    pub(super) library: Library,
    shows: Mutex<Vec<Weak<Show>>>,
    /// Held while it is decided whether a recording goes on or is over.
    desk: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Keeper").field("store", &self.means.store).finish_non_exhaustive()
    }
}

/// What was found in the store, or made there.
struct Opened {
    place: Place,
    before: Index,
    next_page: u64,
}

/// A recording as it was read.
pub(super) struct Loaded {
    pub(super) index: Index,
    pub(super) next_page: u64,
}

impl Keeper {
    /// Keeps as `config` says.
    pub(crate) fn new(config: Config, means: Means) -> Arc<Self> {
        let library = Library::new(config.reads_max);
        Arc::new(Self {
            library,
            config,
            means,
            shows: Mutex::default(),
            desk: tokio::sync::Mutex::default(),
        })
    }

    /// Bytes that wait for the store.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.shows().iter().map(|show| show.look(|recording| recording.backlog_bytes())).sum()
    }

    /// Recordings that are not finished.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shows().len()
    }

    fn shows(&self) -> Vec<Arc<Show>> {
        let mut shows = self.shows.lock().unwrap_or_else(PoisonError::into_inner);
        shows.retain(|show| show.strong_count() > 0);
        shows
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|show| !show.look(|recording| recording.is_done()))
            .collect()
    }

    /// Begins to record a show under `permission`; none when the stream is not recorded.
    pub(crate) fn begin(self: &Arc<Self>, permission: &Permission) -> Option<Arc<Show>> {
        if !self.config.records(&permission.stream) {
            return None;
        }
        let show = Show::live(self.config.backlog_bytes_max, self.config.dvr_ms);
        show.delegation(&permission.delegation);
        self.shows.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&show));
        let work = Arc::clone(self).record(Arc::clone(&show), permission.clone());
        let span = info_span!("keep", stream = %permission.stream);
        self.means.spawner.spawn(format!("keep {}", permission.stream), work.instrument(span));
        Some(show)
    }

    async fn record(self: Arc<Self>, show: Arc<Show>, permission: Permission) {
        let mut pause = Pause::new(&self);
        let opened = loop {
            match self.goes_on_or_begins(&permission).await {
                Ok(opened) => break opened,
                Err(error) => pause.after("open", &error).await,
            }
        };
        pause.is_over();
        let Opened { place, before, next_page } = opened;
        show.look(|recording| recording.goes_on_from(before, next_page));
        let place = show.place.get_or_init(|| place);
        let mut before = Counts::default();
        loop {
            let more = self.store_some(&show, place, &mut pause).await;
            let counts = show.look(|recording| recording.counts());
            if counts.lost > before.lost {
                warn!(
                    segments = counts.lost - before.lost,
                    "the store takes too little: segments were given up, and the recording lists them as gaps"
                );
            }
            self.means.metrics.lost.inc_by(counts.lost - before.lost);
            self.means.metrics.stored.inc_by(counts.stored - before.stored);
            self.means.metrics.stored_bytes.inc_by(counts.stored_bytes - before.stored_bytes);
            before = counts;
            if show.look(|recording| recording.is_done()) {
                break;
            }
            if !more {
                show.wake.notified().await;
            }
        }
        if show.look(|recording| recording.index().has_ended()) {
            show.look(|recording| self.finished(&permission.stream, place, recording.index()));
        } else {
            info!(recording = place.folder(), "the recording waits for its publisher to come back");
        }
    }

    /// Stores what waits, at most a few segments and a page; says whether there may be more.
    async fn store_some(&self, show: &Show, place: &Place, pause: &mut Pause<'_>) -> bool {
        let puts: Vec<_> = (0..PUTS_AT_A_TIME).map_while(|_| show.look(Recording::next_put)).collect();
        let stored = puts.iter().map(|put| async {
            let name = place.segment(&put.name, put.segment);
            let outcome = self.means.store.put(&name, put.parts.clone()).await;
            show.look(|recording| recording.put_done(put.rendition, put.segment, outcome.is_ok()));
            outcome
        });
        let mut failed = join_all(stored).await.into_iter().find_map(Result::err);
        if failed.is_none()
            && let Some((number, page)) = show.look(Recording::page)
        {
            match self.means.store.put(&place.page(number), vec![page]).await {
                Ok(()) => show.look(Recording::page_stored),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => pause.after("put", &error).await,
            None if !puts.is_empty() => pause.is_over(),
            None => {}
        }
        show.look(|recording| recording.has_more())
    }

    /// The newest recording of the stream, where this packager has not finished it, or else a new one.
    async fn goes_on_or_begins(&self, permission: &Permission) -> Result<Opened, store::Error> {
        let _desk = self.desk.lock().await;
        let stream = &permission.stream;
        if let Some((place, manifest)) = self.newest(stream).await?
            && manifest.packager == self.means.key.public()
            && manifest.root == permission.root
        {
            let Loaded { index, next_page } = self.load(&place).await?;
            if !index.has_ended() {
                info!(recording = place.folder(), "the recording goes on");
                return Ok(Opened { place, before: index, next_page });
            }
        }
        let manifest = Manifest::new(
            stream.clone(),
            self.means.key.public(),
            permission.root,
            permission.tracker,
            permission.public,
            self.means.clock.wall(),
        );
        let place = Place::new(&manifest);
        self.means.store.put(&place.manifest(), vec![manifest.write()]).await?;
        info!(recording = place.folder(), "recording begins");
        Ok(Opened { place, before: Index::default(), next_page: 0 })
    }

    /// The newest recording of a stream.
    pub(super) async fn newest(&self, stream: &StreamId) -> Result<Option<(Place, Manifest)>, store::Error> {
        let mut ids = self.means.store.folders(stream.as_str()).await?;
        ids.sort_unstable();
        // One whose manifest was never written holds nothing.
        while let Some(id) = ids.pop() {
            let place = Place::of(stream, &id);
            match self.means.store.get(&place.manifest(), journal::MANIFEST_BYTES_MAX).await {
                Ok(bytes) => match Manifest::read(&bytes, stream) {
                    Ok(manifest) => return Ok(Some((place, manifest))),
                    Err(error) => warn!(recording = place.folder(), %error, "a recording is damaged"),
                },
                Err(store::Error::Absent(_) | store::Error::TooLong(..)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads a recording's journal, and looks whether its media is there. What is damaged or missing is said and left
    /// out.
    pub(super) async fn load(&self, place: &Place) -> Result<Loaded, store::Error> {
        let mut index = Index::default();
        let pages = pages(&self.means.store, place).await?;
        let reads: Vec<_> = pages
            .iter()
            .map(|number| self.means.store.get_owned(place.page(*number), PAGE_BYTES_MAX))
            .collect();
        let mut reads = stream::iter(reads).buffered(READS_AT_A_TIME);
        let mut numbers = pages.iter();
        while let (Some(page), Some(number)) = (reads.next().await, numbers.next()) {
            match page {
                Ok(page) => {
                    if let Err(error) = journal::read_into(&page, &mut index) {
                        warn!(recording = place.folder(), page = number, %error, "a recording is damaged");
                    }
                }
                Err(error @ (store::Error::Absent(_) | store::Error::TooLong(..))) => {
                    warn!(recording = place.folder(), page = number, %error, "a recording is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        drop(reads);
        self.look_for_media(place, &mut index).await?;
        Ok(Loaded { index, next_page: pages.last().map_or(0, |last| last + 1) })
    }

    async fn look_for_media(&self, place: &Place, index: &mut Index) -> Result<(), store::Error> {
        for rendition in index.renditions() {
            let Some(name) = index.name(rendition).map(str::to_owned) else { continue };
            let found = self.means.store.objects(&place.media(&name)).await?;
            let found: std::collections::HashMap<&str, u64> =
                found.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
            let missing: Vec<u64> = index
                .spans(rendition)
                .filter(|span| span.media == Media::Stored)
                .filter(|span| {
                    let object = format!("s{}.m4s", span.outline.segment);
                    found.get(object.as_str()) != Some(&span.bytes)
                })
                .map(|span| span.outline.segment)
                .collect();
            if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
                let count = missing.len();
                warn!(
                    recording = place.folder(),
                    rendition = name,
                    first,
                    last,
                    count,
                    "media of a recording is missing or has another length: it is listed as gaps"
                );
                self.means.metrics.lost.inc_by(count as u64);
            }
            for segment in missing {
                index.mark(rendition, segment, Media::Lost);
            }
        }
        Ok(())
    }

    fn finished(&self, stream: &StreamId, place: &Place, index: &Index) {
        let sums = Sums::of(index);
        info!(
            recording = place.folder(),
            duration_ms = sums.duration_ms,
            bytes = sums.bytes,
            segments = sums.segments,
            lost_ms = sums.lost_ms,
            "recording ready"
        );
        self.means.metrics.ready.inc();
        self.library.forget(stream);
        let Sums { duration_ms, bytes, lost_ms, .. } = sums;
        let recording = place.folder().to_owned();
        self.means.herald.tell(stream, What::RecordingReady { recording, duration_ms, bytes, lost_ms });
    }

    /// Ends recordings of shows that were on when the program was killed, and whose publishers do not come back in time.
    pub(crate) async fn settle(self: Arc<Self>, streams: Arc<Streams>) {
        let begun = tokio::time::Instant::now();
        let mut pause = Pause::new(&self);
        let all = loop {
            match self.means.store.folders("").await {
                Ok(all) => break all,
                Err(error) => pause.after("list", &error).await,
            }
        };
        pause.is_over();
        let away = |stream: StreamId| (self.means.policies.of(&stream).away, stream);
        let mut all: Vec<_> = all.iter().filter_map(|name| StreamId::new(name).ok()).map(away).collect();
        all.sort_unstable();
        for (away, stream) in all {
            tokio::time::sleep_until(begun + away).await;
            while let Err(error) = self.settle_one(&stream, &streams).await {
                pause.after("settle", &error).await;
            }
            pause.is_over();
        }
    }

    async fn settle_one(&self, stream: &StreamId, streams: &Streams) -> Result<(), store::Error> {
        let _desk = self.desk.lock().await;
        let Some((place, manifest)) = self.newest(stream).await? else { return Ok(()) };
        if manifest.packager != self.means.key.public() || streams.get(stream).is_some() {
            return Ok(());
        }
        let Loaded { mut index, next_page } = self.load(&place).await?;
        let (Some(newest), Some(delegation)) =
            (index.newest_catalog().cloned(), index.newest_delegation().cloned())
        else {
            return Ok(());
        };
        let newest = newest.unverified();
        if newest.ended || delegation.unverified().packager != self.means.key.public() {
            return Ok(());
        }
        let ended = Catalog {
            generation: newest.generation,
            version: newest.version.saturating_add(VERSIONS_AHEAD),
            created: self.means.clock.wall(),
            ended: true,
            renditions: newest.renditions.clone(),
        };
        let ended = Signed::new(ended, Context::Stream(stream), &self.means.key);
        let mut writer = Writer::default();
        writer.goes_on_at(next_page);
        writer.delegation(&delegation);
        writer.catalog(&ended);
        let (number, page) = writer.page();
        self.means.store.put(&place.page(number), vec![page]).await?;
        index.catalog(ended);
        self.finished(stream, &place, &index);
        Ok(())
    }
}

/// The numbers of a recording's pages, in order.
pub(super) async fn pages(store: &Store, place: &Place) -> Result<Vec<u64>, store::Error> {
    let found = store.objects(&place.journal()).await?;
    let mut pages: Vec<u64> = found.iter().filter_map(|(name, _)| Place::page_number(name)).collect();
    pages.sort_unstable();
    pages.truncate(PAGES_MAX);
    Ok(pages)
}

/// A recording in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    /// How long its longest rendition lasts, what was lost included.
    duration_ms: u64,
    /// How much was lost of the rendition that lost most.
    lost_ms: u64,
    /// Bytes in the store.
    bytes: u64,
    /// Segments of all renditions.
    segments: u64,
}

impl Sums {
    fn of(index: &Index) -> Self {
        let mut sums = Self::default();
        let newest = index.newest_catalog().map(Signed::unverified);
        for rendition in index.renditions() {
            // A publisher does not change a rendition's timescale.
            let described = newest.and_then(|catalog| catalog.rendition(rendition));
            let timescale = described.map_or(0, |found| u64::from(found.timescale));
            let (mut ticks, mut lost) = (0_u64, 0_u64);
            for span in index.spans(rendition) {
                sums.segments += 1;
                ticks = ticks.saturating_add(span.outline.duration);
                if span.media == Media::Lost {
                    lost = lost.saturating_add(span.outline.duration);
                } else {
                    sums.bytes += span.bytes;
                }
            }
            let ms = |ticks: u64| ticks.saturating_mul(1_000).checked_div(timescale).unwrap_or(0);
            sums.duration_ms = sums.duration_ms.max(ms(ticks));
            sums.lost_ms = sums.lost_ms.max(ms(lost));
        }
        sums
    }
}

/// Waits between tries, longer each time, and says so once.
struct Pause<'a> {
    keeper: &'a Keeper,
    next: Duration,
    since: Option<millstream_model::Instant>,
}

impl<'a> Pause<'a> {
    const fn new(keeper: &'a Keeper) -> Self {
        Self { keeper, next: RETRY_FIRST, since: None }
    }

    async fn after(&mut self, call: &str, error: &store::Error) {
        self.keeper.means.metrics.errors.with_label_values(&[call]).inc();
        if self.since.is_none() {
            self.since = Some(self.keeper.means.clock.now());
            warn!(%error, call, "the store fails; live streams go on, and it is tried again");
        }
        tokio::time::sleep(self.next).await;
        self.next =
            (self.next * 2).min(Duration::from_millis(self.keeper.config.retry_ms_max).max(RETRY_FIRST));
    }

    fn is_over(&mut self) {
        self.next = RETRY_FIRST;
        if let Some(since) = self.since.take() {
            let away_ms = self.keeper.means.clock.now().since(since).as_millis();
            info!(away_ms, "the store takes recordings again");
        }
    }
}
