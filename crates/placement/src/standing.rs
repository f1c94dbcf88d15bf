//! What viewers say of their edges, and how far they are believed.
//!
//! A viewer is believed about itself ([`Watch`]): an edge that fails it is replaced where there is another, and avoided
//! for a while; one that sent something wrong, for good. One viewer
//! may lie, though, or have a bad line. So an edge falls in everybody's eyes ([`Standing`]) only when several
//! subscribers complain of it, and what was said is forgotten with time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millstream_model::{EdgeId, WallTime};

/// An edge from which nothing came for this long fails its viewer: two attempts to connect have ended by then.
pub const SILENT_MS: u64 = 9_000;

/// Reports that must agree on it, so that a single late one decides nothing.
const SILENT_REPORTS: u8 = 3;

/// How long an edge is avoided that was silent. A viewer whose network was to blame tries it again after that.
pub const AVOID_MS: u64 = 10 * 60_000;

/// Edges that one viewer has replaced at most, those avoided no more left out: each costs a reserve, and a viewer that
/// nobody reaches must not try them all.
pub const FAILED_MAX: usize = 8;

/// How long a complaint counts.
pub const COMPLAINT_MS: u64 = 10 * 60_000;

/// Subscribers that must complain before it counts: one or two may lie, or share a bad line.
pub const COMPLAINTS_MIN: usize = 3;

/// Above this many nothing changes any more; bounds what is kept per edge.
const COMPLAINTS_MAX: usize = 32;

/// Of this many viewers one must complain: of many, some have a bad line.
const VIEWERS_PER_COMPLAINT: u32 = 10;

/// What a viewer says of one of its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The edge.
    pub edge: EdgeId,
    /// Bytes that came from it since the session began.
    pub received: u64,
    /// Pieces of it that did not verify.
    pub bad: u32,
    /// Data channels to it are open.
    pub ready: bool,
}

/// An edge that fails a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The edge.
    pub edge: EdgeId,
    /// It sent something wrong; else it was silent.
    pub bad: bool,
    /// It is to be held against the edge. Silence is only where another edge reaches the same viewer: its line works.
    pub counts: bool,
}

/// How the edges of one viewer fare.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    origin: u64,
    edges: Vec<Watched>,
    /// Edges that failed, and until when they are avoided; `None` for good.
    failed: Vec<(EdgeId, Option<WallTime>)>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    edge: EdgeId,
    received: u64,
    /// Since when it is silent, and in how many reports.
    silent: Option<(WallTime, u8)>,
}

impl Watch {
    /// Takes a report about the edges that the viewer has: those of them that fail it. `origin` counts the bytes that
    /// came from the origin since the session began.
    pub fn report(&mut self, has: &[EdgeId], said: &[Delivery], origin: u64, now: WallTime) -> Vec<Failure> {
        self.edges.retain(|watched| has.contains(&watched.edge));
        for edge in has {
            if self.edges.iter().all(|watched| watched.edge != *edge) {
                self.edges.push(Watched { edge: *edge, received: 0, silent: None });
            }
        }
        let from_origin = origin > self.origin;
        self.origin = origin;
        let said_of = |edge: EdgeId| said.iter().find(|said| said.edge == edge);
        let delivering: Vec<EdgeId> = self
            .edges
            .iter()
            .filter(|watched| said_of(watched.edge).is_some_and(|said| said.received > watched.received))
            .map(|watched| watched.edge)
            .collect();
        let mut failures = Vec::new();
        for watched in &mut self.edges {
            let Some(said) = said_of(watched.edge) else { continue };
            watched.received = said.received;
            let by_others = delivering.iter().any(|other| *other != watched.edge);
            // An edge that stands by sends nothing, and is well. One that is not reached is not, when something else is;
            // nor are all of them when only the origin delivers.
            let is_well = delivering.contains(&watched.edge) || (said.ready && by_others);
            if is_well {
                watched.silent = None;
            } else if by_others || from_origin {
                let (since, reports) = watched.silent.unwrap_or((now, 0));
                watched.silent = Some((since, reports.saturating_add(1)));
            }
            let is_silent = watched.silent.is_some_and(|(since, reports)| {
                reports >= SILENT_REPORTS && now.millis_since(since) >= SILENT_MS
            });
            if said.bad > 0 || is_silent {
                let bad = said.bad > 0;
                failures.push(Failure { edge: watched.edge, bad, counts: bad || by_others });
            }
        }
        self.failed.retain(|(_, until)| until.is_none_or(|until| now < until));
        failures.retain(|failure| self.remember(failure, now));
        failures
    }

    /// `false` when there is nothing new in it.
    fn remember(&mut self, failure: &Failure, now: WallTime) -> bool {
        let until = (!failure.bad).then(|| now.plus_millis(AVOID_MS));
        let is_full = self.failed.len() >= FAILED_MAX;
        match self.failed.iter_mut().find(|(edge, _)| *edge == failure.edge) {
            Some((_, known)) if failure.bad && known.is_some() => *known = None,
            Some(_) => return false,
            None if is_full => return false,
            None => self.failed.push((failure.edge, until)),
        }
        true
    }

    /// The edges that others are better than for this viewer.
    #[must_use]
    pub fn avoid(&self, now: WallTime) -> Vec<EdgeId> {
        let still = self.failed.iter().filter(|(_, until)| until.is_none_or(|until| now < until));
        still.map(|(edge, _)| *edge).collect()
    }

    /// Those among them that none is better than: they sent something wrong.
    #[must_use]
    pub fn barred(&self) -> Vec<EdgeId> {
        self.failed.iter().filter(|(_, until)| until.is_none()).map(|(edge, _)| *edge).collect()
    }
}

/// What is held against one edge.
#[derive(Debug, Clone, Default)]
pub struct Standing(Vec<(Subscriber, WallTime)>);

impl Standing {
    /// Notes a complaint. A subscriber that complains again is one that complains.
    pub fn complain(&mut self, by: Subscriber, now: WallTime) {
        self.0.retain(|(other, at)| *other != by && now.millis_since(*at) < COMPLAINT_MS);
        if self.0.len() < COMPLAINTS_MAX {
            self.0.push((by, now));
        }
    }

    /// Whether so many complain that others had better be chosen. `viewers` are those that it has.
    #[must_use]
    pub fn is_suspect(&self, viewers: u32, now: WallTime) -> bool {
        let share = usize::try_from(viewers / VIEWERS_PER_COMPLAINT).unwrap_or(usize::MAX);
        self.complaints(now) >= share.clamp(COMPLAINTS_MIN, COMPLAINTS_MAX)
    }

    /// Subscribers whose complaint still counts.
    #[must_use]
    pub fn complaints(&self, now: WallTime) -> usize {
        self.0.iter().filter(|(_, at)| now.millis_since(*at) < COMPLAINT_MS).count()
    }
}

/// Somebody who can be counted once: a network as it is given out, because addresses within one cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subscriber(IpAddr);

impl Subscriber {
    /// The network of an address: an IPv4 /24, an IPv6 /48.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Ipv4Addr::new(a, b, c, 0).into()
            }
            IpAddr::V6(address) => {
                let mut octets = address.octets();
                octets[6..].fill(0);
                Ipv6Addr::from(octets).into()
            }
        })
    }
}
