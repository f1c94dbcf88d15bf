//! One connection: feeds the core what arrives and does what it says.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::BytesMut;
use millstream_model::Instant;
use millstream_rtmp::{Connection, Frame, Input, Output, Reason, Setup, StreamKey, Track};
use millstream_segmenter::{Sample, TrackConfig, TrackKind};
use millstream_service::tasks::Drain;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{sleep_until, timeout},
};
use tracing::{debug, warn};

use super::{
    Event, Gate, Gone,
    reception::{Seated, Source},
    seat::Seat,
    server::Door,
};

/// Bytes read at once from whose key was not found good: small enough to give every connection.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// Bytes read at once from a publisher: most frames whole.
pub(super) const PUBLISHER_READ_BYTES: usize = 64 * 1024;

/// After the last word to a peer: time it has to read it before the socket closes. Closing with unread bytes in it
/// would reset the connection, and the peer would never see why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes read and thrown away in that time.
const FAREWELL_BYTES_MAX: u64 = 1024 * 1024;

/// This process's monotonic clock, as cores take it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: tokio::time::Instant::now() }
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn at(&self, instant: Instant) -> tokio::time::Instant {
        self.start + instant.since(Instant(0))
    }
}

/// Serves a connection to its end.
pub(super) async fn run<S, G>(
    io: S,
    peer: SocketAddr,
    seat: Seat,
    seed: u64,
    door: Arc<Door<G>>,
    drain: Drain,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    G: Gate,
{
    let core = Connection::new(door.config.rtmp(), seed, door.clock.now());
    let held = Held { door: Arc::clone(&door), bytes: 0 };
    let mut conversation =
        Conversation { io, peer, door, drain, core, held, seat, read: BytesMut::new(), publisher: None };
    let gone = conversation.converse().await;
    let Conversation { mut io, publisher, seat, held, core, .. } = conversation;
    // Everything but the socket is given back before the farewell: a publisher may be waiting to take over.
    drop((core, held));
    match publisher {
        Some(publisher) => publisher.end(gone.clone()),
        None => debug!(reason = %gone, "connection ended"),
    }
    match gone {
        Gone::Lost | Gone::Closed(Reason::NotRtmp(_)) => {}
        // Whoever said goodbye closes the connection itself, and takes it for an error when we are first.
        Gone::Ended => listen_out(&mut io).await,
        Gone::Closed(_) | Gone::Broken(_) | Gone::Stopped => {
            let _ = timeout(FAREWELL, io.shutdown()).await;
            listen_out(&mut io).await;
        }
    }
    drop(seat);
}

struct Conversation<S, G> {
    io: S,
    peer: SocketAddr,
    door: Arc<Door<G>>,
    drain: Drain,
    core: Connection,
    held: Held<G>,
    seat: Seat,
    read: BytesMut,
    publisher: Option<Seated>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send, G: Gate> Conversation<S, G> {
    async fn converse(&mut self) -> Gone {
        loop {
            while let Some(output) = self.core.poll() {
                if let Err(gone) = self.obey(output).await {
                    return gone;
                }
            }
            self.held.set(self.core.held_bytes() + self.read.capacity());
            match self.listen().await {
                Ok(input) => self.core.handle(input, self.door.clock.now()),
                Err(gone) => return gone,
            }
        }
    }

    /// Waits for what is next: bytes, a deadline, or the end from our side.
    async fn listen(&mut self) -> Result<Input, Gone> {
        let abandoned = async {
            match &self.publisher {
                Some(publisher) => {
                    publisher.abandoned().await;
                    publisher.dismissal().to_owned()
                }
                None => pending().await,
            }
        };
        let deadline = async {
            match self.core.deadline() {
                Some(deadline) => sleep_until(self.door.clock.at(deadline)).await,
                None => pending().await,
            }
        };
        self.read.reserve(if self.publisher.is_some() { PUBLISHER_READ_BYTES } else { READ_BYTES });
        // In this order, so that a peer that never stops sending cannot keep us from stopping it.
        tokio::select! {
            biased;
            () = self.drain.begun() => Ok(Input::Stop("the server is going down".to_owned())),
            reason = abandoned => Ok(Input::Stop(reason)),
            read = self.io.read_buf(&mut self.read) => match read {
                Ok(1..) => Ok(Input::Received(self.read.split().freeze())),
                Ok(0) | Err(_) => Err(Gone::Lost),
            },
            () = deadline => Ok(Input::Tick),
        }
    }

    async fn obey(&mut self, output: Output) -> Result<(), Gone> {
        match output {
            Output::Send(bytes) => {
                // A peer that asks and asks but takes no answer stops here.
                // TLS keeps what is not flushed.
                let write = async {
                    self.io.write_all(&bytes).await?;
                    self.io.flush().await
                };
                match timeout(self.door.config.idle_timeout(), write).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) | Err(_) => Err(Gone::Lost),
                }
            }
            Output::Publish { key } => {
                let input = self.ask(&key).await;
                self.core.handle(input, self.door.clock.now());
                Ok(())
            }
            Output::Config(setup) => self.pass(Event::Config(config(setup))).await,
            Output::Frame(frame) => self.pass(Event::Sample(sample(frame))).await,
            Output::OtherTrack(track) => {
                warn!(?track, "the publisher sends another track of this kind, which is left out");
                Ok(())
            }
            Output::Metadata(metadata) => {
                debug!(?metadata, "metadata");
                self.pass(Event::Metadata(metadata)).await
            }
            Output::Close { reason: Reason::Unpublished } => Err(Gone::Ended),
            Output::Close { reason: Reason::Stopped(_) } => Err(Gone::Stopped),
            Output::Close { reason } => Err(Gone::Closed(reason)),
        }
    }

    /// Waits for room in the queue; meanwhile nothing is read, so TCP holds the publisher back.
    async fn pass(&mut self, event: Event) -> Result<(), Gone> {
        let Some(publisher) = &self.publisher else { return Ok(()) };
        let passed = tokio::select! {
            passed = publisher.send(event) => passed.is_ok(),
            () = self.drain.begun() => false,
        };
        if !passed {
            let reason = publisher.dismissal().to_owned();
            self.core.handle(Input::Stop(reason), self.door.clock.now());
        }
        Ok(())
    }

    /// Whether `key` may publish.
    async fn ask(&mut self, key: &StreamKey) -> Input {
        let door = &self.door;
        let source = Source::Rtmp(self.peer);
        match door.reception.admit(key, source, door.config.terms(), &self.drain).await {
            Ok(publisher) => {
                self.seat.admitted();
                self.publisher = Some(publisher);
                Input::Admitted
            }
            Err(refusal) => Input::Refused(refusal.reason),
        }
    }
}

fn config(setup: Setup) -> TrackConfig {
    match setup {
        Setup::Avc(record) => TrackConfig::H264(record),
        Setup::Hevc(record) => TrackConfig::Hevc(record),
        Setup::Av1(record) => TrackConfig::Av1(record),
        Setup::Aac(config) => TrackConfig::Aac(config),
        Setup::Opus(head) => TrackConfig::Opus(head),
    }
}

fn sample(frame: Frame) -> Sample {
    Sample {
        track: match frame.track {
            Track::Video => TrackKind::Video,
            Track::Audio => TrackKind::Audio,
        },
        dts_ms: frame.dts_ms,
        cts_ms: frame.cts_ms,
        keyframe: frame.keyframe,
        data: frame.data,
    }
}

/// Gives the peer a moment to read what it was told and to close the connection.
async fn listen_out<S: AsyncRead + Unpin>(io: &mut S) {
    let _ =
        timeout(FAREWELL, tokio::io::copy(&mut io.take(FAREWELL_BYTES_MAX), &mut tokio::io::sink())).await;
}

/// What a connection adds to the bytes held in all.
struct Held<G> {
    door: Arc<Door<G>>,
    bytes: usize,
}

impl<G> Held<G> {
    fn set(&mut self, bytes: usize) {
        self.door.held_bytes.fetch_add(bytes, Relaxed);
        self.door.held_bytes.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }
}

impl<G> Drop for Held<G> {
    fn drop(&mut self) {
        self.door.held_bytes.fetch_sub(self.bytes, Relaxed);
    }
}
