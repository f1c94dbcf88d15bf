//! A UDP socket that moves many datagrams with one system call (GSO, GRO, recvmmsg), and what waits to leave by it.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;

/// Socket buffers asked for. The system's default of 212 KB drops bursts of a few connections; `rmem_max` and
/// `wmem_max` may allow less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Bytes in one system call's buffer: the longest datagram of UDP, which GRO fills.
const SLOT_BYTES: usize = 64 * 1024;

/// Bytes handed to the kernel in one go at most: UDP's limit, less headers.
const BATCH_BYTES_MAX: usize = 60_000;

/// Buffers kept for reuse.
const SPARES_MAX: usize = 32;

/// Binds a socket and gives it large buffers; says so once when the system allows less.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A bound socket on the current runtime.
pub(super) struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

/// A datagram that arrived.
pub(super) struct Arrival<'a> {
    pub(super) from: SocketAddr,
    /// The address it was sent to, on a socket with several.
    pub(super) to: Option<IpAddr>,
    pub(super) bytes: &'a [u8],
}

/// Buffers for arrivals.
pub(super) struct Intake {
    bytes: Vec<u8>,
}

impl Intake {
    /// For `slots` datagrams, or trains of datagrams, a system call.
    pub(super) fn new(slots: usize) -> Self {
        Self { bytes: vec![0; slots * SLOT_BYTES] }
    }
}

impl Socket {
    pub(super) fn adopt(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { io: tokio::net::UdpSocket::from_std(socket)?, state })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Hands what one system call brings to `each`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing; others are the network's (a peer's port is closed) and pass.
    pub(super) fn receive(&self, intake: &mut Intake, each: &mut dyn FnMut(Arrival<'_>)) -> io::Result<()> {
        let mut slots: Vec<_> = intake.bytes.chunks_exact_mut(SLOT_BYTES).map(IoSliceMut::new).collect();
        let mut metas = vec![RecvMeta::default(); slots.len()];
        let count = self
            .io
            .try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut slots, &mut metas))?;
        for (slot, meta) in slots.iter().zip(&metas).take(count) {
            let train = slot.get(..meta.len).unwrap_or_default();
            for bytes in train.chunks(meta.stride.max(1)) {
                each(Arrival { from: meta.addr, to: meta.dst_ip, bytes });
            }
        }
        Ok(())
    }

    fn send(&self, batch: &Batch) -> io::Result<()> {
        let transmit = Transmit {
            destination: batch.to,
            ecn: None,
            contents: &batch.bytes,
            segment_size: (batch.segments > 1).then_some(batch.segment_bytes),
            src_ip: batch.from,
        };
        self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit))
    }
}

/// Datagrams that wait for the kernel, in order. Its owner adds only while it is empty or nearly so: what it holds
/// is bounded by what one connection's congestion window lets out at once.
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Batch>,
    spares: Vec<Vec<u8>>,
}

/// Datagrams of one length to one peer; the last may be shorter.
struct Batch {
    to: SocketAddr,
    from: Option<IpAddr>,
    bytes: Vec<u8>,
    segment_bytes: usize,
    segments: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues `datagram` for `to`, to leave from our address `from`.
    pub(super) fn push(&mut self, socket: &Socket, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8]) {
        if let Some(batch) = self.queue.back_mut()
            && batch.to == to
            && batch.from == from
            && datagram.len() <= batch.segment_bytes
            && batch.bytes.len() == batch.segments * batch.segment_bytes
            && batch.segments < socket.state.max_gso_segments()
            && batch.bytes.len() + datagram.len() <= BATCH_BYTES_MAX
        {
            batch.bytes.extend_from_slice(datagram);
            batch.segments += 1;
            return;
        }
        let mut bytes = self.spares.pop().unwrap_or_default();
        bytes.extend_from_slice(datagram);
        self.queue.push_back(Batch { to, from, bytes, segment_bytes: datagram.len(), segments: 1 });
    }

    /// Gives the kernel what it takes.
    pub(super) fn flush(&mut self, socket: &Socket) {
        while let Some(batch) = self.queue.front() {
            match socket.send(batch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // As if lost on the way: the protocols above send again.
                Err(_) | Ok(()) => {}
            }
            if let Some(mut batch) = self.queue.pop_front()
                && self.spares.len() < SPARES_MAX
            {
                batch.bytes.clear();
                self.spares.push(batch.bytes);
            }
        }
    }
}
