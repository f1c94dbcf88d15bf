//! Whom to check, and when, until somebody answers (RFC 8445 §6.1.4): all addresses of the edge in turn, the best first.
//! Pure: it reads no clock and sends nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::address::is_same;

/// Between two checks, whomever they are for: Ta (RFC 8445 §14.2).
const PACE: Duration = Duration::from_millis(50);

/// First wait for the answer to a check; doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_millis(800);

/// Addresses in it at most: those that the edge is known by, and as many where its checks came from.
pub(super) const PATHS_MAX: usize = 2 * super::SOCKETS_MAX;

pub(super) struct Checklist {
    paths: Vec<Path>,
    /// No check before.
    paced: Instant,
}

struct Path {
    to: SocketAddr,
    due: Instant,
    wait: Duration,
}

impl Checklist {
    /// Of an edge that is known by `sockets`, best first.
    pub(super) fn new(sockets: &[SocketAddr], now: Instant) -> Self {
        let paths = sockets.iter().map(|to| Path { to: *to, due: now, wait: WAIT_MIN }).collect();
        Self { paths, paced: now }
    }

    /// When [`Self::poll`] has somebody to be checked.
    pub(super) fn next(&self) -> Option<Instant> {
        self.paths.iter().map(|path| path.due.max(self.paced)).min()
    }

    /// Who is to be checked now, if anybody.
    pub(super) fn poll(&mut self, now: Instant) -> Option<SocketAddr> {
        let path = self.paths.iter_mut().min_by_key(|path| path.due)?;
        if path.due > now || self.paced > now {
            return None;
        }
        path.due = now + path.wait;
        path.wait = (path.wait * 2).min(WAIT_MAX);
        self.paced = now + PACE;
        Some(path.to)
    }

    /// The edge's own check came from there: it has opened its NAT just now (RFC 8445 §7.3.1.4).
    pub(super) fn shown(&mut self, from: SocketAddr, now: Instant) {
        let at = self.paths.iter().position(|path| is_same(path.to, from));
        if at.is_none() && self.paths.len() >= PATHS_MAX {
            return;
        }
        let path = at.map(|at| self.paths.remove(at));
        let to = path.map_or(from, |path| path.to);
        // Before those that are due already.
        let due = self.paths.iter().map(|path| path.due).chain([now]).min().unwrap_or(now);
        self.paths.insert(0, Path { to, due, wait: WAIT_MIN });
    }

    /// Whether anybody is checked there.
    pub(super) fn holds(&self, address: SocketAddr) -> bool {
        self.paths.iter().any(|path| is_same(path.to, address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// Whom it checks in `time`, and how many milliseconds after `began`.
    fn checks(list: &mut Checklist, began: Instant, from: u64, until: u64) -> Vec<(u64, u16)> {
        let mut now = began + Duration::from_millis(from);
        let mut checks = Vec::new();
        while now < began + Duration::from_millis(until) {
            while let Some(to) = list.poll(now) {
                checks.push((u64::try_from((now - began).as_millis()).unwrap(), to.port()));
            }
            let next = list.next().unwrap();
            assert!(next > now, "it would spin");
            now = next;
        }
        checks
    }

    #[test]
    fn one_address_is_checked_less_and_less_often() {
        let began = Instant::now();
        let mut list = Checklist::new(&[at(1)], began);
        let checked: Vec<u64> = checks(&mut list, began, 0, 4_000).into_iter().map(|(ms, _)| ms).collect();
        assert_eq!(checked, [0, 50, 150, 350, 750, 1_550, 2_350, 3_150, 3_950]);
    }

    #[test]
    fn all_addresses_are_checked_the_best_first_and_none_within_50_ms_of_another() {
        let began = Instant::now();
        let mut list = Checklist::new(&[at(1), at(2), at(3)], began);
        let checked = checks(&mut list, began, 0, 10_000);
        assert_eq!(checked[..4], [(0, 1), (50, 2), (100, 3), (150, 1)]);
        assert!(checked.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 50), "{checked:?}");
        for port in 1..=3 {
            let count = checked.iter().filter(|(_, to)| *to == port).count();
            assert!((12..20).contains(&count), "{count} checks of {port}");
        }
    }

    #[test]
    fn where_the_edges_own_check_comes_from_is_next() {
        let began = Instant::now();
        let mut list = Checklist::new(&[at(1), at(2)], began);
        let _ = checks(&mut list, began, 0, 3_000);
        for port in [7, 2] {
            let now = list.next().unwrap();
            list.shown(at(port), now);
            assert_eq!(list.poll(now), Some(at(port)));
            assert_eq!(list.next(), Some(now + PACE), "and again soon");
        }
        assert!(list.holds(at(7)) && !list.holds(at(8)));
    }

    #[test]
    fn it_takes_no_more_than_it_has_room_for() {
        let now = Instant::now();
        let mut list = Checklist::new(&[at(1)], now);
        (2..1_000).for_each(|port| list.shown(at(port), now));
        assert_eq!(list.paths.len(), PATHS_MAX);
        assert!(list.holds(at(1)));
    }
}
