//! The socket and every link on it: an ICE-lite agent that answers checks, and sends whoever asks as many bytes as he
//! asks for.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use millstream_datachannel::{
    Address,
    demux::{self, Protocol},
    random_token,
    stun::{self, Class},
};

use super::{
    link::{Link, Setup},
    records,
    socket::{self, Arrival, Intake, Outbox, Socket},
};

/// Datagrams, or trains of them, taken with one system call, and system calls in one turn.
const INTAKE_SLOTS: usize = 8;
const RECEIVES_PER_TURN: usize = 16;

/// A peer that sends nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// How often the silent are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

struct Driver {
    socket: Socket,
    setup: Setup,
    address: Address,
    peers: HashMap<SocketAddr, Peer>,
    outbox: Outbox,
    piece: Bytes,
    send_bytes_max: usize,
}

struct Peer {
    link: Link,
    /// Our address that it speaks to.
    ours: Option<IpAddr>,
    heard: Instant,
    /// Messages that it asked for and that were not written.
    owed: u64,
    is_dirty: bool,
}

/// Listens on `bind`, says where by `tell`, and serves for ever: pieces like `piece`, of which `send_bytes_max` bytes
/// may wait for the network or an acknowledgement.
pub(crate) async fn serve(
    bind: SocketAddr,
    piece: Bytes,
    send_bytes_max: usize,
    tell: impl FnOnce(&Address) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let socket = socket::bind(bind)?;
    let setup = Setup::new()?;
    let address = Address {
        socket: socket.local_addr()?,
        ufrag: random_token(8)?,
        password: random_token(24)?,
        fingerprint: setup.fingerprint,
    };
    tell(&address)?;
    let driver = Driver {
        socket: Socket::adopt(socket)?,
        setup,
        address,
        peers: HashMap::new(),
        outbox: Outbox::default(),
        piece,
        send_bytes_max,
    };
    driver.run().await
}

impl Driver {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut intake = Intake::new(INTAKE_SLOTS);
        let mut housekeeping = Instant::now() + HOUSEKEEPING;
        loop {
            let timeouts = self.peers.values().filter_map(|peer| peer.link.next_timeout());
            let due = timeouts.fold(housekeeping, Instant::min);
            tokio::select! {
                biased;
                _ = self.socket.readable() => {}
                _ = self.socket.writable(), if !self.outbox.is_empty() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let now = Instant::now();
            for _ in 0..RECEIVES_PER_TURN {
                let Self { socket, setup, address, peers, outbox, .. } = &mut self;
                let mut answers = Vec::new();
                let received = socket.receive(&mut intake, &mut |arrival| {
                    answers.extend(arrive(setup, address, peers, &arrival, now));
                });
                for (to, from, answer) in answers {
                    outbox.push(socket, to, from, &answer);
                }
                if received.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                    break;
                }
            }
            for peer in self.peers.values_mut() {
                if peer.link.next_timeout().is_some_and(|at| at <= now) {
                    peer.link.handle_timeout(now);
                    peer.is_dirty = true;
                }
            }
            self.pump(now);
            if housekeeping <= now {
                housekeeping = now + HOUSEKEEPING;
                self.peers.retain(|_, peer| now.saturating_duration_since(peer.heard) < SILENCE_MAX);
            }
        }
    }

    fn pump(&mut self, now: Instant) {
        self.outbox.flush(&self.socket);
        let Self { socket, peers, outbox, piece, send_bytes_max, .. } = self;
        for (to, peer) in peers.iter_mut().filter(|(_, peer)| peer.is_dirty) {
            if !outbox.is_empty() {
                break;
            }
            peer.is_dirty = false;
            while let Some(request) = peer.link.read(now) {
                let bytes = std::str::from_utf8(&request).ok().and_then(|text| text.parse::<u64>().ok());
                peer.owed += bytes.unwrap_or(0).div_ceil(piece.len().max(1) as u64);
            }
            while peer.owed > 0 && peer.link.unacknowledged() + piece.len() <= *send_bytes_max {
                peer.owed -= 1;
                peer.link.write(piece.clone());
            }
            let from = peer.ours;
            peer.link.transmit(now, &mut |datagram| outbox.push(socket, *to, from, datagram));
            outbox.flush(socket);
        }
        peers.retain(|_, peer| !peer.link.is_over());
    }
}

/// Takes a datagram; the answer to a check, with where it goes and whence.
fn arrive(
    setup: &Setup,
    address: &Address,
    peers: &mut HashMap<SocketAddr, Peer>,
    arrival: &Arrival<'_>,
    now: Instant,
) -> Option<(SocketAddr, Option<IpAddr>, Vec<u8>)> {
    match demux::protocol(arrival.bytes)? {
        Protocol::Stun => {
            let message = stun::Message::parse(arrival.bytes).ok()?;
            if message.class != Class::Request || !message.is_authentic(&address.password) {
                return None;
            }
            if let Some(peer) = peers.get_mut(&arrival.from) {
                peer.heard = now;
            }
            let answer = stun::success(message.transaction, arrival.from, &address.password);
            Some((arrival.from, arrival.to, answer))
        }
        Protocol::Dtls => {
            if !peers.contains_key(&arrival.from) {
                records::scan(arrival.bytes).filter(|records| records.is_client_hello)?;
            }
            let peer = peers.entry(arrival.from).or_insert_with(|| Peer {
                link: Link::new(setup),
                ours: arrival.to,
                heard: now,
                owed: 0,
                is_dirty: true,
            });
            peer.heard = now;
            peer.is_dirty = true;
            peer.link.handle(arrival.bytes, now);
            None
        }
    }
}
