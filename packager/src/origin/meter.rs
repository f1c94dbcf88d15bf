//! Counts the bytes of bodies: by session, by stream, by kind, feeds apart.
//!
//! Which session asks is what the request says (`session=`): a hint for whoever looks at who takes how much, unless a
//! token binds it. Nobody is paid or refused by it.

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

/// Idle sessions are looked for at most this often: anybody can fill the map with ids that he made up, and then each
/// request would go through all of it.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Meter {
    sessions: Mutex<Sessions>,
    sessions_max: usize,
    clock: Clock,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Sessions {
    by_id: HashMap<SessionId, Counted>,
    /// When idle ones were last looked for.
    swept: Option<Instant>,
}

impl Sessions {
    /// The count of a session; none when there is no room for one more.
    fn of(&mut self, session: SessionId, sessions_max: usize, now: Instant) -> Option<Arc<AtomicU64>> {
        if self.by_id.len() >= sessions_max && !self.by_id.contains_key(&session) {
            if self.swept.is_none_or(|swept| now.since(swept) >= SWEEP_EVERY) {
                self.swept = Some(now);
                self.by_id.retain(|_, counted| now.since(counted.last) < IDLE);
            }
            if self.by_id.len() >= sessions_max {
                return None;
            }
        }
        let counted =
            self.by_id.entry(session).or_insert_with(|| Counted { bytes: Arc::default(), last: now });
        counted.last = now;
        Some(Arc::clone(&counted.bytes))
    }
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
        sessions.of(session, self.sessions_max, now)
    }

    pub(super) fn sessions(&self, count: usize) -> Vec<SessionBytes> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<SessionBytes> = sessions
            .by_id
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_full_of_made_up_ids_is_not_gone_through_for_each_request() {
        let mut sessions = Sessions::default();
        let mut place = |n: u8, seconds: u64| {
            let now = Instant::from_millis(seconds * 1_000);
            sessions.of(SessionId([n; 16]), 2, now).is_some()
        };
        assert!(place(1, 0) && place(2, 595));
        assert!(!place(3, 595), "looked through, and nobody is idle");
        assert!(!place(4, 601), "looked through a moment ago");
        assert!(place(2, 601), "who is known is counted all the same");
        assert!(place(4, 605), "the first is idle");
    }
}
