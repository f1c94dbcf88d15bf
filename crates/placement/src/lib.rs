//! The tracker's mind: which edges for this viewer.
//!
//! For the tracker, at every join and whenever an edge is lost. What never belongs here: who is connected, what was
//! promised (the caller tells), a clock, chance (the key makes the choice unpredictable and repeatable).
//!
//! Three wishes pull at a placement. A stream on *few edges*, because each takes its feed from the origin once.
//! *Load* below every edge's bound. And *two operators*, so that no one can black out a viewer. So:
//!
//! 1. Edges that cannot serve are left out: draining, full, too dear, named in [`Request::avoid`].
//! 2. The rest stand in one order per stream: those of good standing ([`standing`]) first, with room before crowded, near before far, warm before cold, and then
//!    by rendezvous hashing (Thaler and Ravishankar 1998), keyed, so that nobody can make a device key that ranks
//!    high on a stream it wants.
//! 3. Of the first [`WIDTH`] with as much room and as near as the first, two are drawn for the session and the less loaded is taken (Mitzenmacher's power of two
//!    choices). The standby is drawn in the same way among those of other operators; beside an edge behind NAT, which
//!    not every viewer reaches, among public ones.
#![forbid(unsafe_code)]

pub mod standing;

use std::{cmp::Reverse, hash::Hasher as _, sync::Arc};

use millstream_model::{BitRate, EdgeId, Price, SessionId, StreamId};
use siphasher::sip::SipHasher13;

/// Edges that a session's draw is made among. Three of them share a stream while all have room; more would warm more
/// edges for nothing, fewer would leave no choice when two are of one operator.
pub const WIDTH: usize = 3;

/// An edge loaded over this part of its capacity, in percent, is crowded: it gets a viewer only where nobody else has
/// room. What is left above takes over the viewers of an edge that dies.
pub const CROWDED_PERCENT: u64 = 75;

/// Up to this round trip an edge is near: half a part of 250 ms is on its way after it.
const NEAR_RTT_MS: u32 = 50;

/// From this round trip on an edge is far: a lost piece costs most of a part's deadline.
const FAR_RTT_MS: u32 = 150;

/// The tracker's secret that makes its choices unpredictable. The same key, the same choices.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 16]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Where somebody is, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Whereabouts {
    /// ISO 3166-1 alpha-2, in capitals.
    pub country: Option<[u8; 2]>,
    /// Number of the autonomous system.
    pub asn: Option<u32>,
}

/// An edge that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The edge.
    pub edge: EdgeId,
    /// Who runs it.
    pub operator: Arc<str>,
    /// What it may send, all viewers together.
    pub capacity: BitRate,
    /// What it sends or was promised to send, whichever is more.
    pub load: BitRate,
    /// Viewers that have it as primary or standby.
    pub viewers: u32,
    /// Viewers it takes at most.
    pub viewers_max: u32,
    /// It has the stream's feed.
    pub warm: bool,
    /// It wants no new viewers.
    pub draining: bool,
    /// It is reached only by viewers whose own NAT lets it: a viewer that can have another edge has one beside it.
    pub behind_nat: bool,
    /// Several subscribers complain of it ([`standing::Standing::is_suspect`]): it gets a viewer only where there is
    /// nobody else.
    pub suspect: bool,
    /// It does not work for less.
    pub price_min: Price,
    /// Measured from the viewer's network.
    pub rtt_ms: Option<u32>,
    /// Where it is.
    pub whereabouts: Whereabouts,
}

/// A viewer that wants edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The session.
    pub session: SessionId,
    /// What it will take from its primary at most.
    pub rate: BitRate,
    /// What the stream pays.
    pub price: Price,
    /// Where the viewer is.
    pub whereabouts: Whereabouts,
    /// Edges not to be chosen: those that failed this viewer.
    pub avoid: &'a [EdgeId],
}

/// The edges for a viewer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placement {
    /// Pushes pieces. `None` when no edge can.
    pub primary: Option<EdgeId>,
    /// Stands by. Of another operator than the primary where there is one.
    pub standby: Option<EdgeId>,
}

/// Chooses a primary and a standby.
#[must_use]
pub fn place(request: &Request<'_>, candidates: &[Candidate], key: Key) -> Placement {
    let ranked = rank(request, candidates, key);
    let Some(primary) = draw(request.session, &ranked, WIDTH, key) else { return Placement::default() };
    let standby = draw_beside(request.session, &ranked, Kept::of(primary), key);
    Placement { primary: Some(primary.edge), standby: standby.map(|standby| standby.edge) }
}

/// Chooses one more edge for a viewer that keeps `kept`, of another operator than `operator` where there is one.
#[must_use]
pub fn place_beside(
    request: &Request<'_>,
    kept: EdgeId,
    operator: &str,
    candidates: &[Candidate],
    key: Key,
) -> Option<EdgeId> {
    let ranked = rank(request, candidates, key);
    let known = candidates.iter().find(|candidate| candidate.edge == kept);
    let kept = Kept { edge: kept, operator, behind_nat: known.is_some_and(|known| known.behind_nat) };
    draw_beside(request.session, &ranked, kept, key).map(|chosen| chosen.edge)
}

/// The edge that a session has already.
#[derive(Clone, Copy)]
struct Kept<'a> {
    edge: EdgeId,
    operator: &'a str,
    behind_nat: bool,
}

impl<'a> Kept<'a> {
    fn of(candidate: &'a Candidate) -> Self {
        Self { edge: candidate.edge, operator: &candidate.operator, behind_nat: candidate.behind_nat }
    }
}

/// A candidate in the stream's order. One of a higher class is chosen only where there is none of a lower.
#[derive(Clone, Copy)]
struct Ranked<'a> {
    /// Whether it is suspect, whether it is crowded, and its distance.
    class: (bool, bool, u8),
    candidate: &'a Candidate,
}

/// The candidates that can serve, in the order in which the stream uses them.
fn rank<'a>(request: &Request<'_>, candidates: &'a [Candidate], key: Key) -> Vec<Ranked<'a>> {
    let mut ranked: Vec<_> = candidates
        .iter()
        .filter(|candidate| can_serve(candidate, request))
        .map(|candidate| {
            let crowded = load_permille(candidate, request.rate) > CROWDED_PERCENT * 10;
            let class = (candidate.suspect, crowded, distance(candidate, request));
            let hash = rendezvous(key, request.stream.as_str().as_bytes(), candidate.edge);
            ((class, !candidate.warm, Reverse(hash), candidate.edge), Ranked { class, candidate })
        })
        .collect();
    ranked.sort_unstable_by_key(|(order, _)| *order);
    ranked.into_iter().map(|(_, ranked)| ranked).collect()
}

fn can_serve(candidate: &Candidate, request: &Request<'_>) -> bool {
    !candidate.draining
        && candidate.viewers < candidate.viewers_max
        && candidate.price_min <= request.price
        && candidate.load.0.saturating_add(request.rate.0) <= candidate.capacity.0
        && !request.avoid.contains(&candidate.edge)
}

/// Two of the first `width` of the best class, drawn by the session; of these the less loaded.
fn draw<'a>(session: SessionId, ranked: &[Ranked<'a>], width: usize, key: Key) -> Option<&'a Candidate> {
    let best = ranked.first()?.class;
    let mut pool: Vec<_> = ranked
        .iter()
        .take_while(|ranked| ranked.class == best)
        .take(width)
        .map(|ranked| ranked.candidate)
        .collect();
    // Rendezvous again, not an index: an edge that comes or goes changes the draw of its own sessions alone.
    pool.sort_by_key(|candidate| Reverse(rendezvous(key, session.as_bytes(), candidate.edge)));
    pool.into_iter().take(2).min_by_key(|candidate| load_permille(candidate, BitRate(0)))
}

fn draw_beside<'a>(
    session: SessionId,
    ranked: &[Ranked<'a>],
    kept: Kept<'_>,
    key: Key,
) -> Option<&'a Candidate> {
    let mut others: Vec<_> =
        ranked.iter().filter(|other| other.candidate.edge != kept.edge).copied().collect();
    let is_sure = |other: &Ranked<'_>| !other.candidate.behind_nat && !other.candidate.suspect;
    if kept.behind_nat && others.iter().any(is_sure) {
        others.retain(is_sure);
    }
    let elsewhere: Vec<_> =
        others.iter().filter(|other| *other.candidate.operator != *kept.operator).copied().collect();
    // One of the first is taken already; a pair does not warm more edges than a primary.
    draw(session, if elsewhere.is_empty() { &others } else { &elsewhere }, WIDTH - 1, key)
}

/// How much of the capacity is used when `more` is added, in thousandths. Over everything when there is none.
fn load_permille(candidate: &Candidate, more: BitRate) -> u64 {
    let load = u128::from(candidate.load.0) + u128::from(more.0);
    match u128::from(candidate.capacity.0) {
        0 => u64::MAX,
        capacity => u64::try_from(load * 1_000 / capacity).unwrap_or(u64::MAX),
    }
}

/// 0 near, 1 between or not known, 2 far. A measured round trip is believed before any map.
fn distance(candidate: &Candidate, request: &Request<'_>) -> u8 {
    let same = |one: Option<u32>, other: Option<u32>| one.is_some() && one == other;
    let (edge, viewer) = (candidate.whereabouts, request.whereabouts);
    match candidate.rtt_ms {
        Some(0..=NEAR_RTT_MS) => 0,
        Some(FAR_RTT_MS..) => 2,
        None if same(edge.asn, viewer.asn) => 0,
        None if edge.country.is_some() && edge.country == viewer.country => 0,
        Some(_) | None => 1,
    }
}

fn rendezvous(key: Key, what: &[u8], edge: EdgeId) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&key.0);
    hasher.write_u64(what.len() as u64);
    hasher.write(what);
    hasher.write(edge.as_bytes());
    hasher.finish()
}
