//! The cache with its surroundings: where streams come from, the tasks that fetch them, and who waits for news.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millstream_cache::{Bad, Cache, Input, Limits, Output};
use millstream_model::{PublicKey, RenditionId, StreamId, WallTime};
use millstream_service::tasks::{Owned, Spawner};
use millstream_wire::{frame::Frame, session::Token, sign::Signed};
use tokio::sync::{mpsc, watch};

use crate::{clock::Clock, metrics::Metrics, upstream};

/// Lookups that wait to be sent to the tracker: one per stream that became wanted in a moment.
const LOOKUPS_MAX: usize = 256;

/// How long a viewer waits until the tracker says where its stream comes from.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A token that ends sooner is asked for anew before it is used.
const TOKEN_LEAD_MS: u64 = 5_000;

/// How often feeds that nobody wants are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Where a stream comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) root: PublicKey,
    pub(crate) origin: String,
    pub(crate) token: Signed<Token>,
}

impl Source {
    pub(crate) fn is_fresh(&self, wall: WallTime) -> bool {
        self.token.unverified().expires > wall.plus_millis(TOKEN_LEAD_MS)
    }
}

/// What became of a lookup.
#[derive(Debug, Clone, Default)]
struct Known {
    source: Option<Source>,
    /// Answers so far, good or not.
    answers: u64,
}

/// Why a stream cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// The tracker does not answer.
    Silent,
    /// The tracker does not know it, or nobody publishes it.
    Unknown,
    /// The edge carries as many as it may.
    Full,
}

/// The store of one edge.
pub(crate) struct Store {
    cache: Mutex<Cache>,
    sources: Mutex<HashMap<StreamId, watch::Sender<Known>>>,
    news: Mutex<HashMap<StreamId, watch::Sender<u64>>>,
    fetches: Mutex<HashMap<(StreamId, Option<RenditionId>), Owned>>,
    lookups: mpsc::Sender<StreamId>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) http: reqwest::Client,
    pub(crate) metrics: Metrics,
    tasks: Spawner,
}

impl Store {
    /// An empty store, and the streams that it wants the tracker to look up.
    pub(crate) fn new(
        limits: Limits,
        clock: Arc<Clock>,
        http: reqwest::Client,
        metrics: Metrics,
        tasks: Spawner,
    ) -> (Arc<Self>, mpsc::Receiver<StreamId>) {
        let (lookups, wanted) = mpsc::channel(LOOKUPS_MAX);
        let store = Self {
            cache: Mutex::new(Cache::new(limits)),
            sources: Mutex::default(),
            news: Mutex::default(),
            fetches: Mutex::default(),
            lookups,
            clock,
            http,
            metrics,
            tasks,
        };
        (Arc::new(store), wanted)
    }

    /// Looks into the cache. Keep it short: everybody waits.
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }

    /// A frame from an origin; says when it is not believed.
    pub(crate) fn frame(
        self: &Arc<Self>,
        stream: &StreamId,
        feed: Option<RenditionId>,
        frame: Frame,
    ) -> Result<(), Bad> {
        let bad = self.tell(Input::Frame { stream: stream.clone(), feed, frame: Box::new(frame) });
        bad.map_or(Ok(()), Err)
    }

    /// Finds the stream and enters it, as one more of its viewers.
    pub(crate) async fn enter(self: &Arc<Self>, stream: &StreamId) -> Result<Entered, NoStream> {
        let source = match self.known(stream) {
            // Also when its token has ended: what is here can be served, and a feed asks for a new one.
            Some(source) => source,
            None => self.look_up(stream).await?,
        };
        self.tell(Input::Known { stream: stream.clone(), root: source.root });
        if !self.cache().knows(stream) {
            return Err(NoStream::Full);
        }
        let news =
            lock(&self.news).entry(stream.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe();
        self.tell(Input::Enter(stream.clone()));
        Ok(Entered { store: Arc::clone(self), stream: stream.clone(), news, wants: Vec::new() })
    }

    /// Where the stream comes from, with a token that is good for now: asks the tracker if need be.
    pub(crate) async fn source(self: &Arc<Self>, stream: &StreamId) -> Result<Source, NoStream> {
        match self.known(stream) {
            Some(source) if source.is_fresh(self.clock.wall()) => Ok(source),
            stale => self.look_up(stream).await.or_else(|error| stale.ok_or(error)),
        }
    }

    /// Asks the tracker, whatever is known.
    pub(crate) async fn look_up(&self, stream: &StreamId) -> Result<Source, NoStream> {
        let mut answers = {
            let mut sources = lock(&self.sources);
            if sources.len() >= 4 * LOOKUPS_MAX {
                sources.retain(|_, known| known.receiver_count() > 0 || known.borrow().source.is_some());
            }
            sources.entry(stream.clone()).or_insert_with(|| watch::Sender::new(Known::default())).subscribe()
        };
        let before = answers.borrow().answers;
        let answered = async {
            self.lookups.send(stream.clone()).await.map_err(|_| NoStream::Silent)?;
            let known = answers.wait_for(|known| known.answers > before).await;
            let known = known.map_err(|_| NoStream::Silent)?;
            known.source.clone().ok_or(NoStream::Unknown)
        };
        tokio::time::timeout(LOOKUP_TIMEOUT, answered).await.unwrap_or(Err(NoStream::Silent))
    }

    /// The tracker's answer to a lookup, or its news; none when it does not know the stream.
    pub(crate) fn found(self: &Arc<Self>, stream: &StreamId, source: Option<Source>) {
        let root = source.as_ref().map(|source| source.root);
        {
            let mut sources = lock(&self.sources);
            let known = sources.entry(stream.clone()).or_insert_with(|| watch::Sender::new(Known::default()));
            known.send_modify(|known| {
                known.answers += 1;
                known.source = source;
            });
        }
        if let Some(root) = root
            && self.cache().knows(stream)
        {
            self.tell(Input::Known { stream: stream.clone(), root });
        }
    }

    /// Closes feeds that nobody has wanted for long enough, until the drain has emptied the edge.
    pub(crate) async fn keep_tidy(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let now = self.clock.now();
            let outputs = {
                let mut cache = self.cache();
                cache.handle_timeout(now);
                std::iter::from_fn(|| cache.poll()).collect()
            };
            self.act(outputs);
            self.measure();
            lock(&self.news).retain(|_, news| news.receiver_count() > 0);
        }
    }

    /// Ends all fetching: the edge is empty and stops.
    pub(crate) fn close(&self) {
        lock(&self.fetches).clear();
    }

    fn measure(&self) {
        use crate::metrics::gauge;
        let stats = self.cache().stats();
        self.metrics.cache_bytes.set(gauge(stats.bytes));
        self.metrics.cache_parts.set(gauge(stats.parts));
        self.metrics.evicted_parts.set(gauge(stats.evicted));
        self.metrics.feeds.set(gauge(stats.feeds));
        self.metrics.streams.set(gauge(stats.streams));
    }

    fn known(&self, stream: &StreamId) -> Option<Source> {
        lock(&self.sources).get(stream).and_then(|known| known.borrow().source.clone())
    }

    fn tell(self: &Arc<Self>, input: Input) -> Option<Bad> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let outputs: Vec<Output> = {
            let mut cache = self.cache();
            cache.handle(input, now, wall);
            std::iter::from_fn(|| cache.poll()).collect()
        };
        self.act(outputs)
    }

    fn act(self: &Arc<Self>, outputs: Vec<Output>) -> Option<Bad> {
        let mut found = None;
        for output in outputs {
            match output {
                Output::Describe(stream) => {
                    let work = upstream::describe(Arc::clone(self), stream.clone());
                    self.fetch((stream, None), work);
                }
                Output::Open { stream, rendition, name } => {
                    let work = upstream::feed(Arc::clone(self), stream.clone(), rendition, name);
                    self.fetch((stream, Some(rendition)), work);
                }
                Output::Close { stream, rendition } => {
                    lock(&self.fetches).remove(&(stream, Some(rendition)));
                }
                Output::Changed(stream) => self.tell_viewers(&stream),
                Output::Forgotten(stream) => {
                    lock(&self.fetches).retain(|(of, _), _| *of != stream);
                    // Its viewers look, find nothing, and leave.
                    self.tell_viewers(&stream);
                }
                Output::Bad { why, .. } => found = Some(why),
            }
        }
        found
    }

    fn fetch(&self, what: (StreamId, Option<RenditionId>), work: impl Future<Output = ()> + Send + 'static) {
        let name = if what.1.is_some() { "feed" } else { "description" };
        let task = self.tasks.spawn_owned(name, work);
        let mut fetches = lock(&self.fetches);
        fetches.retain(|_, task| !task.has_ended());
        fetches.insert(what, task);
    }

    fn tell_viewers(&self, stream: &StreamId) {
        if let Some(news) = lock(&self.news).get(stream) {
            news.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// A viewer's place in a stream. Dropping it leaves the stream, and what was wanted of it.
pub(crate) struct Entered {
    store: Arc<Store>,
    stream: StreamId,
    news: watch::Receiver<u64>,
    wants: Vec<RenditionId>,
}

impl Entered {
    /// Waits for something new in the stream.
    pub(crate) async fn news(&mut self) {
        if self.news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// From now on this rendition is wanted, or not.
    pub(crate) fn want(&mut self, rendition: RenditionId, wanted: bool) {
        let at = self.wants.iter().position(|want| *want == rendition);
        let stream = self.stream.clone();
        match (at, wanted) {
            (None, true) => {
                self.wants.push(rendition);
                self.store.tell(Input::Want { stream, rendition });
            }
            (Some(at), false) => {
                self.wants.swap_remove(at);
                self.store.tell(Input::Leave { stream, rendition });
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        for rendition in std::mem::take(&mut self.wants) {
            self.store.tell(Input::Leave { stream: self.stream.clone(), rendition });
        }
        self.store.tell(Input::Exit(self.stream.clone()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics runs under these locks; the data is sound even if it did.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
