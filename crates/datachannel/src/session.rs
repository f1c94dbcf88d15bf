//! A [`Link`] and the [`Port`] of its handles, joined: what both drivers do for each connection on each turn.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use crate::{
    connection::{Channel, CloseReason, Command, Limits, Port, Stats},
    link::{Ended, Link},
    socket::Sink,
};

pub(crate) struct Session {
    link: Link,
    port: Option<Arc<Port>>,
    recorded: Option<(SocketAddr, Stats)>,
    /// An engine panicked; its state is not to be touched again.
    is_broken: bool,
}

impl Session {
    pub(crate) const fn new(link: Link) -> Self {
        Self { link, port: None, recorded: None, is_broken: false }
    }

    /// Takes a datagram. Says whether it was authentic.
    pub(crate) fn handle(&mut self, datagram: &mut [u8], now: Instant) -> bool {
        self.guarded(|link| link.handle(datagram, now)).unwrap_or(false)
    }

    pub(crate) fn command(&mut self, command: Command, now: Instant) {
        self.guarded(|link| match command {
            Command::Send(channel, bytes) => link.write(channel, bytes, now),
            Command::Resume => {}
            Command::Close => link.close(now),
        });
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.guarded(|link| link.handle_timeout(now));
    }

    /// See [`Link::nudge`].
    pub(crate) fn nudge(&mut self, now: Instant) {
        self.guarded(|link| link.nudge(now));
    }

    pub(crate) fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.guarded(|link| link.next_timeout(now)).flatten()
    }

    pub(crate) fn abort(&mut self, reason: CloseReason) {
        self.guarded(|link| link.abort(reason));
    }

    /// Moves what can move: messages to the inbox, datagrams to `sink`, credit to senders. `peer` is where the
    /// peer is now.
    pub(crate) fn pump(&mut self, peer: SocketAddr, now: Instant, sink: &mut dyn Sink) {
        self.receive(now);
        self.guarded(|link| link.transmit(now, sink));
        let Some(port) = &self.port else { return };
        for channel in [Channel::Control, Channel::Pieces] {
            port.settle(channel, self.link.take_released(channel), self.link.appetite(channel));
        }
        let snapshot = (peer, self.link.stats());
        if self.recorded != Some(snapshot) {
            self.recorded = Some(snapshot);
            port.record(snapshot.0, snapshot.1);
        }
        if let Some(Ended::Closed(reason)) = self.ended() {
            port.finish(reason);
        }
    }

    /// Once, when the link has opened: what its handles are made of.
    pub(crate) fn take_opened(&mut self, limits: Limits, peer: SocketAddr) -> Option<Arc<Port>> {
        if self.port.is_some() {
            return None;
        }
        let fingerprint = self.guarded(|link| link.open()).flatten()?;
        let port = Port::new(limits, fingerprint, peer);
        self.port = Some(port.clone());
        Some(port)
    }

    pub(crate) const fn is_proven(&self) -> bool {
        self.link.is_proven()
    }

    pub(crate) const fn ended(&self) -> Option<Ended> {
        if self.is_broken {
            Some(Ended::Closed(CloseReason::Misbehaviour("the protocol engine failed")))
        } else {
            self.link.ended()
        }
    }

    fn receive(&mut self, now: Instant) {
        let Some(port) = self.port.clone() else { return };
        // What arrived before the end is still delivered; the receive window bounds it.
        while self.ended().is_some() || port.has_room() {
            let Some(message) = self.guarded(|link| link.read(now)).flatten() else { return };
            port.push(message);
        }
    }

    /// Hostile bytes are eaten here, by others' code (the handshake's engine) and by ours: a panic costs its own connection
    /// only.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Link) -> T) -> Option<T> {
        if self.is_broken {
            return None;
        }
        let Self { link, .. } = self;
        let outcome = catch_unwind(AssertUnwindSafe(|| act(link)));
        self.is_broken = outcome.is_err();
        outcome.ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(port) = &self.port {
            port.finish(CloseReason::Shutdown);
        }
    }
}
