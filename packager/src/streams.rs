//! All streams of this packager: finds them for requests, gives publishers to them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use millstream_model::{SessionId, StreamId};
use millstream_service::Spawner;
use millstream_wire::tracker::RunId;
use tokio::sync::mpsc;
use tracing::{Instrument as _, info_span, warn};

use crate::{
    gate::Permission,
    ingest::Publish,
    keep::Keeper,
    stream::{
        Stream,
        life::{Arrival, Life, Means},
    },
    window,
};

/// Publishers that wait for a stream's attention: one, for there is one at a time.
const INBOX: usize = 1;

/// The streams.
pub struct Streams {
    entries: Mutex<HashMap<StreamId, Entry>>,
    means: Arc<Means>,
    window: window::Config,
    spawner: Spawner,
    keeper: OnceLock<Arc<Keeper>>,
}

struct Entry {
    stream: Arc<Stream>,
    inbox: mpsc::Sender<Arrival>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Streams").field("count", &self.entries().len()).finish_non_exhaustive()
    }
}

impl Streams {
    pub(crate) fn new(means: Means, window: window::Config, spawner: Spawner) -> Arc<Self> {
        let (entries, keeper) = (Mutex::default(), OnceLock::new());
        Arc::new(Self { entries, means: Arc::new(means), window, spawner, keeper })
    }

    /// Has their shows recorded.
    pub(crate) fn keep_by(&self, keeper: Arc<Keeper>) {
        // Said once, before the first publisher.
        let _ = self.keeper.set(keeper);
    }

    /// Who records shows, where any is recorded.
    #[must_use]
    pub fn keeper(&self) -> Option<&Arc<Keeper>> {
        self.keeper.get()
    }

    /// The stream with this name.
    #[must_use]
    pub fn get(&self, id: &StreamId) -> Option<Arc<Stream>> {
        self.entries().get(id).map(|entry| Arc::clone(&entry.stream))
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.entries().values().map(|entry| Arc::clone(&entry.stream)).collect();
        all.sort_by(|one, other| one.id().cmp(other.id()));
        all
    }

    /// Puts a stream in that something else than a publisher feeds.
    #[cfg(test)]
    pub(crate) fn put(&self, stream: Arc<Stream>) {
        let (inbox, _) = mpsc::channel(INBOX);
        self.entries().insert(stream.id().clone(), Entry { stream, inbox });
    }

    /// Gives a publisher to its stream, which begins when there is none.
    pub(crate) fn take(self: &Arc<Self>, publish: Publish, permission: Permission) {
        let id = publish.stream;
        let mut arrival = Arrival { source: publish.source, events: publish.events, permission };
        let mut entries = self.entries();
        if let Some(entry) = entries.get(&id) {
            match entry.inbox.try_send(arrival) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Closed(back)) => arrival = back,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    // Dropping its events ends it.
                    warn!(stream = %id, "a second publisher is turned away");
                    return;
                }
            }
        }
        let Some(run) = fresh_run() else { return };
        let stream = Stream::new(arrival.permission.clone(), self.window.clone(), run);
        if let Some(keeper) = self.keeper() {
            stream.keep_by(Arc::clone(keeper));
        }
        let (inbox, receiver) = mpsc::channel(INBOX);
        // There is room for one.
        let _ = inbox.try_send(arrival);
        entries.insert(id.clone(), Entry { stream: Arc::clone(&stream), inbox });
        drop(entries);
        let life = Life::run(Arc::clone(&stream), Arc::clone(&self.means), receiver);
        let this = Arc::clone(self);
        let span = info_span!("stream", stream = %id);
        let whole = async move {
            life.await;
            stream.stop_keeping();
            this.remove(&stream);
        };
        self.spawner.spawn(format!("stream {id}"), whole.instrument(span));
    }

    fn remove(&self, stream: &Arc<Stream>) {
        let mut entries = self.entries();
        if entries.get(stream.id()).is_some_and(|entry| Arc::ptr_eq(&entry.stream, stream)) {
            entries.remove(stream.id());
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<StreamId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name for a new count. Without one nothing can be counted; dropping a publisher's events ends it.
fn fresh_run() -> Option<RunId> {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Some(SessionId(bytes)),
        Err(error) => {
            tracing::error!(%error, "there is no randomness, so no stream can begin");
            None
        }
    }
}
