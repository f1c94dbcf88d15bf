//! What a listener sends unasked, and when: queries where it is seen (RFC 8489 §6.2.1), and checks towards viewers that
//! have said where they are (RFC 8445 §7.2.2). Pure: time, transactions and names are arguments.
//!
//! Others say where the checks go, so they are bounded as a whole: an edge must be no use to whoever wants to flood a
//! third party.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Outcome, QUERY_AT, QUERY_LIFE};
use crate::{Candidates, address::is_same, stun::TransactionId};

/// Queries at once. An edge asks two servers every now and then.
const QUERIES_MAX: usize = 16;

/// Waits between the first rounds of checks to one viewer: its own first ones come in this time.
const CHECK_INTERVALS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];

/// … and between the later ones: its browser may still wait for the answer of a server of its own.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A viewer whose checks have not come by then will not come: browsers give a path up after some ten seconds.
const REMOTE_LIFE: Duration = Duration::from_secs(8);

/// Viewers at once: a few times what comes in eight seconds when a show begins.
const REMOTES_MAX: usize = 256;

/// Checks of the whole listener in a second: 25 viewers with all their addresses, and some 25 KB.
const CHECKS_PER_SECOND: u32 = 200;

/// … of which so many may leave at once: five viewers' first rounds.
const CHECKS_AT_ONCE: u32 = 40;

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Send the query.
    Query { transaction: TransactionId, to: SocketAddr },
    /// The server has not answered.
    Unanswered(TransactionId),
    /// Send a check.
    Check { to: SocketAddr, viewer: Arc<Candidates> },
    /// What was to be reached has an end.
    Ended { id: u64, outcome: Outcome },
}

pub(super) struct Schedule {
    queries: Vec<Query>,
    remotes: VecDeque<Remote>,
    outputs: VecDeque<Output>,
    /// Checks that may leave now.
    tokens: u32,
    /// When the newest token came.
    filled: Instant,
}

struct Query {
    transaction: TransactionId,
    to: SocketAddr,
    asked: Instant,
    sent: usize,
}

/// A viewer. Those that were given last are last.
struct Remote {
    id: u64,
    /// Who wants it.
    owner: Box<str>,
    viewer: Arc<Candidates>,
    until: Instant,
    /// When the next round leaves, or should have.
    at: Instant,
    /// Rounds that have left.
    rounds: usize,
    /// Candidates checked in this round.
    checked: usize,
}

impl Schedule {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            queries: Vec::new(),
            remotes: VecDeque::new(),
            outputs: VecDeque::new(),
            tokens: CHECKS_AT_ONCE,
            filled: now,
        }
    }

    /// Asks `to` where we are seen. Says whether there was room.
    #[must_use]
    pub(super) fn ask(&mut self, transaction: TransactionId, to: SocketAddr, now: Instant) -> bool {
        let has_room = self.queries.len() < QUERIES_MAX;
        if has_room {
            self.queries.push(Query { transaction, to, asked: now, sent: 0 });
        }
        has_room
    }

    /// An answer to `transaction` came from `from`. Says whether that is who was asked; it is no more, then.
    #[must_use]
    pub(super) fn answered(&mut self, transaction: &TransactionId, from: SocketAddr) -> bool {
        let asked = |query: &Query| query.transaction == *transaction && is_same(query.to, from);
        let place = self.queries.iter().position(asked);
        place.map(|place| self.queries.swap_remove(place)).is_some()
    }

    /// Nobody waits for this answer any more.
    pub(super) fn forget(&mut self, transaction: &TransactionId) {
        self.queries.retain(|query| query.transaction != *transaction);
    }

    /// Sends checks to `viewer` as `owner` wants, in the place of those that it wanted before, if there are any. The
    /// oldest gives way when there are too many. `id` names this call.
    pub(super) fn reach(&mut self, id: u64, owner: &str, viewer: Candidates, now: Instant) {
        let place = self.remotes.iter().position(|remote| *remote.owner == *owner);
        let before = place.and_then(|place| self.remotes.remove(place));
        if let Some(before) = &before {
            self.outputs.push_back(Output::Ended { id: before.id, outcome: Outcome::Replaced });
        }
        if self.remotes.len() >= REMOTES_MAX
            && let Some(oldest) = self.remotes.pop_front()
        {
            self.outputs.push_back(Output::Ended { id: oldest.id, outcome: Outcome::GaveWay });
        }
        self.remotes.push_back(Remote {
            id,
            owner: owner.into(),
            viewer: Arc::new(viewer),
            until: now + REMOTE_LIFE,
            at: now,
            // What it has had counts: saying something new again and again brings nobody more than a share.
            rounds: before.map_or(0, |before| before.rounds + usize::from(before.checked > 0)),
            checked: 0,
        });
    }

    /// An authentic check of the viewer `ufrag` has come in: it needs none of ours. Says whether it had any.
    pub(super) fn heard(&mut self, ufrag: &str) -> bool {
        let before = self.remotes.len();
        let Self { remotes, outputs, .. } = self;
        remotes.retain(|remote| {
            let is_reached = remote.viewer.ufrag == ufrag;
            if is_reached {
                outputs.push_back(Output::Ended { id: remote.id, outcome: Outcome::Reached });
            }
            !is_reached
        });
        remotes.len() < before
    }

    /// The next thing to do, until there is none.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Output> {
        self.outputs
            .pop_front()
            .or_else(|| self.query(now))
            .or_else(|| self.expire(now))
            .or_else(|| self.check(now))
    }

    /// When there is something to do again.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if !self.outputs.is_empty() {
            return Some(now);
        }
        let queries = self.queries.iter().map(Query::due);
        let ends = self.remotes.iter().map(|remote| remote.until);
        let token = if self.tokens > 0 { None } else { Some(self.filled + token_interval()) };
        let checks = self.remotes.iter().map(|remote| token.map_or(remote.at, |token| remote.at.max(token)));
        queries.chain(ends).chain(checks).min()
    }

    /// Whether anything is under way that a datagram may end.
    pub(super) fn is_idle(&self) -> bool {
        self.queries.is_empty() && self.remotes.is_empty()
    }

    fn query(&mut self, now: Instant) -> Option<Output> {
        let place = self.queries.iter().position(|query| query.due() <= now)?;
        let query = self.queries.get_mut(place)?;
        let (transaction, to) = (query.transaction, query.to);
        if now.saturating_duration_since(query.asked) >= QUERY_LIFE {
            self.queries.swap_remove(place);
            return Some(Output::Unanswered(transaction));
        }
        query.sent += 1;
        Some(Output::Query { transaction, to })
    }

    fn expire(&mut self, now: Instant) -> Option<Output> {
        let place = self.remotes.iter().position(|remote| remote.until <= now)?;
        let remote = self.remotes.remove(place)?;
        Some(Output::Ended { id: remote.id, outcome: Outcome::Silent })
    }

    fn check(&mut self, now: Instant) -> Option<Output> {
        self.fill(now);
        self.tokens = self.tokens.checked_sub(1)?;
        // Whoever has had the fewest: when there are more than may leave, a viewer that has just come is not kept
        // waiting by all those that will never come.
        let due = self.remotes.iter_mut().filter(|remote| remote.at <= now);
        let Some(remote) = due.min_by_key(|remote| (remote.rounds, remote.at)) else {
            self.tokens += 1;
            return None;
        };
        let viewer = Arc::clone(&remote.viewer);
        let to = viewer.candidates.get(remote.checked).copied();
        remote.checked += 1;
        if remote.checked >= viewer.candidates.len() {
            remote.checked = 0;
            remote.at = now + CHECK_INTERVALS.get(remote.rounds).copied().unwrap_or(CHECK_INTERVAL);
            remote.rounds += 1;
        }
        to.map(|to| Output::Check { to, viewer })
    }

    fn fill(&mut self, now: Instant) {
        let interval = token_interval();
        let gained = now.saturating_duration_since(self.filled).as_nanos() / interval.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(gained).min(CHECKS_AT_ONCE);
        self.filled = if self.tokens == CHECKS_AT_ONCE { now } else { self.filled + interval * gained };
    }
}

impl Query {
    fn due(&self) -> Instant {
        self.asked + QUERY_AT.get(self.sent).copied().unwrap_or(QUERY_LIFE)
    }
}

fn token_interval() -> Duration {
    Duration::from_secs(1) / CHECKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 7], port))
    }

    fn viewer(ufrag: impl Into<String>, ports: std::ops::Range<u16>) -> Candidates {
        let password = "VOkJxbRl1RmTxUk/WvJxBt".to_owned();
        Candidates { ufrag: ufrag.into(), password, candidates: ports.map(at).collect() }
    }

    /// Lets time pass as a driver does, from one due time to the next, and notes what is done when.
    fn run(schedule: &mut Schedule, start: Instant, until: Duration) -> Vec<(u64, Output)> {
        let (mut done, mut now) = (Vec::new(), start);
        loop {
            let millis = u64::try_from((now - start).as_millis()).unwrap();
            done.extend(std::iter::from_fn(|| schedule.poll(now)).map(|output| (millis, output)));
            match schedule.next(now) {
                Some(next) if next <= start + until => {
                    assert!(next > now, "it asks to be polled for nothing");
                    now = next;
                }
                _ => return done,
            }
        }
    }

    fn checks(done: &[(u64, Output)]) -> Vec<(u64, u16)> {
        let port = |(at, output): &(u64, Output)| match output {
            Output::Check { to, .. } => Some((*at, to.port())),
            _ => None,
        };
        done.iter().filter_map(port).collect()
    }

    #[test]
    fn a_server_is_asked_five_times_and_given_up() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert!(schedule.is_idle());
        assert!(schedule.ask([1; 12], at(3478), start));
        assert!(!schedule.is_idle());
        let done = run(&mut schedule, start, Duration::from_secs(60));
        let query = || Output::Query { transaction: [1; 12], to: at(3478) };
        let sent = [0, 100, 300, 700, 1_500].map(|millis| (millis, query()));
        let expected: Vec<_> = sent.into_iter().chain([(3_000, Output::Unanswered([1; 12]))]).collect();
        assert_eq!(done, expected);
        assert!(schedule.is_idle());
    }

    #[test]
    fn an_answer_counts_from_who_was_asked_and_once() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert!(schedule.ask([1; 12], at(3478), start));
        assert!(!schedule.answered(&[2; 12], at(3478)), "nobody asked that");
        assert!(!schedule.answered(&[1; 12], at(3479)), "somebody else was asked");
        let mapped = SocketAddr::new("::ffff:198.51.100.7".parse().unwrap(), 3478);
        assert!(schedule.answered(&[1; 12], mapped), "a socket for both families sees it so");
        assert!(!schedule.answered(&[1; 12], at(3478)), "a second time");
        assert_eq!(run(&mut schedule, start, Duration::from_secs(9)), []);
    }

    #[test]
    fn queries_are_bounded_and_can_be_forgotten() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let names: Vec<_> = (0..=u8::try_from(QUERIES_MAX).unwrap()).map(|n| [n; 12]).collect();
        let taken = names.iter().filter(|name| schedule.ask(**name, at(1), start)).count();
        assert_eq!(taken, QUERIES_MAX);
        for name in &names {
            schedule.forget(name);
        }
        assert!(schedule.is_idle() && schedule.next(start).is_none());
    }

    #[test]
    fn a_viewer_is_checked_at_each_address_for_eight_seconds() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.reach(5, "one", viewer("abcd", 1..3), start);
        let done = run(&mut schedule, start, Duration::from_secs(60));
        let rounds = [0, 50, 100, 200, 400].into_iter().chain((900..8_000).step_by(500));
        let expected: Vec<_> = rounds.flat_map(|at| [(at, 1), (at, 2)]).collect();
        assert_eq!(checks(&done), expected);
        assert_eq!(done.last(), Some(&(8_000, Output::Ended { id: 5, outcome: Outcome::Silent })));
        assert!(schedule.is_idle());
    }

    #[test]
    fn its_own_check_ends_ours() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.reach(5, "one", viewer("abcd", 1..2), start);
        assert_eq!(checks(&run(&mut schedule, start, 60 * MS)), [(0, 1), (50, 1)]);
        assert!(!schedule.heard("efgh"));
        assert!(schedule.heard("abcd"));
        assert!(!schedule.heard("abcd") && schedule.is_idle());
        assert_eq!(schedule.next(start), Some(start), "somebody waits to hear of it");
        let ended = Output::Ended { id: 5, outcome: Outcome::Reached };
        assert_eq!(run(&mut schedule, start + 60 * MS, Duration::from_secs(60)), [(0, ended)]);
    }

    #[test]
    fn what_it_says_later_takes_the_place_of_what_it_said_before() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.reach(5, "one", viewer("abcd", 1..2), start);
        assert_eq!(checks(&run(&mut schedule, start, 10 * MS)), [(0, 1)]);
        schedule.reach(6, "one", viewer("abcd", 2..4), start + 20 * MS);
        schedule.reach(7, "other", viewer("abcd", 9..10), start + 20 * MS);
        let done = run(&mut schedule, start + 20 * MS, 60 * MS);
        assert_eq!(done[0].1, Output::Ended { id: 5, outcome: Outcome::Replaced });
        assert_eq!(checks(&done), [(0, 9), (0, 2), (0, 3), (50, 9), (50, 2), (50, 3)]);
        assert!(schedule.heard("abcd"));
        assert!(schedule.is_idle(), "whoever wanted it");
    }

    #[test]
    fn nobody_gets_more_than_a_share_by_saying_something_new_all_the_time() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut late = 0;
        for n in 0..200 {
            let now = start + u32::try_from(n).unwrap() * 10 * MS;
            schedule.reach(n, "restless", viewer(format!("ufrag{n}"), 1..9), now);
            if n % 10 == 0 {
                schedule.reach(1_000 + n, &n.to_string(), viewer(format!("patient{n}"), 100..101), now);
            }
            late += checks(&run(&mut schedule, now, MS)).iter().filter(|(_, port)| *port == 100).count();
        }
        // The first rounds of twenty that came one after another: at once, and four more in 400 ms.
        assert!(late >= 5 * 16, "{late}");
    }

    #[test]
    fn the_oldest_of_too_many_gives_way() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        for n in 0..=u64::try_from(REMOTES_MAX).unwrap() {
            schedule.reach(n, &n.to_string(), viewer(format!("ufrag{n}"), 1..2), start);
        }
        assert_eq!(schedule.remotes.len(), REMOTES_MAX);
        let gave_way = Output::Ended { id: 0, outcome: Outcome::GaveWay };
        assert_eq!(schedule.poll(start), Some(gave_way));
    }

    #[test]
    fn no_more_checks_leave_than_a_listener_may_send() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        for n in 0..u64::try_from(REMOTES_MAX).unwrap() {
            schedule.reach(n, &n.to_string(), viewer(format!("ufrag{n}"), 1..9), start);
        }
        let sent = checks(&run(&mut schedule, start, Duration::from_secs(7)));
        for second in 0..7 {
            let count = sent.iter().filter(|(at, _)| at / 1_000 == second).count();
            let bound = CHECKS_PER_SECOND + if second == 0 { CHECKS_AT_ONCE } else { 1 };
            assert!(count <= usize::try_from(bound).unwrap(), "{count} in second {second}");
            assert!(count >= 199, "{count} in second {second}: it may send more");
        }
    }

    #[test]
    fn who_has_just_come_goes_before_those_that_have_had_their_checks() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        for n in 0..20 {
            schedule.reach(n, &n.to_string(), viewer(format!("ufrag{n}"), 1..9), start);
        }
        run(&mut schedule, start, Duration::from_secs(2));
        let late = start + Duration::from_secs(2);
        schedule.reach(99, "late", viewer("late", 1_000..1_008), late);
        let sent = checks(&run(&mut schedule, late, 60 * MS));
        let first: Vec<_> = sent.iter().take(8).map(|(_, port)| *port).collect();
        assert!(first.into_iter().eq(1_000..1_008), "{sent:?}");
    }
}
