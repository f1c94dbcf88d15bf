//! The socket: datagrams to the protocol and back, callers to their tasks.

use std::{
    collections::HashMap,
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use millstream_service::{Spawner, Tasks, exit};
use sapflow_srt::{CloseReason, ConnId, Event, Listener, RejectCode};
use tokio::{net::UdpSocket, sync::mpsc, time::sleep_until};
use tracing::{Instrument as _, debug, debug_span, info, warn};

use super::{
    Config,
    caller::{Answer, Caller},
    stream_id,
};
use crate::ingest::{
    Gate, Gone, Reception,
    seat::{Limits, Seats},
};

/// Bytes of a datagram at most; longer ones are not SRT's.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Datagrams taken in before anything else is looked at: what came while we were away.
const BATCH_MAX: usize = 64;

/// Payloads (1.3 KB) that wait for a caller's demuxer: a second of 40 Mbit/s. When they are there, nobody has taken
/// samples for much longer, for all queues behind it are full.
const INBOX_MAX: usize = 4096;

/// Answers of callers' tasks that wait for the server; more wait for these.
const ANSWERS_MAX: usize = 64;

/// Bytes that the system keeps for us while we are busy: a quarter of a second of 250 Mbit/s, as far as it allows that.
const SOCKET_BYTES: usize = 8 * 1024 * 1024;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Callers.
    pub connections: usize,
    /// Those of them whose key was not found good yet.
    pub waiting: usize,
    /// Callers refused because there was no seat, ever.
    pub turned_away: u64,
}

/// An SRT listener. Dropping it ends all its callers.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    seats: Seats,
    turned_away: Arc<AtomicU64>,
    tasks: Tasks,
}

impl Server {
    /// Listens, and brings publishers to `reception`.
    ///
    /// # Errors
    /// When the address cannot be listened on, or a setting is wrong; the text says which.
    pub fn bind<G: Gate>(config: Config, reception: Arc<Reception<G>>) -> io::Result<Self> {
        let wrong = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
        let listener = Listener::new(config.listener().map_err(wrong)?, Instant::now());
        let socket = socket(config.listen).map_err(|error| exit::cannot_listen(config.listen, &error))?;
        let local_addr = socket.local_addr()?;
        let seats = Seats::new(Limits {
            connections_max: config.connections_max,
            waiting_max: config.waiting_max,
            waiting_per_address_max: config.waiting_per_address_max,
        });
        let (answers, answered) = mpsc::channel(ANSWERS_MAX);
        let tasks = Tasks::new();
        let turned_away = Arc::new(AtomicU64::new(0));
        let work = Work {
            socket,
            listener,
            lines: HashMap::new(),
            answers,
            reception,
            config,
            seats: seats.clone(),
            spawner: tasks.spawner(),
            turned_away: Arc::clone(&turned_away),
        };
        tasks.spawn("srt listener", work.run(answered));
        info!(listen = %local_addr, "srt ingest listens");
        Ok(Self { local_addr, seats, turned_away, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What is going on.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (connections, waiting) = self.seats.counts();
        Counts { connections, waiting, turned_away: self.turned_away.load(Relaxed) }
    }

    /// Takes nobody new, tells all callers that it stops, and waits for their tasks up to `grace`.
    pub async fn shutdown(self, grace: Duration) -> Vec<String> {
        self.tasks.shutdown(grace).await
    }
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    // The system may allow less; then lost packets are asked for again.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// What the server has of a caller.
struct Line {
    inbox: mpsc::Sender<Vec<u8>>,
    fate: Arc<OnceLock<Gone>>,
}

struct Work<G> {
    socket: UdpSocket,
    listener: Listener,
    lines: HashMap<ConnId, Line>,
    answers: mpsc::Sender<(ConnId, Answer)>,
    reception: Arc<Reception<G>>,
    config: Config,
    seats: Seats,
    spawner: Spawner,
    turned_away: Arc<AtomicU64>,
}

impl<G: Gate> Work<G> {
    async fn run(mut self, mut answered: mpsc::Receiver<(ConnId, Answer)>) {
        let drain = self.spawner.drain();
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let deadline = self.listener.poll_timeout();
            let due = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                // Callers' tasks end themselves, and say so here before the last of them is gone.
                () = drain.begun(), if self.lines.is_empty() => return,
                Some((id, answer)) = answered.recv() => self.answered(id, answer),
                () = due => self.listener.handle_timeout(Instant::now()),
                received = self.socket.recv_from(&mut datagram) => self.received(received, &mut datagram),
            }
            self.settle().await;
        }
    }

    /// Takes in a datagram, and those that are there behind it.
    fn received(&mut self, first: io::Result<(usize, SocketAddr)>, datagram: &mut [u8]) {
        let now = Instant::now();
        let mut received = first;
        for _ in 0..BATCH_MAX {
            match received {
                Ok((length, peer)) => {
                    let bytes = datagram.get(..length).unwrap_or_default();
                    self.listener.handle_datagram(now, peer, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An answer to somebody who is gone; others are still there.
                Err(error) => debug!(%error, "datagram"),
            }
            received = self.socket.try_recv_from(datagram);
        }
    }

    fn answered(&mut self, id: ConnId, answer: Answer) {
        match answer {
            Answer::Accept => {
                if !self.listener.accept(id, Instant::now()) {
                    // It gave up meanwhile, or its passphrase is wrong.
                    info!("a caller with a good key has another passphrase, or none, or is gone");
                    self.lost(id, &Gone::Lost);
                }
            }
            Answer::Reject(code) => {
                self.listener.reject(id, code);
                self.lines.remove(&id);
            }
            Answer::Close => {
                self.listener.close(id, Instant::now());
                self.lines.remove(&id);
            }
        }
    }

    /// Does what the protocol says until it says nothing more.
    async fn settle(&mut self) {
        while let Some(event) = self.listener.poll_event() {
            match event {
                Event::Connect { id, peer, stream_id } => self.called(id, peer, &stream_id),
                Event::Data { id, payload } => self.data(id, payload),
                Event::Closed { id, reason, stats } => {
                    debug!(?reason, ?stats, "caller gone");
                    let ended = reason == Some(CloseReason::Shutdown);
                    self.lost(id, if ended { &Gone::Ended } else { &Gone::Lost });
                }
            }
        }
        while let Some((peer, bytes)) = self.listener.poll_transmit() {
            // What cannot be sent is as good as lost on the way; the protocol expects that.
            if let Err(error) = self.socket.send_to(&bytes, peer).await {
                debug!(%error, %peer, "not sent");
            }
        }
    }

    fn called(&mut self, id: ConnId, peer: SocketAddr, stream_id: &[u8]) {
        let drain = self.spawner.drain();
        let key = match stream_id::key(stream_id) {
            Ok(key) if !drain.has_begun() => key,
            Ok(_) => return self.reject(id, RejectCode::CLOSE),
            Err(reason) => {
                info!(%peer, %reason, "publish refused");
                return self.reject(id, RejectCode::http(400));
            }
        };
        let seat = match self.seats.take(peer.ip()) {
            Ok(seat) => seat,
            Err(full) => {
                self.turned_away.fetch_add(1, Relaxed);
                debug!(%peer, limit = full.0, "no seat");
                return self.reject(id, RejectCode::BACKLOG);
            }
        };
        let (inbox, payloads) = mpsc::channel(INBOX_MAX);
        let fate = Arc::new(OnceLock::new());
        self.lines.insert(id, Line { inbox, fate: Arc::clone(&fate) });
        let answers = self.answers.clone();
        let caller = Caller { id, peer, key, seat, inbox: payloads, fate, answers };
        let task = caller.run(self.config.clone(), Arc::clone(&self.reception), drain);
        self.spawner.spawn("srt caller", task.instrument(debug_span!("ingest", %peer)));
    }

    fn reject(&mut self, id: ConnId, code: RejectCode) {
        self.listener.reject(id, code);
    }

    fn data(&mut self, id: ConnId, payload: Vec<u8>) {
        let Some(line) = self.lines.get(&id) else { return };
        match line.inbox.try_send(payload) {
            // The second has ended, and its answer is on the way.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                warn!("an SRT publisher is ended, for its samples are not taken as fast as it sends them");
                self.listener.close(id, Instant::now());
                self.lost(
                    id,
                    &Gone::Broken(String::from("its samples were not taken as fast as it sent them")),
                );
            }
        }
    }

    /// A caller is gone; its task finishes what it has.
    fn lost(&mut self, id: ConnId, gone: &Gone) {
        if let Some(line) = self.lines.remove(&id) {
            // The first reason stays.
            let _ = line.fate.set(gone.clone());
        }
    }
}
