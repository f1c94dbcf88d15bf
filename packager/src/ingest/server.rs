//! The listener: a seat for each connection, a task for each seat, publishers brought to the reception.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream_service::{Tasks, http};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tracing::{Instrument as _, debug, debug_span, info, warn};

use super::{
    Config, Gate, Reception,
    conversation::{self, Clock},
    seat::Seats,
};

/// After a failed accept (no file descriptors left, mostly): time for others to close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections.
    pub connections: usize,
    /// Those of them whose key was not found good yet.
    pub waiting: usize,
    /// Streams with a publisher, whichever way it came in.
    pub publishing: usize,
    /// Bytes that connections hold for unfinished messages and the like; queues are not among them.
    pub held_bytes: usize,
    /// Connections closed at once because there was no seat, ever.
    pub turned_away: u64,
    /// Publishes refused, ever, whichever way they came.
    pub refused: u64,
}

/// An RTMP server. Dropping it ends all its connections.
#[derive(Debug)]
pub struct Server<G> {
    local_addr: SocketAddr,
    door: Arc<Door<G>>,
    tasks: Tasks,
}

/// What the listener and all conversations share.
#[derive(Debug)]
pub(super) struct Door<G> {
    pub(super) config: Config,
    pub(super) reception: Arc<Reception<G>>,
    pub(super) clock: Clock,
    pub(super) held_bytes: AtomicUsize,
    seats: Seats,
    turned_away: AtomicU64,
    /// Connections so far; makes their handshakes differ.
    connections: AtomicU64,
}

impl<G: Gate> Server<G> {
    /// Listens, and brings publishers to `reception`.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(config: Config, reception: Arc<Reception<G>>) -> io::Result<Self> {
        let listener = http::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let door = Arc::new(Door {
            seats: Seats::new(config.seats()),
            config,
            reception,
            clock: Clock::start(),
            held_bytes: AtomicUsize::new(0),
            turned_away: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let server = Self { local_addr, door, tasks: Tasks::new() };
        server.tasks.spawn_until_drain("rtmp accept", accept(listener, server.entrance()));
        info!(listen = %local_addr, "rtmp ingest listens");
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
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
            publishing: self.door.reception.publishing(),
            held_bytes: self.door.held_bytes.load(Relaxed),
            turned_away: self.door.turned_away.load(Relaxed),
            refused: self.door.reception.refused(),
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
