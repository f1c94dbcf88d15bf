//! What comes of a publish, through a queue that is bounded in events and in bytes.

use std::sync::{Arc, OnceLock};

use millstream_rtmp::{Limits, Metadata};
use millstream_segmenter::{Sample, TrackConfig};
use tokio::sync::{Semaphore, mpsc};

/// Events in one queue at most: 13 s of 30 frames and 47 sounds a second.
const QUEUE_EVENTS_MAX: usize = 1024;

/// What an event costs beside its sample's bytes; bounds what many small ones take.
const EVENT_BYTES: usize = 256;

/// What a publisher's connection gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A track's set-up, new or changed. Repetitions are left out.
    Config(TrackConfig),
    /// A sample of a track whose set-up came before.
    Sample(Sample),
    /// What the encoder says of itself.
    Metadata(Metadata),
    /// The publisher is gone. Always the last.
    Gone {
        /// Why.
        reason: Gone,
    },
}

/// Why a publisher is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// It said goodbye.
    #[error("the publisher ended it")]
    Ended,
    /// Its connection ended without a goodbye.
    #[error("the connection was lost")]
    Lost,
    /// It was cut off: silent too long, broken, or a codec that is not taken.
    #[error("{0}")]
    Closed(millstream_rtmp::Reason),
    /// It was cut off, in words: media that nothing can be made of.
    #[error("{0}")]
    Broken(String),
    /// We ended it: the server stops, or nobody takes its events.
    #[error("ingest ended it")]
    Stopped,
}

/// One publisher's events. Dropping it ends the publisher.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<(Event, usize)>,
    room: Arc<Semaphore>,
    gone: Arc<OnceLock<Gone>>,
    dismissal: Arc<OnceLock<String>>,
    ended: bool,
}

/// The publisher's end of the queue.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<(Event, usize)>,
    room: Arc<Semaphore>,
    bytes_max: usize,
    gone: Arc<OnceLock<Gone>>,
    dismissal: Arc<OnceLock<String>>,
}

/// Nobody takes events any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes the publisher's samples any more")]
pub struct Abandoned;

/// Bytes a queue really takes when `configured`: one sample of the greatest length must fit.
pub(super) fn queue_bytes(configured: usize) -> usize {
    configured.clamp(Limits::ADMITTED.message_bytes_max + EVENT_BYTES, Semaphore::MAX_PERMITS)
}

/// A queue and its end.
pub(super) fn queue(bytes_max: usize) -> (Queue, Events) {
    let bytes_max = queue_bytes(bytes_max);
    let (sender, receiver) = mpsc::channel(QUEUE_EVENTS_MAX);
    let room = Arc::new(Semaphore::new(bytes_max));
    let (gone, dismissal) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
    let queue = Queue {
        sender,
        room: Arc::clone(&room),
        bytes_max,
        gone: Arc::clone(&gone),
        dismissal: Arc::clone(&dismissal),
    };
    (queue, Events { receiver, room, gone, dismissal, ended: false })
}

impl Events {
    /// The next event; after [`Event::Gone`] always `None`. May be dropped and called again without losing one.
    pub async fn recv(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        if let Some((event, bytes)) = self.receiver.recv().await {
            self.room.add_permits(bytes);
            return Some(event);
        }
        self.ended = true;
        // Unset when the server was dropped and its connections with it.
        Some(Event::Gone { reason: self.gone.get().cloned().unwrap_or(Gone::Stopped) })
    }
}

impl Events {
    /// Ends the publisher, and tells it why. What is queued may still be received; then comes [`Event::Gone`], without
    /// waiting for the publisher to understand.
    pub fn dismiss(&mut self, reason: impl Into<String>) {
        // The first reason stays.
        let _ = self.dismissal.set(reason.into());
        self.room.close();
        self.receiver.close();
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl Queue {
    /// Waits for room, then puts `event` in.
    pub(super) async fn send(&self, event: Event) -> Result<(), Abandoned> {
        let bytes = EVENT_BYTES
            + match &event {
                Event::Sample(sample) => sample.data.len(),
                Event::Config(config) => config.bytes().len(),
                Event::Metadata(_) | Event::Gone { .. } => 0,
            };
        let bytes = bytes.min(self.bytes_max);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.room.acquire_many(permits).await.map_err(|_| Abandoned)?.forget();
        self.sender.send((event, bytes)).await.map_err(|_| Abandoned)
    }

    /// Waits until nobody takes events any more.
    pub(super) async fn abandoned(&self) {
        self.sender.closed().await;
    }

    /// What [`Events::dismiss`] said.
    pub(super) fn dismissal(&self) -> &str {
        self.dismissal.get().map_or("the stream was ended by its server", String::as_str)
    }

    /// Ends it: what is in it is still received, then `reason`.
    pub(super) fn end(self, reason: Gone) {
        // The first reason stays; there is only one, for this takes `self`.
        let _ = self.gone.set(reason);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use millstream_segmenter::TrackKind;

    use super::*;

    fn sample(len: usize) -> Event {
        let data = Bytes::from(vec![0; len]);
        Event::Sample(Sample { track: TrackKind::Video, dts_ms: 0, cts_ms: 0, keyframe: true, data })
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_sender_back_by_bytes() {
        let (queue, mut events) = queue(0);
        let len = Limits::ADMITTED.message_bytes_max / 2;
        queue.send(sample(len)).await.unwrap();
        assert!(queue.send(sample(len + 1)).now_or_never().is_none());
        assert!(matches!(events.recv().await, Some(Event::Sample(_))));
        queue.send(sample(Limits::ADMITTED.message_bytes_max)).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_sender_back_by_events() {
        let (queue, _events) = queue(usize::MAX);
        for _ in 0..QUEUE_EVENTS_MAX {
            queue.send(sample(0)).await.unwrap();
        }
        assert!(queue.send(sample(0)).now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_is_queued_is_received_and_the_reason_is_last() {
        let (queue, mut events) = queue(0);
        queue.send(sample(1)).await.unwrap();
        queue.end(Gone::Lost);
        assert!(matches!(events.recv().await, Some(Event::Sample(_))));
        assert_eq!(events.recv().await, Some(Event::Gone { reason: Gone::Lost }));
        assert_eq!(events.recv().await, None);
    }

    #[tokio::test]
    async fn a_publisher_that_is_dismissed_learns_why_and_what_it_sent_is_not_lost() {
        let (queue, mut events) = queue(0);
        queue.send(sample(1)).await.unwrap();
        events.dismiss("go");
        queue.abandoned().await;
        assert!(queue.send(sample(1)).await.is_err());
        assert_eq!(queue.dismissal(), "go");
        // The queue is not ended yet, as of a publisher that is stuck.
        assert!(matches!(events.recv().await, Some(Event::Sample(_))));
        assert_eq!(events.recv().await, Some(Event::Gone { reason: Gone::Stopped }));
    }

    #[tokio::test]
    async fn a_sender_that_waits_learns_that_it_was_abandoned() {
        let (queue, events) = queue(0);
        queue.send(sample(Limits::ADMITTED.message_bytes_max)).await.unwrap();
        let (sent, ()) = tokio::join!(queue.send(sample(1)), async { drop(events) });
        assert!(sent.is_err());
        queue.abandoned().await;
    }
}
