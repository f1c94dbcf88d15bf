//! What a handle and its driver share: send credit, the inbox, the state that anybody may read.
//!
//! The mutexes guard a few words each, are never held across an await and never together.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millstream_model::Fingerprint;
use tokio::sync::{Notify, futures::Notified, watch};

use super::{
    Channel, CloseReason, Closed, Message, SendError, Stats,
    credit::{Credit, Refusal, charge},
};
use crate::link::Released;

/// Bytes of [`Channel::Control`] buffered at most. Its own credit, so that media never delays control.
const CONTROL_BYTES_MAX: usize = 256 * 1024;

/// The bounds of one connection's buffers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of [`Channel::Pieces`] that wait for the network or an acknowledgement.
    pub(crate) send_bytes_max: usize,
    /// Bytes received that the application has not taken, beyond the SCTP window.
    pub(crate) inbox_bytes_max: usize,
}

/// One connection's side that both the handle and the driver see.
pub(crate) struct Port {
    control: Credit,
    pieces: Credit,
    inbox: Mutex<Inbox>,
    inbox_bytes_max: usize,
    ready: Notify,
    closed: watch::Sender<Option<CloseReason>>,
    snapshot: Mutex<Snapshot>,
    remote_fingerprint: Fingerprint,
}

#[derive(Default)]
struct Inbox {
    queue: VecDeque<Message>,
    bytes: usize,
    /// The driver found no room and waits to be told.
    paused: bool,
    ended: bool,
}

struct Snapshot {
    remote_addr: SocketAddr,
    stats: Stats,
}

/// What [`Port::pop`] found.
pub(super) enum Popped {
    Message {
        message: Message,
        /// The driver waits for this room.
        resume: bool,
    },
    Empty,
    Ended,
}

impl Port {
    pub(crate) fn new(limits: Limits, remote_fingerprint: Fingerprint, remote_addr: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            control: Credit::new(CONTROL_BYTES_MAX),
            pieces: Credit::new(limits.send_bytes_max),
            inbox: Mutex::default(),
            inbox_bytes_max: limits.inbox_bytes_max,
            ready: Notify::new(),
            closed: watch::Sender::new(None),
            snapshot: Mutex::new(Snapshot { remote_addr, stats: Stats::default() }),
            remote_fingerprint,
        })
    }

    // The handle's side.

    pub(super) async fn reserve(&self, channel: Channel, bytes: usize) -> Result<(), SendError> {
        self.credit(channel).take(bytes).await.map_err(|refusal| self.error(refusal))
    }

    pub(super) fn try_reserve(&self, channel: Channel, bytes: usize) -> Result<(), SendError> {
        self.credit(channel).try_take(bytes).map_err(|refusal| self.error(refusal))
    }

    pub(super) fn buffered(&self, channel: Channel) -> usize {
        self.credit(channel).held()
    }

    pub(super) fn ready(&self) -> Notified<'_> {
        self.ready.notified()
    }

    pub(super) fn pop(&self) -> Popped {
        let mut inbox = lock(&self.inbox);
        let Some(message) = inbox.queue.pop_front() else {
            return if inbox.ended { Popped::Ended } else { Popped::Empty };
        };
        inbox.bytes = inbox.bytes.saturating_sub(charge(message.bytes.len()));
        let resume = inbox.paused && inbox.bytes <= self.inbox_bytes_max / 2;
        if resume {
            inbox.paused = false;
        }
        if !inbox.queue.is_empty() {
            // Wakes the next of several receivers: one stored wake-up stands for many messages.
            self.ready.notify_one();
        }
        Popped::Message { message, resume }
    }

    pub(super) fn remote_fingerprint(&self) -> Fingerprint {
        self.remote_fingerprint
    }

    pub(super) fn remote_addr(&self) -> SocketAddr {
        lock(&self.snapshot).remote_addr
    }

    pub(super) fn stats(&self) -> Stats {
        lock(&self.snapshot).stats
    }

    pub(super) async fn closed(&self) -> CloseReason {
        let mut closed = self.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(CloseReason::Shutdown),
            Err(_) => CloseReason::Shutdown,
        }
    }

    fn error(&self, refusal: Refusal) -> SendError {
        match refusal {
            Refusal::Full => SendError::Full,
            Refusal::Closed => {
                SendError::Closed(Closed(self.closed.borrow().unwrap_or(CloseReason::Shutdown)))
            }
        }
    }

    // The driver's side.

    /// Whether the driver may push another message; if not, a `Resume` command follows when it may.
    pub(crate) fn has_room(&self) -> bool {
        let mut inbox = lock(&self.inbox);
        inbox.paused = inbox.bytes >= self.inbox_bytes_max;
        !inbox.paused
    }

    pub(crate) fn push(&self, message: Message) {
        let mut inbox = lock(&self.inbox);
        if !inbox.ended {
            inbox.bytes += charge(message.bytes.len());
            inbox.queue.push_back(message);
            self.ready.notify_one();
        }
    }

    /// Gives senders back what the peer has acknowledged, and tells them how much may be with the network and SCTP.
    pub(crate) fn settle(&self, channel: Channel, released: Released, limit: usize) {
        self.credit(channel).settle(released.messages, released.bytes, limit);
    }

    pub(crate) fn record(&self, remote_addr: SocketAddr, stats: Stats) {
        *lock(&self.snapshot) = Snapshot { remote_addr, stats };
    }

    /// Ends the connection for its handles. The first reason stays.
    pub(crate) fn finish(&self, reason: CloseReason) {
        self.closed.send_if_modified(|slot| {
            let first = slot.is_none();
            slot.get_or_insert(reason);
            first
        });
        self.control.close();
        self.pieces.close();
        lock(&self.inbox).ended = true;
        self.ready.notify_waiters();
        self.ready.notify_one();
    }

    fn credit(&self, channel: Channel) -> &Credit {
        match channel {
            Channel::Control => &self.control,
            Channel::Pieces => &self.pieces,
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.finish(CloseReason::Shutdown);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics runs under these locks; the data is sound even if it did.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn port() -> Arc<Port> {
        let limits = Limits { send_bytes_max: 1_000, inbox_bytes_max: 200 };
        Port::new(limits, Fingerprint([0; 32]), SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn message(bytes: usize) -> Message {
        Message { channel: Channel::Pieces, bytes: Bytes::from(vec![0; bytes]) }
    }

    #[test]
    fn a_full_channel_refuses_and_leaves_the_other_alone() {
        let port = port();
        // The bound is raised to one message of full length.
        port.try_reserve(Channel::Pieces, crate::MESSAGE_BYTES_MAX).unwrap();
        assert_eq!(port.try_reserve(Channel::Pieces, 0), Err(SendError::Full));
        port.try_reserve(Channel::Control, 10).unwrap();
    }

    #[test]
    fn a_full_inbox_pauses_until_half_is_taken() {
        let port = port();
        assert!(port.has_room());
        port.push(message(100));
        assert!(port.has_room());
        port.push(message(100));
        assert!(!port.has_room());
        assert!(matches!(port.pop(), Popped::Message { resume: false, .. }));
        assert!(matches!(port.pop(), Popped::Message { resume: true, .. }));
        assert!(matches!(port.pop(), Popped::Empty));
    }

    #[test]
    fn what_was_received_outlives_the_close_and_the_first_reason_stays() {
        let port = port();
        port.push(message(1));
        port.finish(CloseReason::Peer);
        port.finish(CloseReason::Shutdown);
        assert!(matches!(port.pop(), Popped::Message { .. }));
        assert!(matches!(port.pop(), Popped::Ended));
        let refused = SendError::Closed(Closed(CloseReason::Peer));
        assert_eq!(port.try_reserve(Channel::Control, 1), Err(refused));
    }
}
