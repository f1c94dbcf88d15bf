//! Which streams have a publisher: one each; and when an older one has to go for a newer.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream_model::{Instant, StreamId};

use crate::policy::Takeover;

/// A publisher that is silent for so long may be replaced by one with the same key: encoders send sound every 23 ms,
/// and whoever's line broke comes back about as soon.
const QUIET: Duration = Duration::from_secs(2);

/// How often a newcomer looks whether the older one still lives.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The streams that are live here.
#[derive(Debug, Clone)]
pub(super) struct Live {
    streams: Arc<Mutex<Streams>>,
    start: tokio::time::Instant,
}

#[derive(Debug, Default)]
struct Streams {
    holders: HashMap<StreamId, Holder>,
    /// Slots so far.
    slots: u64,
}

#[derive(Debug)]
struct Holder {
    slot: u64,
    heard: Arc<AtomicU64>,
}

/// The right to publish a stream; given back when dropped, unless somebody else has it by then.
#[derive(Debug)]
pub(super) struct Slot {
    stream: StreamId,
    number: u64,
    /// When the publisher was last heard, in microseconds of `live`'s clock.
    heard: Arc<AtomicU64>,
    live: Live,
}

/// What becomes of a newcomer to a stream that has a publisher.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Replaces,
    IsRefused,
    Waits,
}

impl Default for Live {
    fn default() -> Self {
        Self { streams: Arc::default(), start: tokio::time::Instant::now() }
    }
}

impl Live {
    /// The stream's slot, unless somebody has it who lives and must not be replaced. Waits a moment to see that.
    pub(super) async fn claim(&self, stream: &StreamId, takeover: Takeover) -> Option<Slot> {
        let arrived = self.now();
        loop {
            {
                let mut streams = self.streams();
                let verdict = streams
                    .holders
                    .get(stream)
                    .map(|older| judge(takeover, arrived, Instant(older.heard.load(Relaxed)), self.now()));
                match verdict {
                    None | Some(Verdict::Replaces) => return Some(self.seat(&mut streams, stream)),
                    Some(Verdict::IsRefused) => return None,
                    Some(Verdict::Waits) => {}
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn seat(&self, streams: &mut Streams, stream: &StreamId) -> Slot {
        streams.slots += 1;
        let (number, heard) = (streams.slots, Arc::new(AtomicU64::new(self.now().0)));
        streams.holders.insert(stream.clone(), Holder { slot: number, heard: Arc::clone(&heard) });
        Slot { stream: stream.clone(), number, heard, live: self.clone() }
    }

    /// How many streams are live.
    pub(super) fn count(&self) -> usize {
        self.streams().holders.len()
    }

    fn now(&self) -> Instant {
        Instant(0) + self.start.elapsed()
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides about a newcomer that `arrived`, when the older one was last `heard`.
fn judge(takeover: Takeover, arrived: Instant, heard: Instant, now: Instant) -> Verdict {
    match takeover {
        Takeover::Replace => Verdict::Replaces,
        Takeover::Refuse if now.since(heard) >= QUIET => Verdict::Replaces,
        Takeover::Refuse if heard > arrived => Verdict::IsRefused,
        Takeover::Refuse => Verdict::Waits,
    }
}

impl Slot {
    /// The stream it is for.
    pub(super) fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Its publisher lives.
    pub(super) fn heard(&self) {
        self.heard.store(self.live.now().0, Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut streams = self.live.streams();
        if streams.holders.get(&self.stream).is_some_and(|holder| holder.slot == self.number) {
            streams.holders.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn demo() -> StreamId {
        StreamId::new("demo").unwrap()
    }

    #[tokio::test]
    async fn a_stream_has_one_publisher_at_a_time() {
        let live = Live::default();
        let slot = live.claim(&demo(), Takeover::Refuse).await.unwrap();
        assert!(live.claim(&StreamId::new("other").unwrap(), Takeover::Refuse).await.is_some());
        let demo = demo();
        let mut newcomer = Box::pin(live.claim(&demo, Takeover::Refuse));
        assert!(newcomer.as_mut().now_or_never().is_none(), "it waits to see whether the older one lives");
        tokio::time::sleep(Duration::from_millis(1)).await; // waits because a clock must tell two moments apart
        slot.heard();
        assert!(newcomer.await.is_none(), "it does");
        drop(slot);
        assert!(live.claim(&demo, Takeover::Refuse).now_or_never().flatten().is_some());
        assert_eq!(live.count(), 0);
    }

    #[tokio::test]
    async fn a_publisher_that_is_dead_does_not_lock_its_owner_out() {
        let live = Live::default();
        let dead = live.claim(&demo(), Takeover::Refuse).await.unwrap();
        let before = tokio::time::Instant::now();
        let newer = live.claim(&demo(), Takeover::Refuse).await.unwrap();
        assert!(before.elapsed() + LOOK_EVERY >= QUIET, "{:?}", before.elapsed());
        drop(dead);
        assert_eq!(live.count(), 1, "the older one gives back nothing that it has no more");
        drop(newer);
        assert_eq!(live.count(), 0);
    }

    #[tokio::test]
    async fn a_newcomer_that_waits_comes_in_when_the_older_one_goes() {
        let live = Live::default();
        let older = live.claim(&demo(), Takeover::Refuse).await.unwrap();
        let demo = demo();
        let mut newcomer = Box::pin(live.claim(&demo, Takeover::Refuse));
        assert!(newcomer.as_mut().now_or_never().is_none());
        drop(older);
        assert!(newcomer.await.is_some());
    }

    #[test]
    fn who_lives_stays_and_who_is_silent_goes() {
        let at = |ms| Instant(0) + Duration::from_millis(ms);
        let refuse = |arrived, heard, now| judge(Takeover::Refuse, at(arrived), at(heard), at(now));
        assert_eq!(refuse(1_000, 990, 1_000), Verdict::Waits);
        assert_eq!(refuse(1_000, 990, 2_989), Verdict::Waits);
        assert_eq!(refuse(1_000, 990, 2_990), Verdict::Replaces);
        assert_eq!(refuse(1_000, 1_010, 1_100), Verdict::IsRefused);
        assert_eq!(refuse(9_000, 990, 9_000), Verdict::Replaces, "dead for long");
        assert_eq!(judge(Takeover::Replace, at(0), at(0), at(0)), Verdict::Replaces);
    }

    #[tokio::test]
    async fn where_the_newer_one_wins_it_wins_at_once() {
        let live = Live::default();
        let older = live.claim(&demo(), Takeover::Replace).await.unwrap();
        older.heard();
        let newer = live.claim(&demo(), Takeover::Replace).now_or_never().flatten();
        drop(older);
        assert!(newer.is_some() && live.count() == 1);
    }
}
