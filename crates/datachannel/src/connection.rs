//! A connection as the rest of Millstream holds it: two data channels to one peer, with back-pressure both ways.
//!
//! The handle never touches the protocol. It exchanges commands, messages and credit with the driver that owns
//! the socket through a `Port`; no lock is held while anything waits.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use millstream_model::Fingerprint;
use thiserror::Error;
use tokio::sync::mpsc;

mod credit;
mod port;

use crate::dtls::Version;
use port::Popped;
pub(crate) use port::{Limits, Port};

/// Bytes in one message at most, either way: a 64 KiB piece and 64 bytes of header.
pub const MESSAGE_BYTES_MAX: usize = 65_600;

/// One of the two data channels. Both exist on every connection, negotiated in advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Stream 0, ordered and reliable: everything but media. Goes before [`Channel::Pieces`].
    Control,
    /// Stream 1, reliable, delivered as it arrives: media pieces.
    Pieces,
}

/// One message, whole, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it came from.
    pub channel: Channel,
    /// What it says. Text from a browser arrives as its UTF-8 bytes.
    pub bytes: Bytes,
}

/// Why a connection is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it, or dropped its last handle.
    #[error("closed by this side")]
    Local,
    /// The peer closed the connection or one of its channels.
    #[error("closed by the peer")]
    Peer,
    /// Nothing authentic came from the peer for the consent timeout.
    #[error("the peer fell silent")]
    Silence,
    /// The network says that nobody listens at the peer's address.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// The peer broke the protocol or a limit.
    #[error("the peer broke the protocol: {0}")]
    Misbehaviour(&'static str),
    /// The listener or the runtime that drove it ended.
    #[error("the driver ended")]
    Shutdown,
}

/// A message was not taken because the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the connection is closed: {0}")]
pub struct Closed(pub CloseReason);

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// The connection is closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The channel holds as many unacknowledged bytes as it may. Only [`Connection::try_send`] says this.
    #[error("the channel's send buffer is full")]
    Full,
    /// The message is longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes, {MESSAGE_BYTES_MAX} are allowed")]
    TooLong(usize),
}

/// What a connection has done so far. Payload bytes, without any protocol's overhead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Payload bytes handed to the network for the first time.
    pub bytes_sent: u64,
    /// Payload bytes sent that the peer has acknowledged.
    pub bytes_acknowledged: u64,
    /// Payload bytes of whole messages received.
    pub bytes_received: u64,
    /// SCTP DATA chunks sent again.
    pub retransmits: u64,
    /// Smoothed round trip, the peer's delayed acknowledgement included; none before the first measurement.
    pub rtt: Option<Duration>,
    /// The version of DTLS that is spoken.
    pub dtls: Option<Version>,
}

/// A handle to one open connection. Clones are the same connection; it closes when the last one is dropped.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

impl Connection {
    /// Hands `bytes` over for delivery, waiting while the channel's send buffer is full, or holds more than the path will
    /// soon carry: what is handed over cannot be taken back.
    ///
    /// Cancel-safe: a dropped future has sent nothing. Returns when the message is buffered, not when it arrives.
    ///
    /// # Errors
    ///
    /// When the connection is closed, or the message too long.
    pub async fn send(&self, channel: Channel, bytes: Bytes) -> Result<(), SendError> {
        self.handle.check_length(&bytes)?;
        self.handle.port.reserve(channel, bytes.len()).await?;
        self.handle.submit(channel, bytes)
    }

    /// Hands `bytes` over for delivery if [`Connection::send`] would not wait.
    ///
    /// # Errors
    ///
    /// When the connection is closed, the message too long, or the buffer full.
    pub fn try_send(&self, channel: Channel, bytes: Bytes) -> Result<(), SendError> {
        self.handle.check_length(&bytes)?;
        self.handle.port.try_reserve(channel, bytes.len())?;
        self.handle.submit(channel, bytes)
    }

    /// Bytes on `channel` that the peer has not acknowledged, with a small charge for each message not yet sent.
    #[must_use]
    pub fn buffered(&self, channel: Channel) -> usize {
        self.handle.port.buffered(channel)
    }

    /// The next message from either channel; none when the connection is closed and everything was taken.
    ///
    /// Cancel-safe. A receiver that stops calling this closes the peer's SCTP window: memory stays within
    /// `inbox_bytes_max` and the receive window.
    pub async fn recv(&self) -> Option<Message> {
        loop {
            let mut ready = std::pin::pin!(self.handle.port.ready());
            ready.as_mut().enable();
            match self.handle.port.pop() {
                Popped::Message { message, resume } => {
                    if resume {
                        self.handle.command(Command::Resume);
                    }
                    return Some(message);
                }
                Popped::Ended => return None,
                Popped::Empty => ready.await,
            }
        }
    }

    /// SHA-256 of the certificate the peer proved to hold in the DTLS handshake.
    #[must_use]
    pub fn remote_fingerprint(&self) -> Fingerprint {
        self.handle.port.remote_fingerprint()
    }

    /// Where the peer is now. It moves when the peer's NAT does.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.handle.port.remote_addr()
    }

    /// Counters and estimates, as of the driver's last turn.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.port.stats()
    }

    /// Closes: takes no more messages, gives what is buffered a moment ([`CLOSE_LINGER`]) to be acknowledged, then
    /// tells the peer. Returns at once; [`Connection::closed`] waits.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Waits until the connection is closed, by either side, and says why.
    pub async fn closed(&self) -> CloseReason {
        self.handle.port.closed().await
    }

    pub(crate) fn new(id: LinkId, port: Arc<Port>, commands: Commands) -> Self {
        Self { handle: Arc::new(Handle { id, port, commands, closing: AtomicBool::new(false) }) }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("remote_addr", &self.remote_addr()).finish_non_exhaustive()
    }
}

/// How long a closing connection waits for the peer to acknowledge what is buffered: a few round trips.
pub const CLOSE_LINGER: Duration = Duration::from_secs(1);

/// Names one connection of one driver; never used twice.
pub(crate) type LinkId = u64;

/// What a handle asks of its driver. The sum of what waits here is bounded by each connection's send credit.
#[derive(Debug)]
pub(crate) enum Command {
    Send(Channel, Bytes),
    /// The inbox has room again.
    Resume,
    Close,
}

pub(crate) type Commands = mpsc::UnboundedSender<(LinkId, Command)>;

struct Handle {
    id: LinkId,
    port: Arc<Port>,
    commands: Commands,
    closing: AtomicBool,
}

impl Handle {
    fn check_length(&self, bytes: &Bytes) -> Result<(), SendError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(SendError::Closed(Closed(CloseReason::Local)));
        }
        if bytes.len() > MESSAGE_BYTES_MAX { Err(SendError::TooLong(bytes.len())) } else { Ok(()) }
    }

    fn submit(&self, channel: Channel, bytes: Bytes) -> Result<(), SendError> {
        if self.command(Command::Send(channel, bytes)) {
            Ok(())
        } else {
            Err(SendError::Closed(Closed(CloseReason::Shutdown)))
        }
    }

    fn close(&self) {
        if !self.closing.swap(true, Ordering::AcqRel) {
            self.command(Command::Close);
        }
    }

    fn command(&self, command: Command) -> bool {
        self.commands.send((self.id, command)).is_ok()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
