//! How many may be connected, and how many of them without a good key.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All seats there are.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    shared: Arc<Shared>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    /// The address it waits under; `None` once it was admitted.
    waiting: Option<IpAddr>,
}

/// Which limit leaves no seat, by the name of its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full(pub(super) &'static str);

/// How many seats there are; the settings of these names say why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    pub(super) waiting_max: usize,
    pub(super) waiting_per_address_max: usize,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    connections: usize,
    waiting: usize,
    /// Only addresses with somebody waiting, so no more than `waiting_max`.
    by_address: HashMap<IpAddr, usize>,
}

impl Seats {
    pub(super) fn new(limits: Limits) -> Self {
        Self { shared: Arc::new(Shared { limits, taken: Mutex::default() }) }
    }

    /// A seat for a connection from `address` whose key is not known yet.
    pub(super) fn take(&self, address: IpAddr) -> Result<Seat, Full> {
        let network = network(address);
        let mut taken = self.taken();
        let here = taken.by_address.get(&network).copied().unwrap_or(0);
        if taken.connections >= self.shared.limits.connections_max {
            return Err(Full("connections_max"));
        }
        if taken.waiting >= self.shared.limits.waiting_max {
            return Err(Full("waiting_max"));
        }
        if here >= self.shared.limits.waiting_per_address_max {
            return Err(Full("waiting_per_address_max"));
        }
        taken.connections += 1;
        taken.waiting += 1;
        taken.by_address.insert(network, here + 1);
        Ok(Seat { seats: self.clone(), waiting: Some(network) })
    }

    /// Connections, and those of them that wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        let taken = self.taken();
        (taken.connections, taken.waiting)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Its key was good: it waits no more.
    pub(super) fn admitted(&mut self) {
        let Some(network) = self.waiting.take() else { return };
        let mut taken = self.seats.taken();
        taken.waiting -= 1;
        if let Some(here) = taken.by_address.get_mut(&network) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&network);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.admitted();
        self.seats.taken().connections -= 1;
    }
}

/// What one host can easily have many of counts as one: an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats() -> Seats {
        Seats::new(Limits { connections_max: 4, waiting_max: 3, waiting_per_address_max: 2 })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_keep_others_out() {
        let seats = seats();
        let _first = seats.take(address("2001:db8::1")).unwrap();
        let second = seats.take(address("2001:db8::2")).unwrap();
        let full = seats.take(address("2001:db8::ffff:3")).unwrap_err();
        assert_eq!(full, Full("waiting_per_address_max"));
        let _other = seats.take(address("192.0.2.1")).unwrap();
        assert_eq!(seats.take(address("192.0.2.2")).unwrap_err(), Full("waiting_max"));
        drop(second);
        assert!(seats.take(address("::ffff:192.0.2.1")).is_ok());
    }

    #[test]
    fn whoever_is_admitted_makes_room_for_others_to_wait_and_all_is_given_back() {
        let seats = seats();
        let mut publishers = Vec::new();
        for _ in 0..4 {
            let mut seat = seats.take(address("192.0.2.1")).unwrap();
            seat.admitted();
            seat.admitted();
            publishers.push(seat);
        }
        assert_eq!(seats.take(address("192.0.2.1")).unwrap_err(), Full("connections_max"));
        assert_eq!(seats.counts(), (4, 0));
        publishers.clear();
        assert_eq!(seats.counts(), (0, 0));
        assert!(seats.taken().by_address.is_empty());
    }
}
