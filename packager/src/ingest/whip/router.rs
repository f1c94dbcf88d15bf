//! The one UDP socket: each datagram to the session that it is for.
//!
//! A session is found by what its publisher says when it connects (the user name of STUN, RFC 8445 §7.2.2), and then by the
//! address that it was heard from. What never belongs here: what is in a datagram beyond that.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use str0m::ice::StunMessage;
use tokio::{net::UdpSocket, sync::mpsc};
use tracing::debug;

/// Bytes of a datagram at most; longer ones are not WebRTC's.
const DATAGRAM_BYTES_MAX: usize = 2_000;

/// Datagrams that wait for a session: a second of 10 Mbit/s. More are as good as lost on the way.
const INBOX_MAX: usize = 1_024;

/// Addresses that a publisher is heard from, at most: its machine's interfaces, and those of routers on the way.
const ADDRESSES_MAX: usize = 8;

/// Bytes that the system keeps for us while we are busy: a quarter of a second of 250 Mbit/s, as far as it allows that.
const SOCKET_BYTES: usize = 8 * 1024 * 1024;

/// A datagram and who sent it.
pub(super) type Datagram = (SocketAddr, Vec<u8>);

/// Which session is where.
#[derive(Debug, Clone)]
pub(super) struct Router {
    socket: Arc<UdpSocket>,
    routes: Arc<Mutex<Routes>>,
}

#[derive(Debug, Default)]
struct Routes {
    by_name: HashMap<String, mpsc::Sender<Datagram>>,
    by_address: HashMap<SocketAddr, mpsc::Sender<Datagram>>,
}

/// A session's place in the router; given back when dropped.
#[derive(Debug)]
pub(super) struct Line {
    router: Router,
    name: String,
    sender: mpsc::Sender<Datagram>,
    inbox: mpsc::Receiver<Datagram>,
    addresses: Vec<SocketAddr>,
}

impl Router {
    /// Binds `address`.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        // The system may allow less; then lost packets are asked for again.
        let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        Ok(Self { socket, routes: Arc::default() })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Where datagrams for `name` come out from now on.
    pub(super) fn open(&self, name: &str) -> Line {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        self.routes().by_name.insert(name.to_owned(), sender.clone());
        Line { router: self.clone(), name: name.to_owned(), sender, inbox, addresses: Vec::new() }
    }

    /// Brings datagrams to sessions, for ever.
    pub(super) async fn run(self) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length @ 1..=DATAGRAM_BYTES_MAX, from)) => {
                    self.pass(from, buffer.get(..length).unwrap_or_default());
                }
                Ok(_) => {}
                // An answer to somebody who is gone; others are still there.
                Err(error) => debug!(%error, "datagram"),
            }
        }
    }

    fn pass(&self, from: SocketAddr, datagram: &[u8]) {
        // STUN begins with two zero bits (RFC 7983 §7). Its user name is ours, a colon, and the publisher's.
        let is_stun = datagram.first().is_some_and(|&first| first < 4);
        let stun = if is_stun { StunMessage::parse(datagram).ok() } else { None };
        let name = stun.as_ref().and_then(StunMessage::split_username).map(|(ours, _)| ours);
        let routes = self.routes();
        let by_name = name.and_then(|name| routes.by_name.get(name));
        if let Some(sender) = by_name.or_else(|| routes.by_address.get(&from)) {
            // A session that does not keep up loses datagrams, as on a line that is too narrow.
            let _ = sender.try_send((from, datagram.to_vec()));
        }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The next datagram; never ends.
    pub(super) async fn recv(&mut self) -> Option<Datagram> {
        self.inbox.recv().await
    }

    /// The same, if there is one already.
    pub(super) fn try_recv(&mut self) -> Option<Datagram> {
        self.inbox.try_recv().ok()
    }

    /// What comes from `address` is for this session, which has seen that its publisher is there. An address that is
    /// another's stays so.
    pub(super) fn heard(&mut self, address: SocketAddr) {
        if self.addresses.contains(&address) || self.addresses.len() >= ADDRESSES_MAX {
            return;
        }
        if let std::collections::hash_map::Entry::Vacant(entry) =
            self.router.routes().by_address.entry(address)
        {
            entry.insert(self.sender.clone());
            self.addresses.push(address);
        }
    }

    pub(super) async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        // What cannot be sent is as good as lost on the way; the protocol expects that.
        if let Err(error) = self.router.socket.send_to(datagram, to).await {
            debug!(%error, %to, "not sent");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut routes = self.router.routes();
        routes.by_name.remove(&self.name);
        for address in &self.addresses {
            routes.by_address.remove(address);
        }
    }
}
