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

/// Binds a socket and gives it large buffers; says so when the system allows less. One of several that share an
/// address if `is_shared`: the kernel then chooses one of them for each peer's address.
pub(crate) fn bind(address: SocketAddr, is_shared: bool) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive.min(send) < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            receive,
            send,
            wanted = SOCKET_BUFFER_BYTES,
            "the system caps UDP buffers: raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    Ok(socket.into())
}

/// Lets others bind the address of `socket`, too, which say so.
pub(crate) fn share(socket: &std::net::UdpSocket) -> io::Result<()> {
    socket2::SockRef::from(socket).set_reuse_port(true)
}

/// A bound socket on the current runtime.
pub(crate) struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

/// A datagram that arrived.
pub(crate) struct Arrival<'a> {
    pub(crate) from: SocketAddr,
    /// The address it was sent to, on a socket with several.
    pub(crate) to: Option<IpAddr>,
    /// Decrypted where it stands.
    pub(crate) bytes: &'a mut [u8],
}

/// Buffers for arrivals.
pub(crate) struct Intake {
    bytes: Vec<u8>,
    metas: Vec<RecvMeta>,
}

impl Intake {
    /// For `slots` datagrams, or trains of datagrams, a system call.
    pub(crate) fn new(slots: usize) -> Self {
        Self { bytes: vec![0; slots * SLOT_BYTES], metas: vec![RecvMeta::default(); slots] }
    }
}

impl Socket {
    pub(crate) fn adopt(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { io: tokio::net::UdpSocket::from_std(socket)?, state })
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Hands what one system call brings to `each`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing; others are the network's (a peer's port is closed) and pass.
    pub(crate) fn receive(&self, intake: &mut Intake, each: &mut dyn FnMut(Arrival<'_>)) -> io::Result<()> {
        let Intake { bytes, metas } = intake;
        let mut slots: Vec<_> = bytes.chunks_exact_mut(SLOT_BYTES).map(IoSliceMut::new).collect();
        let count =
            self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut slots, metas))?;
        for (slot, meta) in slots.iter_mut().zip(metas).take(count) {
            let train = slot.get_mut(..meta.len).unwrap_or_default();
            for bytes in train.chunks_mut(meta.stride.max(1)) {
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

/// Where a machine writes datagrams to.
pub(crate) trait Sink {
    /// Has `write` append one datagram; what it says, whether there was one, is passed on.
    fn datagram(&mut self, write: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> bool;
}

/// Datagrams that wait for the kernel, in order. Its owner adds only while it is empty or nearly so: what it holds
/// is bounded by what one connection's congestion window lets out at once.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Batch>,
    spares: Vec<Vec<u8>>,
    is_refused: bool,
}

/// Datagrams of one length to one peer; the last may be shorter.
struct Batch {
    to: SocketAddr,
    from: Option<IpAddr>,
    bytes: Vec<u8>,
    segment_bytes: usize,
    segments: usize,
}

/// The way out to one peer: datagrams are written straight into what the kernel is given.
pub(crate) struct Outlet<'a> {
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) socket: &'a Socket,
    pub(crate) to: SocketAddr,
    /// The address of ours to send from, on a machine with several.
    pub(crate) from: Option<IpAddr>,
}

impl Sink for Outlet<'_> {
    fn datagram(&mut self, write: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> bool {
        let Self { outbox, socket, to, from } = self;
        let segments_max = socket.state.max_gso_segments();
        let batch = match outbox.queue.back_mut() {
            Some(batch) if batch.has_room_for(*to, *from, segments_max) => batch,
            _ => {
                let bytes = outbox.spares.pop().unwrap_or_default();
                outbox.queue.push_back(Batch { to: *to, from: *from, bytes, segment_bytes: 0, segments: 0 });
                match outbox.queue.back_mut() {
                    Some(batch) => batch,
                    None => return false,
                }
            }
        };
        let before = batch.bytes.len();
        let is_written = write(&mut batch.bytes);
        let length = batch.bytes.len() - before;
        if batch.segments == 0 {
            batch.segment_bytes = length;
        }
        if length > batch.segment_bytes {
            // Longer than those before it: the first of a batch of its own.
            let mut bytes = outbox.spares.pop().unwrap_or_default();
            bytes.extend_from_slice(&batch.bytes[before..]);
            batch.bytes.truncate(before);
            outbox.queue.push_back(Batch { to: *to, from: *from, bytes, segment_bytes: length, segments: 1 });
        } else if length > 0 {
            batch.segments += 1;
        } else if batch.segments == 0
            && let Some(batch) = outbox.queue.pop_back()
        {
            outbox.keep(batch.bytes);
        }
        is_written
    }
}

impl Batch {
    fn has_room_for(&self, to: SocketAddr, from: Option<IpAddr>, segments_max: usize) -> bool {
        self.to == to
            && self.from == from
            && self.bytes.len() == self.segments * self.segment_bytes
            && self.segments < segments_max
            && self.bytes.len() + self.segment_bytes <= BATCH_BYTES_MAX
    }
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues `datagram` for `to`, to leave from our address `from`.
    pub(crate) fn push(&mut self, socket: &Socket, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8]) {
        let mut outlet = Outlet { outbox: self, socket, to, from };
        outlet.datagram(&mut |out| {
            out.extend_from_slice(datagram);
            true
        });
    }

    /// Whether the network has said, since the last call, that nobody listens at the address of a connected socket.
    /// It says so to the next send.
    pub(crate) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.is_refused)
    }

    /// Gives the kernel what it takes.
    pub(crate) fn flush(&mut self, socket: &Socket) {
        while let Some(batch) = self.queue.front() {
            match socket.send(batch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // As if lost on the way: the protocols above send again.
                Err(error) => {
                    self.is_refused |= error.kind() == io::ErrorKind::ConnectionRefused;
                    tracing::debug!(to = %batch.to, %error, "datagrams not sent");
                }
                Ok(()) => {}
            }
            if let Some(batch) = self.queue.pop_front() {
                self.keep(batch.bytes);
            }
        }
    }

    fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.spares.len() < SPARES_MAX {
            bytes.clear();
            self.spares.push(bytes);
        }
    }
}
