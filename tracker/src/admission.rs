//! How much one address may have of open streams, where nobody signs a ticket.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use millstream_model::WallTime;

use crate::config::Admission as Limits;

/// Addresses remembered at most; when full, those without a session go first.
const ADDRESSES_MAX: usize = 200_000;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Milliseconds of a minute.
const MINUTE_MS: u64 = 60_000;

/// Counts sessions and joins by address.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    day: u64,
    addresses: HashMap<IpAddr, Usage>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    sessions: u32,
    joins_today: u32,
    /// Joins in a bucket that drains by the minute's rate, in parts of [`MINUTE_MS`]; as of `at`.
    level: u64,
    at: WallTime,
}

/// Why an address may not join (again) now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0} sessions are open from this address; close one first")]
    Sessions(u32),
    #[error("too many joins from this address; try again in {0} s")]
    Rate(u64),
    #[error("this address joined {0} times today; come back tomorrow")]
    Joins(u32),
    #[error("too many addresses at once; try again in a minute")]
    Full,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, day: 0, addresses: HashMap::new() }
    }

    /// Counts a join; the session has to be given back with [`Admission::leave`].
    pub(crate) fn join(&mut self, address: IpAddr, now: WallTime) -> Result<(), Refused> {
        let sessions_max = self.limits.sessions_per_address;
        let usage = self.usage(address, now)?;
        if usage.sessions >= sessions_max {
            return Err(Refused::Sessions(usage.sessions));
        }
        self.pass(address, now)?;
        self.usage(address, now)?.sessions += 1;
        Ok(())
    }

    /// Counts a join of which nothing is heard again: one by plain HTTP.
    pub(crate) fn pass(&mut self, address: IpAddr, now: WallTime) -> Result<(), Refused> {
        let joins_max = self.limits.joins_per_day;
        let per_minute = u64::from(self.limits.joins_per_minute.max(1));
        // As many may come at once as may watch at once.
        let burst = u64::from(self.limits.sessions_per_address.max(1)).saturating_mul(MINUTE_MS);
        let usage = self.usage(address, now)?;
        let drained = now.millis_since(usage.at).saturating_mul(per_minute);
        usage.at = usage.at.max(now);
        usage.level = usage.level.saturating_sub(drained);
        let over = usage.level.saturating_add(MINUTE_MS).saturating_sub(burst);
        if over > 0 {
            return Err(Refused::Rate(over.div_ceil(per_minute).div_ceil(1_000)));
        }
        if usage.joins_today >= joins_max {
            return Err(Refused::Joins(usage.joins_today));
        }
        usage.joins_today += 1;
        usage.level += MINUTE_MS;
        Ok(())
    }

    /// Counts a session that was admitted before: its certificate is proof of that.
    pub(crate) fn resume(&mut self, address: IpAddr, now: WallTime) -> Result<(), Refused> {
        let sessions_max = self.limits.sessions_per_address;
        let usage = self.usage(address, now)?;
        if usage.sessions >= sessions_max {
            return Err(Refused::Sessions(usage.sessions));
        }
        usage.sessions += 1;
        Ok(())
    }

    /// What an address has today.
    fn usage(&mut self, address: IpAddr, now: WallTime) -> Result<&mut Usage, Refused> {
        let today = now.0 / DAY_MS;
        if today != self.day {
            self.day = today;
            self.addresses.retain(|_, usage| usage.sessions > 0);
            self.addresses.values_mut().for_each(|usage| usage.joins_today = 0);
        }
        let prefix = prefix(address);
        if !self.addresses.contains_key(&prefix) && self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.retain(|_, usage| usage.sessions > 0);
            if self.addresses.len() >= ADDRESSES_MAX {
                return Err(Refused::Full);
            }
        }
        Ok(self.addresses.entry(prefix).or_default())
    }

    /// A session of this address is over.
    pub(crate) fn leave(&mut self, address: IpAddr) {
        if let Some(usage) = self.addresses.get_mut(&prefix(address)) {
            usage.sessions = usage.sessions.saturating_sub(1);
        }
    }
}

/// What one subscriber holds: an IPv4 address, or an IPv6 /56 (RFC 6177, section 2).
fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[7..].fill(0);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(sessions: u32, joins: u32) -> Admission {
        Admission::new(Limits { sessions_per_address: sessions, joins_per_day: joins, ..Limits::default() })
    }

    #[test]
    fn sessions_are_counted_by_subscriber() {
        let mut admission = admission(1, 10);
        let (one, same) = ("2001:db8::1".parse().unwrap(), "2001:db8:0:ff::2".parse().unwrap());
        assert_eq!(admission.join(one, WallTime(0)), Ok(()));
        assert_eq!(admission.join(same, WallTime(0)), Err(Refused::Sessions(1)));
        assert_eq!(admission.join("2001:db8:0:100::1".parse().unwrap(), WallTime(0)), Ok(()));
        admission.leave(same);
        assert_eq!(admission.join(one, WallTime(MINUTE_MS)), Ok(()));
    }

    #[test]
    fn a_pass_is_counted_as_a_join_and_opens_no_session() {
        let mut admission = admission(2, 2);
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(admission.pass(address, WallTime(0)), Ok(()));
        assert_eq!(admission.join(address, WallTime(0)), Ok(()));
        assert_eq!(admission.pass(address, WallTime(MINUTE_MS)), Err(Refused::Joins(2)));
    }

    #[test]
    fn joining_and_leaving_in_a_loop_is_slowed_down() {
        let limits = Limits { sessions_per_address: 4, joins_per_minute: 60, ..Limits::default() };
        let mut admission = Admission::new(limits);
        let address = "192.0.2.1".parse().unwrap();
        let mut joined = 0;
        for ms in 0..60_000 {
            if admission.join(address, WallTime(ms)) == Ok(()) {
                admission.leave(address);
                joined += 1;
            }
        }
        assert_eq!(joined, 4 + 59, "a burst of all who may watch at once, then one a second");
        assert_eq!(admission.join(address, WallTime(59_999)), Err(Refused::Rate(1)));
        assert_eq!(admission.resume(address, WallTime(59_999)), Ok(()), "who was here may come back");
        assert_eq!(admission.join("192.0.2.2".parse().unwrap(), WallTime(59_999)), Ok(()));
    }

    #[test]
    fn joins_are_counted_by_day() {
        let mut admission = admission(100, 2);
        let address = "192.0.2.1".parse().unwrap();
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(admission.join(address, WallTime(0)), Ok(()));
        assert_eq!(admission.join(mapped, WallTime(0)), Ok(()));
        assert_eq!(admission.join(address, WallTime(1)), Err(Refused::Joins(2)));
        assert_eq!(admission.join(address, WallTime(DAY_MS)), Ok(()));
    }
}
