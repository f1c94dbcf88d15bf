//! Who is where: which peer speaks from which address, told by authenticated STUN checks. Pure: time is an argument.
//!
//! A peer is named by its ufrag and its tie-breaker together: Chromium's ufrag has 24 bits only. The password is
//! public, so anybody can fill this table; it is bounded, and the oldest stranger gives way.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::connection::LinkId;

/// Peers without a link that are remembered. Each costs some 200 bytes and is needed for one round trip.
const STRANGERS_MAX: usize = 4_096;

/// Addresses remembered for one peer: a browser checks from each of its interfaces.
const ADDRESSES_MAX: usize = 4;

/// A stranger that sends no more checks is forgotten.
const STRANGER_LIFE: Duration = Duration::from_secs(30);

/// A link whose present address has been silent so long follows a check from another address, nominated or not.
/// Browsers send a check or an acknowledgement several times a second while they are served.
const SILENCE_BEFORE_MOVE: Duration = Duration::from_secs(1);

/// An address whose peer has been silent so long may be another's now.
const SILENCE_BEFORE_TAKEOVER: Duration = Duration::from_secs(3);

/// Names a peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PeerKey {
    pub(super) ufrag: Arc<str>,
    pub(super) tie_breaker: u64,
}

/// What a check calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer it.
    Answer,
    /// Answer it; the link's peer is alive.
    Alive(LinkId),
    /// Answer it; the link's peer is at this address now.
    Move(LinkId),
    /// Let it be: this peer had its time to connect, or its connection is over. Its ICE will notice.
    Ignore,
}

#[derive(Default)]
pub(super) struct Roster {
    peers: HashMap<PeerKey, Peer>,
    by_address: HashMap<SocketAddr, PeerKey>,
    /// Strangers, oldest first; may name some that are gone or linked now.
    strangers: VecDeque<PeerKey>,
    stranger_count: usize,
}

struct Peer {
    link: Option<LinkId>,
    addresses: Vec<SocketAddr>,
    first_seen: Instant,
    last_seen: Instant,
    /// Had a link that ended, or showed that it believes to have one.
    is_over: bool,
}

impl Roster {
    /// An authenticated check of `key` came from `from`. `last_heard` tells when a link's peer was heard at its
    /// present address; `patience` is how long a stranger may take to connect.
    pub(super) fn check(
        &mut self,
        key: &PeerKey,
        from: SocketAddr,
        is_nominated: bool,
        now: Instant,
        patience: Duration,
        last_heard: impl Fn(LinkId) -> Option<(SocketAddr, Instant)>,
    ) -> Verdict {
        let silent_for = |link, at_least| match last_heard(link) {
            Some((address, heard)) => (address, now.saturating_duration_since(heard) >= at_least),
            None => (from, true),
        };
        if !self.peers.contains_key(key) {
            self.make_room();
            self.strangers.push_back(key.clone());
            self.stranger_count += 1;
            let peer =
                Peer { link: None, addresses: Vec::new(), first_seen: now, last_seen: now, is_over: false };
            self.peers.insert(key.clone(), peer);
        }
        let holder = self.by_address.get(&from).filter(|holder| *holder != key);
        let is_held = holder.and_then(|holder| self.peers.get(holder)?.link).is_some_and(|link| {
            let (address, is_silent) = silent_for(link, SILENCE_BEFORE_TAKEOVER);
            address == from && !is_silent
        });
        let Some(peer) = self.peers.get_mut(key) else { return Verdict::Ignore };
        peer.last_seen = now;
        let verdict = match peer.link {
            Some(link) => {
                let (address, is_silent) = silent_for(link, SILENCE_BEFORE_MOVE);
                if address == from {
                    Verdict::Alive(link)
                } else if is_nominated || is_silent {
                    Verdict::Move(link)
                } else {
                    Verdict::Alive(link)
                }
            }
            None if peer.is_over || now.saturating_duration_since(peer.first_seen) > patience => {
                return Verdict::Ignore;
            }
            None => Verdict::Answer,
        };
        if is_held {
            return Verdict::Answer;
        }
        self.register(key, from);
        verdict
    }

    /// The link of the peer that speaks from `from`.
    pub(super) fn link_at(&self, from: SocketAddr) -> Option<LinkId> {
        self.peers.get(self.by_address.get(&from)?)?.link
    }

    /// The stranger at `from`, if it may begin a handshake.
    pub(super) fn stranger_at(&self, from: SocketAddr) -> Option<PeerKey> {
        let key = self.by_address.get(&from)?;
        self.peers.get(key).filter(|peer| peer.link.is_none() && !peer.is_over).map(|_| key.clone())
    }

    /// A stranger at `from` sends what only an open connection sends: it has one that we do not know any more.
    /// Answering its checks would keep it waiting for ever.
    pub(super) fn forget_stale(&mut self, from: SocketAddr) {
        if let Some(key) = self.by_address.get(&from)
            && let Some(peer) = self.peers.get_mut(key)
            && peer.link.is_none()
        {
            peer.is_over = true;
        }
    }

    /// Whether `key` has a link here.
    pub(super) fn has_link(&self, key: &PeerKey) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.link.is_some())
    }

    pub(super) fn link(&mut self, key: &PeerKey, link: LinkId) {
        if let Some(peer) = self.peers.get_mut(key)
            && peer.link.replace(link).is_none()
        {
            self.stranger_count = self.stranger_count.saturating_sub(1);
        }
    }

    /// The link of `key` has ended; `is_over` if the peer is not to try again.
    pub(super) fn unlink(&mut self, key: &PeerKey, is_over: bool, now: Instant) {
        if let Some(peer) = self.peers.get_mut(key)
            && peer.link.take().is_some()
        {
            peer.is_over = is_over;
            peer.last_seen = now;
            self.stranger_count += 1;
            self.strangers.push_back(key.clone());
        }
    }

    /// Forgets strangers that are silent. Call it about once a second.
    pub(super) fn expire(&mut self, now: Instant) {
        let strangers = std::mem::take(&mut self.strangers);
        let mut known = std::collections::HashSet::new();
        for key in strangers {
            let Some(peer) = self.peers.get(&key).filter(|peer| peer.link.is_none()) else { continue };
            if now.saturating_duration_since(peer.last_seen) > STRANGER_LIFE {
                self.remove(&key);
            } else if known.insert(key.clone()) {
                self.strangers.push_back(key);
            }
        }
    }

    fn register(&mut self, key: &PeerKey, from: SocketAddr) {
        if self.by_address.get(&from) == Some(key) {
            return;
        }
        if let Some(before) = self.by_address.insert(from, key.clone())
            && let Some(peer) = self.peers.get_mut(&before)
        {
            peer.addresses.retain(|address| *address != from);
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.addresses.push(from);
        if peer.addresses.len() > ADDRESSES_MAX {
            let oldest = peer.addresses.remove(0);
            self.by_address.remove(&oldest);
        }
    }

    fn make_room(&mut self) {
        while self.stranger_count >= STRANGERS_MAX {
            let Some(key) = self.strangers.pop_front() else { return };
            if self.peers.get(&key).is_some_and(|peer| peer.link.is_none()) {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &PeerKey) {
        if let Some(peer) = self.peers.remove(key) {
            self.stranger_count = self.stranger_count.saturating_sub(1);
            for address in peer.addresses {
                if self.by_address.get(&address) == Some(key) {
                    self.by_address.remove(&address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn key(n: u64) -> PeerKey {
        PeerKey { ufrag: "abcd".into(), tie_breaker: n }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// A roster where peer 1 has link 7 at port 1, last heard at `start`.
    fn linked(start: Instant) -> (Roster, impl Fn(LinkId) -> Option<(SocketAddr, Instant)>) {
        let mut roster = Roster::default();
        let verdict = roster.check(&key(1), at(1), false, start, PATIENCE, |_| None);
        assert_eq!(verdict, Verdict::Answer);
        assert_eq!(roster.stranger_at(at(1)), Some(key(1)));
        roster.link(&key(1), 7);
        assert_eq!((roster.link_at(at(1)), roster.stranger_at(at(1))), (Some(7), None));
        (roster, move |_| Some((at(1), start)))
    }

    #[test]
    fn a_nominated_check_from_elsewhere_moves_the_link_at_once() {
        let start = Instant::now();
        let (mut roster, heard) = linked(start);
        assert_eq!(roster.check(&key(1), at(2), true, start, PATIENCE, heard), Verdict::Move(7));
        assert_eq!(roster.link_at(at(2)), Some(7));
    }

    #[test]
    fn any_check_from_elsewhere_moves_the_link_once_its_address_is_silent() {
        let start = Instant::now();
        let (mut roster, heard) = linked(start);
        let verdict = roster.check(&key(1), at(2), false, start, PATIENCE, &heard);
        assert_eq!(verdict, Verdict::Alive(7), "a second interface is no move");
        let later = start + SILENCE_BEFORE_MOVE;
        assert_eq!(roster.check(&key(1), at(2), false, later, PATIENCE, &heard), Verdict::Move(7));
    }

    #[test]
    fn nobody_takes_the_address_of_a_peer_that_is_heard() {
        let start = Instant::now();
        let (mut roster, heard) = linked(start);
        assert_eq!(roster.check(&key(2), at(1), true, start, PATIENCE, &heard), Verdict::Answer);
        assert_eq!(roster.link_at(at(1)), Some(7));
        let later = start + SILENCE_BEFORE_TAKEOVER;
        roster.check(&key(2), at(1), true, later, PATIENCE, &heard);
        assert_eq!((roster.link_at(at(1)), roster.stranger_at(at(1))), (None, Some(key(2))));
    }

    #[test]
    fn a_peer_whose_connection_is_over_gets_no_answer() {
        let start = Instant::now();
        let (mut roster, heard) = linked(start);
        roster.unlink(&key(1), true, start);
        assert_eq!(roster.check(&key(1), at(1), true, start, PATIENCE, heard), Verdict::Ignore);
        assert_eq!(roster.stranger_at(at(1)), None);
    }

    #[test]
    fn a_stranger_that_does_not_connect_or_believes_to_be_connected_gets_no_answer() {
        let start = Instant::now();
        let mut roster = Roster::default();
        roster.check(&key(1), at(1), false, start, PATIENCE, |_| None);
        let late = start + PATIENCE + Duration::from_secs(1);
        assert_eq!(roster.check(&key(1), at(1), false, late, PATIENCE, |_| None), Verdict::Ignore);

        roster.check(&key(2), at(2), false, start, PATIENCE, |_| None);
        roster.forget_stale(at(2));
        assert_eq!(roster.check(&key(2), at(2), false, start, PATIENCE, |_| None), Verdict::Ignore);
    }

    #[test]
    fn strangers_are_bounded_and_forgotten_and_links_are_not() {
        let start = Instant::now();
        let (mut roster, _) = linked(start);
        for n in 0..3 * u64::try_from(STRANGERS_MAX).unwrap() {
            let from = SocketAddr::from((u32::try_from(n).unwrap().to_be_bytes(), 9));
            roster.check(&key(100 + n), from, false, start, PATIENCE, |_| None);
        }
        assert!(roster.peers.len() <= STRANGERS_MAX + 1);
        assert!(roster.by_address.len() <= STRANGERS_MAX + 1);
        assert_eq!(roster.link_at(at(1)), Some(7));
        roster.expire(start + STRANGER_LIFE + Duration::from_secs(1));
        assert_eq!((roster.peers.len(), roster.by_address.len(), roster.stranger_count), (1, 1, 0));
        assert!(roster.strangers.is_empty());
    }

    #[test]
    fn a_peer_has_few_addresses() {
        let start = Instant::now();
        let (mut roster, heard) = linked(start);
        for port in 2..50 {
            roster.check(&key(1), at(port), true, start, PATIENCE, &heard);
        }
        assert_eq!(roster.by_address.len(), ADDRESSES_MAX);
    }
}
