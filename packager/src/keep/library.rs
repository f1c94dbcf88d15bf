//! Shows that are over, as streams that the origin serves like any other: read from the store when somebody asks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use millstream_model::{Instant, SessionId, StreamId};
use millstream_wire::tracker::State;
use tokio::sync::Semaphore;
use tracing::warn;

use super::{
    recorder::{Keeper, Loaded},
    show::Show,
    store,
};
use crate::{gate::Permission, stream::Stream, window};

/// Shows held at a time: each has some megabytes at most.
const SHELF_MAX: usize = 64;

/// Names that nothing is recorded under, remembered at a time: anybody can ask for any.
const ABSENT_MAX: usize = 4_096;

/// How long it is believed that nothing is there.
const ABSENT_FOR: Duration = Duration::from_secs(5);

/// Requests that wait for a show to be read, at most.
const LOADS_MAX: usize = 64;

/// What became of a question for a recorded show.
pub(crate) enum Recorded {
    /// Here it is.
    Here(Arc<Stream>),
    /// There is none.
    Absent,
    /// Too many ask, or the store does not answer.
    Busy,
}

pub(super) struct Library {
    shelf: Mutex<Shelf>,
    /// One is read at a time.
    reading: tokio::sync::Mutex<()>,
    loads: Semaphore,
    reads: Semaphore,
}

#[derive(Default)]
struct Shelf {
    shows: HashMap<StreamId, (Arc<Stream>, Instant)>,
    absent: HashMap<StreamId, Instant>,
}

impl Library {
    pub(super) fn new(reads_max: usize) -> Self {
        Self {
            shelf: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            loads: Semaphore::new(LOADS_MAX),
            reads: Semaphore::new(reads_max),
        }
    }

    /// There is something newer, or there may be.
    pub(super) fn forget(&self, stream: &StreamId) {
        let mut shelf = self.shelf();
        shelf.shows.remove(stream);
        shelf.absent.remove(stream);
    }

    fn known(&self, stream: &StreamId, now: Instant) -> Option<Recorded> {
        let mut shelf = self.shelf();
        if let Some((found, used)) = shelf.shows.get_mut(stream) {
            *used = now;
            return Some(Recorded::Here(Arc::clone(found)));
        }
        let absent = shelf.absent.get(stream)?;
        (now.since(*absent) < ABSENT_FOR).then_some(Recorded::Absent)
    }

    fn is_here(&self, stream: Arc<Stream>, now: Instant) {
        let mut shelf = self.shelf();
        if shelf.shows.len() >= SHELF_MAX {
            let longest = shelf.shows.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| id.clone());
            longest.map(|id| shelf.shows.remove(&id));
        }
        shelf.shows.insert(stream.id().clone(), (stream, now));
    }

    fn is_absent(&self, stream: &StreamId, now: Instant) {
        let mut shelf = self.shelf();
        if shelf.absent.len() >= ABSENT_MAX {
            shelf.absent.clear();
        }
        shelf.absent.insert(stream.clone(), now);
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// The newest show of a stream, where it is over.
    pub(crate) async fn recorded(&self, stream: &StreamId) -> Recorded {
        if !self.config.records(stream) {
            return Recorded::Absent;
        }
        let library = &self.library;
        if let Some(known) = library.known(stream, self.means.clock.now()) {
            return known;
        }
        let Ok(_waits) = library.loads.try_acquire() else { return Recorded::Busy };
        let _reading = library.reading.lock().await;
        if let Some(known) = library.known(stream, self.means.clock.now()) {
            return known;
        }
        match self.read_show(stream).await {
            Ok(Some(found)) => {
                library.is_here(Arc::clone(&found), self.means.clock.now());
                Recorded::Here(found)
            }
            Ok(None) => {
                library.is_absent(stream, self.means.clock.now());
                Recorded::Absent
            }
            Err(error) => {
                warn!(%stream, %error, "a recording cannot be read");
                self.means.metrics.errors.with_label_values(&["load"]).inc();
                Recorded::Busy
            }
        }
    }

    async fn read_show(&self, stream: &StreamId) -> Result<Option<Arc<Stream>>, store::Error> {
        let Some((place, manifest)) = self.newest(stream).await? else { return Ok(None) };
        let Loaded { index, .. } = self.load(&place).await?;
        let (Some(delegation), Some(newest)) =
            (index.newest_delegation().cloned(), index.newest_catalog().cloned())
        else {
            return Ok(None);
        };
        if !newest.unverified().ended {
            return Ok(None);
        }
        let permission = Permission {
            stream: stream.clone(),
            above: delegation.unverified().generation,
            delegation,
            root: manifest.root,
            tracker: manifest.tracker,
            public: manifest.public,
        };
        // Nothing is published any more, so nothing is counted by this name.
        let found = Stream::new(permission, window::Config::default(), SessionId([0; 16]));
        found.change(|inner| {
            inner.state = State::Ended;
            inner.window.catalog(newest);
            inner.show = Some(Show::finished(index, place));
        });
        Ok(Some(found))
    }

    /// A segment's bytes from the store. `None` when too many are read, or the store does not answer.
    pub(crate) async fn read(&self, name: &str, bytes: u64) -> Option<Option<Bytes>> {
        let _permit = self.library.reads.try_acquire().ok()?;
        match self.means.store.get(name, bytes).await {
            Ok(found) if found.len() as u64 == bytes => {
                self.means.metrics.read_bytes.inc_by(bytes);
                Some(Some(found))
            }
            Ok(_) | Err(store::Error::Absent(_) | store::Error::TooLong(..)) => {
                warn!(name, "a segment of a recording is missing or has another length");
                self.means.metrics.lost.inc();
                Some(None)
            }
            Err(error) => {
                self.means.metrics.errors.with_label_values(&["get"]).inc();
                warn!(name, %error, "a segment cannot be read from the store");
                None
            }
        }
    }
}
