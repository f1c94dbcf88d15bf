//! The edge's side: one UDP port, a thread for each core, every viewer that knows the [`Address`].

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Address, Certificate, Connection, PASSWORD_CHARS, UFRAG_CHARS,
    address::is_ice_text,
    link::Setup,
    socket::{self, Socket},
};

mod admission;
mod driver;
mod neighbours;
mod roster;
mod slots;
pub mod traversal;
mod wheel;

use driver::Driver;
use neighbours::Neighbours;
use traversal::Traversal;

/// How a listener is set up. Every bound is here; the defaults suit an edge with a few hundred viewers a core.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 chooses one.
    pub bind: SocketAddr,
    /// Where viewers reach it, when that is not `bind` (a wildcard address, a 1:1 NAT).
    pub public: Option<SocketAddr>,
    /// What the edge is known by. Keep it over restarts.
    pub certificate: Certificate,
    /// ICE user name fragment: 4 to 256 `ice-char`. Names the edge.
    pub ufrag: String,
    /// ICE password: 22 to 256 `ice-char`. Public.
    pub password: String,
    /// Threads, each with a socket of its own on the same address; the kernel spreads peers over them. The bounds below
    /// on handshakes are shared out among them.
    pub cores: usize,
    /// Connections at once, those in the handshake included once they have proved that they are where they say. One
    /// costs about 8 KB when idle.
    pub connections_max: usize,
    /// Handshakes at once that come from where they say: they have returned a cookie, or ended the handshake.
    pub handshakes_max: usize,
    /// Handshakes at once of which that is not known: state that a spoofed source can make. The oldest gives way.
    pub unproven_max: usize,
    /// Handshakes that one network prefix (IPv4 /24, IPv6 /48) may begin at once… Less than `handshakes_max` in the
    /// time that a handshake may take, so that no prefix can have them all.
    pub prefix_burst: u32,
    /// … and each second after that.
    pub prefix_per_second: u32,
    /// A handshake that is not through by then is dropped.
    pub handshake_timeout: Duration,
    /// A peer that sends nothing authentic for so long is gone. Browsers check every 2.5 s.
    pub consent_timeout: Duration,
    /// Open connections that wait for [`Listener::accept`]; beyond it new ones are closed.
    pub accept_queue_max: usize,
    /// Bytes of pieces that one connection buffers for sending before `send` waits, unacknowledged ones included.
    /// It also bounds what is in flight, so rate × round trip must fit.
    pub send_bytes_max: usize,
    /// The SCTP receive window of one connection. Viewers send little.
    pub receive_window_bytes: u32,
    /// Bytes received that the application has not taken, beyond the window.
    pub inbox_bytes_max: usize,
}

impl Config {
    /// The defaults, with a random user name fragment and password.
    ///
    /// # Errors
    ///
    /// When the operating system gives no randomness.
    pub fn new(bind: SocketAddr, certificate: Certificate) -> io::Result<Self> {
        Ok(Self {
            bind,
            public: None,
            certificate,
            ufrag: crate::random_token(8).map_err(io::Error::other)?,
            password: crate::random_token(24).map_err(io::Error::other)?,
            cores: 1,
            connections_max: 1_024,
            handshakes_max: 256,
            unproven_max: 512,
            prefix_burst: 64,
            prefix_per_second: 16,
            handshake_timeout: Duration::from_secs(10),
            consent_timeout: Duration::from_secs(15),
            accept_queue_max: 64,
            send_bytes_max: 512 * 1024,
            receive_window_bytes: 256 * 1024,
            inbox_bytes_max: 256 * 1024,
        })
    }
}

impl Config {
    /// Each core's part of what is bounded for all of them together.
    fn shared_out(self, cores: usize) -> Self {
        let part = |whole: usize| whole.div_ceil(cores);
        let part_of_u32 = |whole: u32| whole.div_ceil(u32::try_from(cores).unwrap_or(u32::MAX));
        Self {
            handshakes_max: part(self.handshakes_max),
            unproven_max: part(self.unproven_max),
            prefix_burst: part_of_u32(self.prefix_burst),
            prefix_per_second: part_of_u32(self.prefix_per_second),
            ..self
        }
    }
}

/// An open port that viewers connect to. Dropping it closes every connection.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    local_addr: SocketAddr,
    traversal: Traversal,
    accepted: mpsc::Receiver<Connection>,
    counts: Arc<Counts>,
    cores: Vec<Core>,
}

/// Connections of all cores together.
#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    /// Those that are where they say.
    proven: AtomicUsize,
}

/// A thread that drives connections.
#[derive(Debug)]
struct Core {
    /// It stops when this is dropped.
    stop: oneshot::Sender<()>,
    /// Resolves when it has ended.
    ended: oneshot::Receiver<()>,
}

impl Listener {
    /// Opens the port and starts the threads that drive it. Needs no runtime.
    ///
    /// # Errors
    ///
    /// When a setting is out of range, the address cannot be bound, or the thread not be started.
    pub fn bind(config: Config) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
        if !is_ice_text(&config.ufrag, &UFRAG_CHARS) {
            return Err(invalid("the ICE user name fragment must be 4 to 256 of A-Z a-z 0-9 + /"));
        }
        if !is_ice_text(&config.password, &PASSWORD_CHARS) {
            return Err(invalid("the ICE password must be 22 to 256 of A-Z a-z 0-9 + /"));
        }
        let setup = Setup::new(&config.certificate, config.receive_window_bytes).map_err(io::Error::other)?;
        let count = config.cores.max(1);
        let first = socket::bind(config.bind, false)?;
        let local_addr = first.local_addr()?;
        if count > 1 {
            // Only now: another listener's port would have been shared, too, instead of being in use.
            socket::share(&first)?;
        }
        let mut sockets = vec![first];
        while sockets.len() < count {
            sockets.push(socket::bind(local_addr, true)?);
        }
        let address = Address {
            socket: config.public.unwrap_or(local_addr),
            ufrag: config.ufrag.clone(),
            password: config.password.clone(),
            fingerprint: config.certificate.fingerprint(),
        };
        let (accept, accepted) = mpsc::channel(config.accept_queue_max.max(1));
        let counts = Arc::new(Counts::default());
        let config = config.shared_out(count);
        let tie_breaker = getrandom::u64().map_err(io::Error::other)?;
        let (traversal, carriers) = traversal::new(&config.ufrag, local_addr, tie_breaker, count);
        let mut cores = Vec::new();
        for ((socket, neighbours), carrier) in sockets.into_iter().zip(Neighbours::new(count)).zip(carriers) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let socket = {
                let _runtime = runtime.enter();
                Socket::adopt(socket)?
            };
            let (accept, counts) = (accept.clone(), counts.clone());
            let driver =
                Driver::new(socket, config.clone(), setup.clone(), accept, counts, neighbours, carrier);
            let (stop, stopped) = oneshot::channel();
            let (end, ended) = oneshot::channel();
            // Threads of their own: whoever else shares the machine's runtime must not wait for a burst of encryption,
            // nor the other way round.
            std::thread::Builder::new().name("datachannel".to_owned()).spawn(move || {
                runtime.block_on(driver.run(stopped));
                drop(end);
            })?;
            cores.push(Core { stop, ended });
        }
        Ok(Self { address, local_addr, traversal, accepted, counts, cores })
    }

    /// Where the socket is bound, port included.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the tracker hands out: `public` or else `local_addr`, with the credentials and the fingerprint.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// What gets it out of a NAT that lets nobody in.
    #[must_use]
    pub fn traversal(&self) -> Traversal {
        self.traversal.clone()
    }

    /// The next connection that is open: handshakes done, both channels ready. None when the listener has failed.
    /// Cancel-safe.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.accepted.recv().await
    }

    /// Connections now, those in the handshake included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts.all.load(Ordering::Relaxed)
    }

    /// Tells every peer that it is over and waits until the thread has ended.
    pub async fn close(self) {
        let Self { cores, accepted, .. } = self;
        drop(accepted);
        let (stops, ends): (Vec<_>, Vec<_>) = cores.into_iter().map(|core| (core.stop, core.ended)).unzip();
        drop(stops);
        for ended in ends {
            // Nothing is ever sent: the driver's end of it is dropped.
            let _ = ended.await;
        }
    }
}
