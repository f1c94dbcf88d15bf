//! Counts the bytes of bodies: by session, by stream, by kind, feeds apart.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream_model::{Instant, SessionId};
use prometheus::IntCounter;

use crate::{clock::Clock, metrics::Metrics, stream::Stream};

/// A session that asked for nothing in this time makes room for others.
const IDLE: Duration = Duration::from_secs(600);

/// A session and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct SessionBytes {
    /// The session.
    pub session: SessionId,
    /// Bytes of bodies.
    pub bytes: u64,
}

pub(super) struct Meter {
    sessions: Mutex<HashMap<SessionId, Counted>>,
    sessions_max: usize,
    clock: Clock,
    metrics: Arc<Metrics>,
}

struct Counted {
    bytes: Arc<AtomicU64>,
    last: Instant,
}

/// Where one answer's bytes are counted.
pub(super) struct Tally {
    stream: Arc<Stream>,
    session: Option<Arc<AtomicU64>>,
    kind: IntCounter,
    feed: bool,
}

impl Meter {
    pub(super) fn new(sessions_max: usize, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { sessions: Mutex::default(), sessions_max, clock, metrics }
    }

    pub(super) fn open(
        &self,
        kind: &'static str,
        stream: &Arc<Stream>,
        session: Option<SessionId>,
        feed: bool,
    ) -> Tally {
        Tally {
            stream: Arc::clone(stream),
            session: session.and_then(|session| self.session(session)),
            kind: self.metrics.sent_bytes.with_label_values(&[kind]),
            feed,
        }
    }

    fn session(&self, session: SessionId) -> Option<Arc<AtomicU64>> {
        let now = self.clock.now();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= self.sessions_max && !sessions.contains_key(&session) {
            sessions.retain(|_, counted| now.since(counted.last) < IDLE);
            if sessions.len() >= self.sessions_max {
                return None;
            }
        }
        let counted = sessions.entry(session).or_insert_with(|| Counted { bytes: Arc::default(), last: now });
        counted.last = now;
        Some(Arc::clone(&counted.bytes))
    }

    pub(super) fn sessions(&self, count: usize) -> Vec<SessionBytes> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<SessionBytes> = sessions
            .iter()
            .map(|(session, counted)| SessionBytes { session: *session, bytes: counted.bytes.load(Relaxed) })
            .collect();
        drop(sessions);
        all.sort_by(|one, other| other.bytes.cmp(&one.bytes).then(one.session.cmp(&other.session)));
        all.truncate(count);
        all
    }
}

impl Tally {
    pub(super) fn add(&self, bytes: u64) {
        self.kind.inc_by(bytes);
        self.stream.sent(bytes);
        if self.feed {
            self.stream.feed_bytes.fetch_add(bytes, Relaxed);
        }
        if let Some(session) = &self.session {
            session.fetch_add(bytes, Relaxed);
        }
    }
}
