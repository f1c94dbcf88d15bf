//! The cores of one listener, which share its address: who is with which of them.
//!
//! The kernel chooses a core for a datagram by both addresses, so a peer stays with the core that met it until its own
//! address changes. Then its check reaches another core, which passes it on over a bounded ring, and what follows from
//! that address, too.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::roster::PeerKey;

/// Datagrams that wait for their core. What is beyond is as if lost: the peer sends again.
const RING_DATAGRAMS: usize = 1_024;

/// Addresses remembered whose peers are with another core. Those whose NAT changed lately; the others are met anew by
/// their next check.
const ELSEWHERE_MAX: usize = 4_096;

/// A datagram that reached the wrong core.
pub(super) struct Stray {
    pub(super) from: SocketAddr,
    pub(super) to: Option<IpAddr>,
    pub(super) bytes: Vec<u8>,
}

/// What one core knows of the others.
pub(super) struct Neighbours {
    core: usize,
    /// Where each peer's link is. Locked when a link is made or ends, and for a peer that this core does not know.
    homes: Arc<Mutex<HashMap<PeerKey, usize>>>,
    rings: Arc<[mpsc::Sender<Stray>]>,
    strays: mpsc::Receiver<Stray>,
    elsewhere: HashMap<SocketAddr, usize>,
}

impl Neighbours {
    /// For so many cores.
    pub(super) fn new(cores: usize) -> Vec<Self> {
        let homes = Arc::new(Mutex::new(HashMap::new()));
        let (rings, strays): (Vec<_>, Vec<_>) = (0..cores).map(|_| mpsc::channel(RING_DATAGRAMS)).unzip();
        let rings: Arc<[_]> = rings.into();
        strays
            .into_iter()
            .enumerate()
            .map(|(core, strays)| Self {
                core,
                homes: homes.clone(),
                rings: rings.clone(),
                strays,
                elsewhere: HashMap::new(),
            })
            .collect()
    }

    /// A link for `key` is here now.
    pub(super) fn settle(&mut self, key: &PeerKey) {
        if self.has_any() {
            self.homes().insert(key.clone(), self.core);
        }
    }

    /// The link for `key` is here no more.
    pub(super) fn leave(&mut self, key: &PeerKey) {
        if self.has_any() {
            let mut homes = self.homes();
            if homes.get(key) == Some(&self.core) {
                homes.remove(key);
            }
        }
    }

    /// Passes a check on, when the peer that sent it from `from` is with another core. Says whether it is.
    pub(super) fn pass_check(
        &mut self,
        key: &PeerKey,
        from: SocketAddr,
        to: Option<IpAddr>,
        bytes: &[u8],
    ) -> bool {
        if !self.has_any() {
            return false;
        }
        let home = self.homes().get(key).copied().filter(|home| *home != self.core);
        match home {
            Some(home) => {
                if self.elsewhere.len() >= ELSEWHERE_MAX {
                    self.elsewhere.clear();
                }
                self.elsewhere.insert(from, home);
                self.send(home, from, to, bytes);
            }
            None => {
                self.elsewhere.remove(&from);
            }
        }
        home.is_some()
    }

    /// Passes a datagram on whose sender's check was passed on. Says whether it was.
    pub(super) fn pass(&self, from: SocketAddr, to: Option<IpAddr>, bytes: &[u8]) -> bool {
        match self.elsewhere.get(&from) {
            Some(home) => {
                self.send(*home, from, to, bytes);
                true
            }
            None => false,
        }
    }

    /// The next datagram that another core has passed on to this one. Cancel-safe.
    pub(super) async fn recv(&mut self) -> Option<Stray> {
        self.strays.recv().await
    }

    pub(super) fn try_recv(&mut self) -> Option<Stray> {
        self.strays.try_recv().ok()
    }

    fn has_any(&self) -> bool {
        self.rings.len() > 1
    }

    fn send(&self, home: usize, from: SocketAddr, to: Option<IpAddr>, bytes: &[u8]) {
        if let Some(ring) = self.rings.get(home) {
            // Full: as if lost.
            let _ = ring.try_send(Stray { from, to, bytes: bytes.to_vec() });
        }
    }

    fn homes(&self) -> MutexGuard<'_, HashMap<PeerKey, usize>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> PeerKey {
        PeerKey { ufrag: "abcd".into(), tie_breaker: n }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_peer_whose_address_changed_is_passed_on_to_its_core() {
        let mut cores = Neighbours::new(2);
        let (mut second, mut first) = (cores.pop().unwrap(), cores.pop().unwrap());
        first.settle(&key(1));
        assert!(!first.pass_check(&key(1), at(1), None, b"check"), "it is here");
        assert!(!second.pass(at(2), None, b"data"), "nothing is known of this address");
        assert!(second.pass_check(&key(1), at(2), None, b"check"));
        assert!(second.pass(at(2), None, b"data"));
        let passed: Vec<_> =
            std::iter::from_fn(|| first.try_recv()).map(|stray| (stray.from, stray.bytes)).collect();
        assert_eq!(passed, [(at(2), b"check".to_vec()), (at(2), b"data".to_vec())]);

        first.leave(&key(1));
        assert!(!second.pass_check(&key(1), at(2), None, b"check"), "nobody's now: this core may have it");
        assert!(!second.pass(at(2), None, b"data"));
    }

    #[test]
    fn a_ring_that_is_full_loses_and_does_not_grow() {
        let mut cores = Neighbours::new(2);
        let (mut second, mut first) = (cores.pop().unwrap(), cores.pop().unwrap());
        first.settle(&key(1));
        for port in 1..2 * u16::try_from(RING_DATAGRAMS).unwrap() {
            second.pass_check(&key(1), at(port), None, b"check");
        }
        assert_eq!(std::iter::from_fn(|| first.try_recv()).count(), RING_DATAGRAMS);
        assert!(second.elsewhere.len() <= ELSEWHERE_MAX);
    }
}
