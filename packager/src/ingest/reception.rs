//! Where a publisher becomes one, whichever way it came in: its key is asked about, its stream claimed, its queue made,
//! and it is handed over.
//!
//! Each way in (RTMP, SRT, what is pulled) brings a key and says who it is; what comes back is a [`Seated`], its end of
//! the queue, or a refusal in words for the publisher. One publisher per stream holds over all ways in. What never
//! belongs here: sockets, protocols, and limits on those that have not shown a key yet.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream_model::StreamId;
use millstream_rtmp::StreamKey;
use millstream_service::tasks::Drain;
use tokio::{sync::mpsc, time::timeout};
use tracing::info;

use super::{
    Event, Events, Gate, Gone, Refusal,
    events::{self, Abandoned, Queue},
    live::{Live, Slot},
};

/// Publishers that were admitted and wait to be taken by [`Publishes::next`]; more wait for these.
const PUBLISHES_MAX: usize = 16;

/// A publisher that was admitted.
#[derive(Debug)]
pub struct Publish {
    /// The stream it publishes; nobody else publishes it while it is here.
    pub stream: StreamId,
    /// Where it comes from.
    pub source: Source,
    /// What it sends. Dropping this ends the publisher.
    pub events: Events,
}

/// Which way a publisher came in, and from where. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It pushes by RTMP.
    Rtmp(SocketAddr),
    /// It pushes by SRT.
    Srt(SocketAddr),
    /// It was fetched from this URL, shown without name and password.
    Pull(String),
    /// It pushes by WHIP.
    Whip(SocketAddr),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp(peer) => write!(out, "rtmp {peer}"),
            Self::Srt(peer) => write!(out, "srt {peer}"),
            Self::Pull(url) => write!(out, "pull {url}"),
            Self::Whip(peer) => write!(out, "whip {peer}"),
        }
    }
}

/// What a way in says of its publishers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// To check the key and hand the publisher over, at most.
    pub patience: Duration,
    /// Bytes that wait in the publisher's queue at most; counts as 8 MiB where it is less.
    pub queue_bytes_max: usize,
}

/// Lets publishers in. All ways in share one.
#[derive(Debug)]
pub struct Reception<G> {
    gate: G,
    live: Live,
    publishes: mpsc::Sender<Publish>,
    refused: AtomicU64,
}

/// The publishers that were let in.
#[derive(Debug)]
pub struct Publishes(mpsc::Receiver<Publish>);

/// A publisher's end: the right to its stream, and its queue. Dropping it without [`Self::end`] says that we ended it.
#[derive(Debug)]
pub struct Seated {
    slot: Slot,
    queue: Queue,
}

impl<G: Gate> Reception<G> {
    /// A reception that asks `gate` about every key, and where those come out that it let in.
    #[must_use]
    pub fn new(gate: G) -> (Arc<Self>, Publishes) {
        let (publishes, receiver) = mpsc::channel(PUBLISHES_MAX);
        let this = Self { gate, live: Live::default(), publishes, refused: AtomicU64::new(0) };
        (Arc::new(this), Publishes(receiver))
    }

    /// Asks the gate, claims the stream and hands the publisher over, all within the terms' patience. Says in the log
    /// how it went; the key is masked there.
    ///
    /// # Errors
    /// When it may not publish, or nobody can say so in time, or `drain` begins.
    pub async fn admit(
        &self,
        key: &StreamKey,
        source: Source,
        terms: Terms,
        drain: &Drain,
    ) -> Result<Seated, Refusal> {
        let shown = source.to_string();
        let admitted = tokio::select! {
            admitted = timeout(terms.patience, self.seat(key, source, terms.queue_bytes_max)) => {
                admitted.unwrap_or_else(|_| {
                    Err(Refusal::new("the stream key could not be checked in time; try again"))
                })
            }
            () = drain.begun() => Err(Refusal::new("the server is going down")),
        };
        match &admitted {
            Ok(seated) => info!(stream = %seated.stream(), %key, source = shown, "publishing"),
            Err(refusal) => {
                self.refused.fetch_add(1, Relaxed);
                info!(%key, source = shown, reason = refusal.reason, "publish refused");
            }
        }
        admitted
    }

    async fn seat(&self, key: &StreamKey, source: Source, queue_bytes_max: usize) -> Result<Seated, Refusal> {
        let stream = self.gate.admit(key).await?.stream;
        let takeover = self.gate.takeover(&stream);
        let slot = self.live.claim(&stream, takeover).await.ok_or_else(|| {
            let refusal =
                Refusal::new("this stream has a publisher already; end that one first, then try again");
            self.gate.refused(&stream, &refusal);
            refusal
        })?;
        let (queue, events) = events::queue(queue_bytes_max);
        let publish = Publish { stream, source, events };
        // Fails only when nobody can take publishers any more.
        self.publishes.send(publish).await.map_err(|_| Refusal::new("the server is going down"))?;
        Ok(Seated { slot, queue })
    }

    /// Streams with a publisher.
    #[must_use]
    pub fn publishing(&self) -> usize {
        self.live.count()
    }

    /// Publishes refused, ever.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

impl Publishes {
    /// The next publisher; `None` when there is no way in any more. Cancel safe. Publishers wait for a place here,
    /// for as long as for their key.
    pub async fn next(&mut self) -> Option<Publish> {
        self.0.recv().await
    }
}

impl Seated {
    /// The stream it publishes.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        self.slot.stream()
    }

    /// Waits for room, then puts `event` in.
    ///
    /// # Errors
    /// When nobody takes events any more.
    pub async fn send(&self, event: Event) -> Result<(), Abandoned> {
        self.slot.heard();
        self.queue.send(event).await
    }

    /// Waits until nobody takes events any more.
    pub async fn abandoned(&self) {
        self.queue.abandoned().await;
    }

    /// Why nobody takes events any more, in words for the publisher.
    #[must_use]
    pub fn dismissal(&self) -> &str {
        self.queue.dismissal()
    }

    /// Ends it, and says so in the log: what is queued is still received, then `reason`. The stream is free before
    /// anybody learns of it, for its publisher may be waiting to come back.
    pub fn end(self, reason: Gone) {
        let Self { slot, queue } = self;
        info!(stream = %slot.stream(), %reason, "publisher gone");
        drop(slot);
        queue.end(reason);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use millstream_service::Tasks;

    use super::*;
    use crate::ingest::Admitted;

    /// Lets everybody in to the stream that the key names, and thinks for ever about one key.
    #[derive(Debug)]
    struct Open;

    impl Gate for Open {
        async fn admit(&self, key: &StreamKey) -> Result<Admitted, Refusal> {
            if key.expose() == "slow" {
                std::future::pending::<()>().await;
            }
            StreamId::new(key.expose()).map(|stream| Admitted { stream }).map_err(|_| Refusal::new("no"))
        }
    }

    const TERMS: Terms = Terms { patience: Duration::from_secs(5), queue_bytes_max: 0 };

    fn from(port: u16) -> Source {
        Source::Rtmp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    fn key(text: &str) -> StreamKey {
        StreamKey::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_stream_has_one_publisher_whichever_way_it_came_in() {
        let (reception, mut publishes) = Reception::new(Open);
        let tasks = Tasks::new();
        let first = reception.admit(&key("cam"), from(1), TERMS, &tasks.drain()).await.unwrap();
        let publish = publishes.next().await.unwrap();
        assert_eq!((publish.stream.as_str(), publish.source), ("cam", from(1)));
        let drain = tasks.drain();
        let second = key("cam");
        let (second, ()) = tokio::join!(reception.admit(&second, from(2), TERMS, &drain), async {
            tokio::time::sleep(Duration::from_millis(1)).await; // waits because a clock must tell two moments apart
            first.send(Event::Metadata(millstream_rtmp::Metadata::default())).await.unwrap();
        });
        let second = second.unwrap_err();
        assert!(second.reason.contains("has a publisher already"), "{second}");
        assert_eq!((reception.publishing(), reception.refused()), (1, 1));
        first.end(Gone::Ended);
        assert!(reception.admit(&key("cam"), from(2), TERMS, &tasks.drain()).await.is_ok());
    }

    #[tokio::test]
    async fn a_question_without_an_answer_is_a_refusal_and_holds_nothing() {
        let (reception, _publishes) = Reception::new(Open);
        let tasks = Tasks::new();
        let hurried = Terms { patience: Duration::from_millis(1), ..TERMS };
        let refusal = reception.admit(&key("slow"), from(1), hurried, &tasks.drain()).await.unwrap_err();
        assert!(refusal.reason.contains("in time"), "{refusal}");
        tasks.begin_drain();
        let refusal = reception.admit(&key("slow"), from(1), TERMS, &tasks.drain()).await.unwrap_err();
        assert!(refusal.reason.contains("going down"), "{refusal}");
        assert_eq!(reception.publishing(), 0);
    }
}
