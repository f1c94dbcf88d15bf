//! The listener: a seat for each connection, a task for each seat, publishers handed out.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream_model::StreamId;
use millstream_service::{Tasks, http};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
};
use tracing::{Instrument as _, debug, debug_span, info, warn};

use super::{
    Config, Events, Gate,
    conversation::{self, Clock},
    live::Live,
    seat::Seats,
};

/// Publishers that were admitted and wait to be taken by [`Server::publish`]; more wait for these.
const PUBLISHES_MAX: usize = 16;

/// After a failed accept (no file descriptors left, mostly): time for others to close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A publisher that was admitted.
#[derive(Debug)]
pub struct Publish {
    /// The stream it publishes; nobody else publishes it while it is here.
    pub stream: StreamId,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What it sends. Dropping this ends the publisher.
    pub events: Events,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections.
    pub connections: usize,
    /// Those of them whose key was not found good yet.
    pub waiting: usize,
    /// Streams with a publisher.
    pub publishing: usize,
    /// Bytes that connections hold for unfinished messages and the like; queues are not among them.
    pub held_bytes: usize,
    /// Connections closed at once because there was no seat, ever.
    pub turned_away: u64,
    /// Publishes refused, ever.
    pub refused: u64,
}

/// An RTMP server. Dropping it ends all its connections.
#[derive(Debug)]
pub struct Server<G> {
    local_addr: SocketAddr,
    publishes: mpsc::Receiver<Publish>,
    door: Arc<Door<G>>,
    tasks: Tasks,
}

/// What the listener and all conversations share.
#[derive(Debug)]
pub(super) struct Door<G> {
    pub(super) config: Config,
    pub(super) gate: G,
    pub(super) clock: Clock,
    pub(super) live: Live,
    pub(super) publishes: mpsc::Sender<Publish>,
    pub(super) held_bytes: AtomicUsize,
    pub(super) refused: AtomicU64,
    seats: Seats,
    turned_away: AtomicU64,
    /// Connections so far; makes their handshakes differ.
    connections: AtomicU64,
}

impl<G: Gate> Server<G> {
    /// Listens, and asks `gate` about every key.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(config: Config, gate: G) -> io::Result<Self> {
        let listener = http::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let (sender, publishes) = mpsc::channel(PUBLISHES_MAX);
        let door = Arc::new(Door {
            seats: Seats::new(&config),
            config,
            gate,
            clock: Clock::start(),
            live: Live::default(),
            publishes: sender,
            held_bytes: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let server = Self { local_addr, publishes, door, tasks: Tasks::new() };
        server.tasks.spawn_until_drain("rtmp accept", accept(listener, server.entrance()));
        info!(listen = %local_addr, "rtmp ingest listens");
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next publisher. Cancel safe. Publishers wait for a place here, for as long as for their key.
    pub async fn publish(&mut self) -> Option<Publish> {
        self.publishes.recv().await
    }

    /// Serves a connection that somebody else accepted, within the same limits: behind TLS, or in memory.
    pub fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        self.entrance().serve(io, peer);
    }

    /// What is going on.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (connections, waiting) = self.door.seats.counts();
        Counts {
            connections,
            waiting,
            publishing: self.door.live.count(),
            held_bytes: self.door.held_bytes.load(Relaxed),
            turned_away: self.door.turned_away.load(Relaxed),
            refused: self.door.refused.load(Relaxed),
        }
    }

    /// Takes nobody new, tells all publishers that it stops, and waits for them up to `grace`. Their events end
    /// with [`Gone::Stopped`](super::Gone::Stopped).
    pub async fn shutdown(self, grace: Duration) -> Vec<String> {
        self.tasks.shutdown(grace).await
    }

    fn entrance(&self) -> Entrance<G> {
        Entrance { door: Arc::clone(&self.door), spawner: self.tasks.spawner() }
    }
}

/// Lets connections in.
struct Entrance<G> {
    door: Arc<Door<G>>,
    spawner: millstream_service::Spawner,
}

impl<G: Gate> Entrance<G> {
    fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let seat = match self.door.seats.take(peer.ip()) {
            Ok(seat) => seat,
            Err(full) => {
                self.door.turned_away.fetch_add(1, Relaxed);
                debug!(%peer, limit = full.0, "no seat");
                return;
            }
        };
        let seed = self.door.connections.fetch_add(1, Relaxed);
        let conversation =
            conversation::run(io, peer, seat, seed, Arc::clone(&self.door), self.spawner.drain());
        self.spawner.spawn("rtmp connection", conversation.instrument(debug_span!("ingest", %peer)));
    }
}

async fn accept<G: Gate>(listener: TcpListener, entrance: Entrance<G>) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Answers are small and waited for. Fails only when the peer is gone already.
                let _ = socket.set_nodelay(true);
                entrance.serve(socket, peer);
            }
            Err(error) => {
                warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
