//! How a listener behind NAT is reached: it asks where it is seen, and sends checks towards viewers that have said where
//! they are, which makes its NAT let theirs in. All of it leaves from the listener's own port.
//!
//! One core carries the schedule out; answers and checks come to any of them. Nobody waits for the lock unless something
//! is under way.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    CANDIDATES_MAX, Candidates, PASSWORD_CHARS, UFRAG_CHARS,
    address::is_ice_text,
    stun::{self, Check, TransactionId},
};

mod schedule;

use schedule::{Output, Schedule};

/// When a query leaves, after it was asked for: RFC 8489 §6.2.1 with a first wait of 100 ms, for servers are near.
pub(crate) const QUERY_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1_500),
];

/// A server that has not answered by then is away.
pub(crate) const QUERY_LIFE: Duration = Duration::from_secs(3);

/// PRIORITY of our checks: a peer-reflexive candidate's (RFC 8445 §5.1.2.1), for that is what they make.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// Reaches out from a listener's port. Clones are handles to the same; it outlives its listener to no effect.
#[derive(Clone)]
pub struct Traversal {
    shared: Arc<Shared>,
}

/// How an attempt to reach a viewer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Its own check has come in.
    Reached,
    /// It has not, in eight seconds.
    Silent,
    /// It has said more of where it is, which goes on in its place.
    Replaced,
    /// There were too many, and this was the oldest.
    GaveWay,
    /// The listener is no more.
    Closed,
}

/// Why nothing is sent, or nothing was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Error {
    /// User name fragment or password are not what ICE allows.
    #[error("not ICE credentials: 4 to 256 and 22 to 256 of A-Z a-z 0-9 + / would be right")]
    Credentials,
    /// None, or more than [`CANDIDATES_MAX`].
    #[error("{0} candidates; 1 to {CANDIDATES_MAX} would be right")]
    Count(usize),
    /// Nobody can be there.
    #[error("{0} is no address of a viewer")]
    Candidate(SocketAddr),
    /// The listener's socket is for the other family.
    #[error("{0} cannot be reached from this socket: it is for the other of IPv4 and IPv6")]
    Family(SocketAddr),
    /// Too many queries at once.
    #[error("too many queries are under way")]
    Busy,
    /// The server has not answered for three seconds.
    #[error("no answer from {0} in time")]
    Unanswered(SocketAddr),
    /// The listener is no more.
    #[error("the listener is closed")]
    Closed,
}

impl Traversal {
    /// Where `server` sees the listener's port come from: the address that its NAT gives it. Asks five times in 1.5 s
    /// and gives up after 3 s. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the server does not answer, cannot be asked from this port, or 16 queries are under way.
    pub async fn mapped(&self, server: SocketAddr) -> Result<SocketAddr, Error> {
        let to = self.shared.own_family(server).ok_or(Error::Family(server))?;
        let mut transaction = TransactionId::default();
        getrandom::fill(&mut transaction).map_err(|_| Error::Busy)?;
        let answer = {
            let mut state = self.shared.open_state().ok_or(Error::Closed)?;
            if !state.schedule.ask(transaction, to, Instant::now()) {
                return Err(Error::Busy);
            }
            let (answer, answered) = oneshot::channel();
            state.queries.insert(transaction, answer);
            answered
        };
        let _query = UnderWay { shared: &self.shared, transaction };
        self.shared.wake();
        answer.await.map_err(|_| match self.shared.open_state() {
            Some(_) => Error::Unanswered(server),
            None => Error::Closed,
        })
    }

    /// Sends checks to where a viewer says that it is, for 8 s, until its own has come in. `session` names who says so,
    /// which must be vouched for: it has one attempt at a time, and what it says later replaces what it said before. At
    /// most 256 are tried at once, where the oldest gives way, and 200 checks leave in a second. The future tells how it
    /// ended; dropping it changes nothing.
    ///
    /// # Errors
    ///
    /// When what it says cannot be right: a viewer's word is believed in nothing.
    pub fn reach(
        &self,
        session: &str,
        viewer: Candidates,
    ) -> Result<impl Future<Output = Outcome> + use<>, Error> {
        let viewer = self.shared.check(viewer)?;
        let mut state = self.shared.open_state().ok_or(Error::Closed)?;
        state.made += 1;
        let (end, ended) = oneshot::channel();
        let id = state.made;
        state.reaches.insert(id, end);
        state.schedule.reach(id, session, viewer, Instant::now());
        drop(state);
        self.shared.wake();
        Ok(async { ended.await.unwrap_or(Outcome::Closed) })
    }
}

impl fmt::Debug for Traversal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traversal").finish_non_exhaustive()
    }
}

/// A query that is forgotten when nobody waits for it any more.
struct UnderWay<'a> {
    shared: &'a Shared,
    transaction: TransactionId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.schedule.forget(&self.transaction);
        state.queries.remove(&self.transaction);
        self.shared.note(&state);
    }
}

struct Shared {
    ufrag: String,
    tie_breaker: u64,
    is_ipv6: bool,
    /// Something is under way: only then a datagram is worth the lock.
    is_busy: AtomicBool,
    state: Mutex<State>,
    wake: mpsc::Sender<()>,
}

struct State {
    schedule: Schedule,
    queries: HashMap<TransactionId, oneshot::Sender<SocketAddr>>,
    reaches: HashMap<u64, oneshot::Sender<Outcome>>,
    made: u64,
    is_closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_state(&self) -> Option<MutexGuard<'_, State>> {
        Some(self.state()).filter(|state| !state.is_closed)
    }

    fn note(&self, state: &State) {
        self.is_busy.store(!state.schedule.is_idle(), Ordering::Relaxed);
    }

    fn wake(&self) {
        self.is_busy.store(true, Ordering::Relaxed);
        // Full: it wakes already.
        let _ = self.wake.try_send(());
    }

    /// `address` as our socket must be told it; none when it cannot get there.
    fn own_family(&self, address: SocketAddr) -> Option<SocketAddr> {
        match (address.ip().to_canonical(), self.is_ipv6) {
            (IpAddr::V4(ip), true) => Some(SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())),
            (IpAddr::V6(_), false) => None,
            (ip, _) => Some(SocketAddr::new(ip, address.port())),
        }
    }

    fn check(&self, mut viewer: Candidates) -> Result<Candidates, Error> {
        if !is_ice_text(&viewer.ufrag, &UFRAG_CHARS) || !is_ice_text(&viewer.password, &PASSWORD_CHARS) {
            return Err(Error::Credentials);
        }
        if !(1..=CANDIDATES_MAX).contains(&viewer.candidates.len()) {
            return Err(Error::Count(viewer.candidates.len()));
        }
        if let Some(candidate) = viewer.candidates.iter().find(|candidate| !is_usable(**candidate)) {
            return Err(Error::Candidate(*candidate));
        }
        let first = viewer.candidates.first().copied();
        let mut candidates: Vec<_> =
            viewer.candidates.into_iter().filter_map(|candidate| self.own_family(candidate)).collect();
        let mut seen = std::collections::HashSet::new();
        candidates.retain(|candidate| seen.insert(*candidate));
        viewer.candidates = candidates;
        match first.filter(|_| viewer.candidates.is_empty()) {
            Some(first) => Err(Error::Family(first)),
            None => Ok(viewer),
        }
    }
}

/// Whether a viewer can be there. One in the edge's own network can, and on its own machine.
fn is_usable(candidate: SocketAddr) -> bool {
    let is_somebodys = match candidate.ip().to_canonical() {
        IpAddr::V4(ip) => !(ip.is_broadcast() || ip.is_documentation() || ip.octets()[0] == 0),
        IpAddr::V6(ip) => !(ip.segments()[..2] == [0x2001, 0xdb8] || ip.is_unspecified()),
    };
    is_somebodys && !candidate.ip().to_canonical().is_multicast() && candidate.port() > 0
}

/// A core's end of it.
pub(super) struct Carrier {
    shared: Arc<Shared>,
    /// For the one that carries the schedule out.
    woken: Option<mpsc::Receiver<()>>,
    due: Option<Instant>,
}

/// For the listener on `local`, with its user name fragment: a handle, and an end for each of its cores.
pub(super) fn new(
    ufrag: &str,
    local: SocketAddr,
    tie_breaker: u64,
    cores: usize,
) -> (Traversal, impl Iterator<Item = Carrier> + use<>) {
    let (wake, woken) = mpsc::channel(1);
    let state = State {
        schedule: Schedule::new(Instant::now()),
        queries: HashMap::new(),
        reaches: HashMap::new(),
        made: 0,
        is_closed: false,
    };
    let shared = Arc::new(Shared {
        ufrag: ufrag.to_owned(),
        tie_breaker,
        is_ipv6: local.is_ipv6(),
        is_busy: AtomicBool::new(false),
        state: Mutex::new(state),
        wake,
    });
    let traversal = Traversal { shared: Arc::clone(&shared) };
    let wakes = std::iter::once(Some(woken)).chain(std::iter::repeat_with(|| None));
    let carriers =
        wakes.take(cores).map(move |woken| Carrier { shared: Arc::clone(&shared), woken, due: None });
    (traversal, carriers)
}

impl Carrier {
    /// When [`Self::take_due`] is to be called.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Resolves when something was asked for. Cancel-safe.
    pub(super) async fn woken(&mut self) {
        match &mut self.woken {
            Some(woken) => {
                // It never ends: we hold a sender.
                woken.recv().await;
                self.due = Some(Instant::now());
            }
            None => std::future::pending().await,
        }
    }

    /// An authentic check of the viewer `ufrag` has come in, to this core.
    pub(super) fn heard(&self, ufrag: &str) {
        if self.shared.is_busy.load(Ordering::Relaxed) {
            let is_reached = self.shared.state().schedule.heard(ufrag);
            if is_reached {
                self.shared.wake();
            }
        }
    }

    /// An answer to a request without credentials has come in, to this core.
    pub(super) fn answered(&self, answer: &stun::Message<'_>, from: SocketAddr) {
        if !self.shared.is_busy.load(Ordering::Relaxed) {
            return;
        }
        let Some(mapped) = answer.mapped else { return };
        let mut state = self.shared.state();
        if state.schedule.answered(&answer.transaction, from)
            && let Some(waits) = state.queries.remove(&answer.transaction)
        {
            let _ = waits.send(mapped);
        }
    }

    /// Has `send` send what is due.
    pub(super) fn take_due(&mut self, now: Instant, mut send: impl FnMut(SocketAddr, &[u8])) {
        // While there is much else to do, nobody may have waited for it.
        let is_woken = self.woken.as_mut().is_some_and(|woken| woken.try_recv().is_ok());
        if !is_woken && self.due.is_none_or(|due| due > now) {
            return;
        }
        let shared = &self.shared;
        let mut state = shared.state();
        while let Some(output) = state.schedule.poll(now) {
            match output {
                Output::Query { transaction, to } => send(to, &stun::binding_request(transaction)),
                Output::Unanswered(transaction) => drop(state.queries.remove(&transaction)),
                Output::Check { to, viewer } => {
                    let mut transaction = TransactionId::default();
                    if getrandom::fill(&mut transaction).is_ok() {
                        let check = Check {
                            transaction,
                            their_ufrag: &viewer.ufrag,
                            our_ufrag: &shared.ufrag,
                            priority: PRIORITY,
                            tie_breaker: shared.tie_breaker,
                            use_candidate: false,
                        };
                        send(to, &stun::controlled_request(&check, &viewer.password));
                    }
                }
                Output::Ended { id, outcome } => {
                    if let Some(waits) = state.reaches.remove(&id) {
                        // Nobody has to wait for it.
                        let _ = waits.send(outcome);
                    }
                }
            }
        }
        self.due = state.schedule.next(now);
        shared.note(&state);
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if self.woken.is_some() {
            let mut state = self.shared.state();
            state.is_closed = true;
            state.queries.clear();
            state.reaches.clear();
        }
    }
}
