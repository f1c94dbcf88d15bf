//! One stream as everybody sees it: what its [`life`] writes, the origin, feeds and reports read.

pub(crate) mod life;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use millstream_model::{Instant, RenditionId, StreamId};
use millstream_wire::{
    media::{Catalog, Record},
    sign::Signed,
    tracker::{RunId, State},
};
use tokio::sync::watch;

use crate::{
    gate::Permission,
    keep::{Keeper, Show},
    window::{self, Window},
};

/// A stream.
#[derive(Debug)]
pub struct Stream {
    id: StreamId,
    inner: Mutex<Inner>,
    /// Counts changes; whoever waits for one looks again.
    changes: watch::Sender<u64>,
    /// Counted by the feeds themselves.
    pub(crate) feeds: AtomicUsize,
    pub(crate) feed_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// Who records its shows.
    keeper: OnceLock<Arc<Keeper>>,
}

/// What is read under the lock.
#[derive(Debug)]
pub struct Inner {
    /// What the stream is signed with.
    pub permission: Permission,
    /// The parts.
    pub window: Window,
    /// Of the newest delegation that was given, whether or not it is the one in force.
    pub given: u32,
    /// Whether its publisher is there.
    pub state: State,
    /// The tracker does not know it any more.
    pub gone: bool,
    /// The name of the count that follows.
    pub run: RunId,
    /// Bytes of all parts since the stream began here. Where a group has several
    /// renditions, that is more than one viewer can watch.
    pub published_bytes: u64,
    /// Playlists that many ask for at a time, with the change they were written after.
    playlists: HashMap<(RenditionId, Asked), (u64, Option<Bytes>)>,
    /// The show's recording, where it is recorded.
    pub(crate) show: Option<Arc<Show>>,
}

/// Which of a rendition's media playlists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    /// With parts.
    pub low_latency: bool,
    /// Without the older segments of a long one: the client has an earlier playlist.
    pub delta: bool,
}

impl Inner {
    /// The catalogs of the delegation in force, oldest first.
    pub fn catalogs_in_force(&self) -> impl Iterator<Item = &Signed<Catalog>> {
        let generation = self.permission.delegation.unverified().generation;
        self.window.catalogs().iter().filter(move |catalog| catalog.unverified().generation == generation)
    }

    /// It is over, and nothing of it is in memory: what there is of it is recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.state == State::Ended && self.show.is_some() && self.window.is_empty()
    }

    fn playlist(&self, rendition: RenditionId, asked: Asked) -> Option<String> {
        match &self.show {
            Some(show) if self.is_recorded() => show.vod_playlist(rendition),
            Some(show) if show.is_listed() => {
                let reports = self.window.reports(rendition);
                show.live_playlist(&self.window, rendition, asked, &reports)
            }
            _ => self.window.playlist(rendition, asked.low_latency),
        }
    }
}

impl Stream {
    /// A stream before its first part, whose bytes are counted as `run`.
    #[must_use]
    pub fn new(permission: Permission, window: window::Config, run: RunId) -> Arc<Self> {
        let inner = Inner {
            window: Window::new(window),
            state: State::Live,
            given: permission.generation(),
            gone: false,
            run,
            published_bytes: 0,
            playlists: HashMap::new(),
            show: None,
            permission,
        };
        Arc::new(Self {
            id: inner.permission.stream.clone(),
            inner: Mutex::new(inner),
            changes: watch::Sender::new(0),
            feeds: AtomicUsize::new(0),
            feed_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            keeper: OnceLock::new(),
        })
    }

    /// Has its shows recorded, from the next on.
    pub(crate) fn keep_by(&self, keeper: Arc<Keeper>) {
        // Said once, when it is made.
        let _ = self.keeper.set(keeper);
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &StreamId {
        &self.id
    }

    /// Looks at it. Nobody can change it meanwhile, so `look` is short.
    pub fn look<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner())
    }

    /// Feeds open now.
    #[must_use]
    pub fn feeds(&self) -> usize {
        self.feeds.load(Relaxed)
    }

    /// Bytes of bodies sent in all, and of feeds among them.
    #[must_use]
    pub fn sent_bytes(&self) -> (u64, u64) {
        (self.sent_bytes.load(Relaxed), self.feed_bytes.load(Relaxed))
    }

    /// Tells of changes from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Looks now and after each change, until `look` finds something.
    pub async fn wait<T>(&self, mut look: impl FnMut(&Inner) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.look(&mut look) {
                return found;
            }
            if changes.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The media playlist, written once however many ask for it.
    #[must_use]
    pub fn playlist(&self, rendition: RenditionId, asked: Asked) -> Option<Bytes> {
        let mut inner = self.inner();
        let change = *self.changes.borrow();
        if let Some((at, text)) = inner.playlists.get(&(rendition, asked))
            && *at == change
        {
            return text.clone();
        }
        let text = inner.playlist(rendition, asked).map(Bytes::from);
        inner.playlists.insert((rendition, asked), (change, text.clone()));
        text
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner();
        let result = change(&mut inner);
        // Under the lock, so that a playlist is never kept for a change it was not written after.
        self.changes.send_modify(|count| *count += 1);
        result
    }

    /// A new beginning under `permission`.
    pub(crate) fn begin(&self, permission: Permission) {
        let show = self.keeper.get().and_then(|keeper| keeper.begin(&permission));
        self.change(|inner| {
            inner.show = show;
            inner.window.clear();
            inner.given = permission.generation();
            inner.permission = permission;
            inner.state = State::Live;
            inner.gone = false;
        });
    }

    pub(crate) fn catalog(&self, catalog: Signed<Catalog>) {
        self.change(|inner| {
            if let Some(show) = &inner.show {
                show.catalog(&catalog);
            }
            inner.window.catalog(catalog);
        });
    }

    /// Goes on under another permission; in a new generation with the catalog said anew.
    pub(crate) fn renew(&self, permission: Permission, catalog: Option<Signed<Catalog>>) {
        self.change(|inner| {
            if let Some(show) = &inner.show {
                show.delegation(&permission.delegation);
                catalog.iter().for_each(|catalog| show.catalog(catalog));
            }
            inner.permission = permission;
            if let Some(catalog) = catalog {
                inner.window.catalog(catalog);
            }
        });
    }

    /// The stream is over; the catalog says so.
    pub(crate) fn end(&self, catalog: Option<Signed<Catalog>>) {
        self.change(|inner| {
            inner.state = State::Ended;
            if let Some(show) = &inner.show {
                catalog.iter().for_each(|catalog| show.catalog(catalog));
                show.stop();
            }
            if let Some(catalog) = catalog {
                inner.window.catalog(catalog);
            }
        });
    }

    /// Nothing comes any more from this program, whether or not the show is over.
    pub(crate) fn stop_keeping(&self) {
        if let Some(show) = self.look(|inner| inner.show.clone()) {
            show.stop();
        }
    }

    pub(crate) fn part(&self, record: Signed<Record>, data: Bytes, now: Instant) {
        self.change(|inner| {
            inner.published_bytes += data.len() as u64;
            if let Some(show) = &inner.show {
                show.part(&record, &data);
            }
            inner.window.push(record, data, now);
        });
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Relaxed);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic under this lock would be a bug in the window; what it holds is still whole parts.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
