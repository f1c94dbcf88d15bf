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

use millstream_service::{
    Tasks,
    http::{self, Tls},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tracing::{Instrument as _, debug, debug_span, info, warn};

use super::{
    Config, Gate, Reception,
    conversation::{self, Clock},
    seat::{Seat, Seats},
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
        server.tasks.spawn_until_drain("rtmp accept", accept(listener, None, server.entrance()));
        info!(listen = %local_addr, "rtmp ingest listens");
        Ok(server)
    }

    /// Listens for RTMPS as well, within the same limits. Gives where.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind_tls(&self, tls: Tls) -> io::Result<SocketAddr> {
        let listener = http::bind(self.door.config.tls.listen).await?;
        let address = listener.local_addr()?;
        tls.spawn_reload(&self.tasks.spawner());
        self.tasks.spawn_until_drain("rtmps accept", accept(listener, Some(tls), self.entrance()));
        info!(listen = %address, "rtmps ingest listens");
        Ok(address)
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

impl<G> Clone for Entrance<G> {
    fn clone(&self) -> Self {
        Self { door: Arc::clone(&self.door), spawner: self.spawner.clone() }
    }
}

impl<G: Gate> Entrance<G> {
    fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let Some(seat) = self.seat(peer) else { return };
        let conversation = self.conversation(io, peer, seat);
        self.spawner.spawn("rtmp connection", conversation.instrument(debug_span!("ingest", %peer)));
    }

    /// The same behind TLS; whoever does not get through the handshake waits in its seat no longer than for a key.
    fn serve_tls(&self, socket: TcpStream, peer: SocketAddr, tls: Tls) {
        let Some(seat) = self.seat(peer) else { return };
        let (this, drain) = (self.clone(), self.spawner.drain());
        let connection = async move {
            let shaken = tokio::select! {
                shaken = timeout(this.door.config.handshake_timeout(), tls.accept(socket)) => shaken,
                () = drain.begun() => return,
            };
            match shaken {
                Ok(Ok(stream)) => this.conversation(stream, peer, seat).await,
                Ok(Err(error)) => debug!(%error, "no TLS handshake"),
                Err(_) => debug!("no TLS handshake in time"),
            }
        };
        self.spawner.spawn("rtmps connection", connection.instrument(debug_span!("ingest", %peer)));
    }

    fn seat(&self, peer: SocketAddr) -> Option<Seat> {
        match self.door.seats.take(peer.ip()) {
            Ok(seat) => Some(seat),
            Err(full) => {
                self.door.turned_away.fetch_add(1, Relaxed);
                debug!(%peer, limit = full.0, "no seat");
                None
            }
        }
    }

    fn conversation<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        io: S,
        peer: SocketAddr,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send + use<S, G> {
        let seed = self.door.connections.fetch_add(1, Relaxed);
        conversation::run(io, peer, seat, seed, Arc::clone(&self.door), self.spawner.drain())
    }
}

async fn accept<G: Gate>(listener: TcpListener, tls: Option<Tls>, entrance: Entrance<G>) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Answers are small and waited for. Fails only when the peer is gone already.
                let _ = socket.set_nodelay(true);
                match &tls {
                    Some(tls) => entrance.serve_tls(socket, peer, tls.clone()),
                    None => entrance.serve(socket, peer),
                }
            }
            Err(error) => {
                warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
