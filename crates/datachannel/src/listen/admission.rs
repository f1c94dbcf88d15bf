//! How fast a network prefix may begin handshakes. Pure: time is an argument.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Prefixes remembered at once. A flood from more is spoofed, and bounded by the handshakes allowed at once; when the
/// table is full it starts anew.
const PREFIXES_MAX: usize = 4_096;

/// One token bucket a prefix: IPv4 /24, IPv6 /48.
pub(super) struct Admission {
    burst: u32,
    per_second: u32,
    buckets: HashMap<IpAddr, Bucket>,
}

struct Bucket {
    tokens: u32,
    /// When the newest token came.
    filled: Instant,
}

impl Admission {
    pub(super) fn new(burst: u32, per_second: u32) -> Self {
        Self { burst: burst.max(1), per_second: per_second.max(1), buckets: HashMap::new() }
    }

    /// Takes a token of the prefix of `ip`, if it has one.
    pub(super) fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        let (burst, interval) = (self.burst, Duration::from_secs(1) / self.per_second);
        let prefix = prefix(ip);
        if self.buckets.len() >= PREFIXES_MAX && !self.buckets.contains_key(&prefix) {
            self.buckets.clear();
        }
        let bucket = self.buckets.entry(prefix).or_insert(Bucket { tokens: burst, filled: now });
        let elapsed = now.saturating_duration_since(bucket.filled);
        let gained = u32::try_from(elapsed.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        bucket.tokens = bucket.tokens.saturating_add(gained).min(burst);
        bucket.filled = if bucket.tokens == burst { now } else { bucket.filled + interval * gained };
        let admitted = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        admitted
    }
}

fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_its_burst_and_then_its_rate() {
        let mut admission = Admission::new(3, 10);
        let start = Instant::now();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let admitted = (0..9).filter(|last| admission.admit(ip(&format!("192.0.2.{last}")), start)).count();
        assert_eq!(admitted, 3);
        assert!(admission.admit(ip("198.51.100.1"), start), "another prefix has a bucket of its own");
        assert!(!admission.admit(ip("::ffff:192.0.2.1"), start), "a mapped address is the same prefix");

        let later = start + Duration::from_millis(250);
        assert_eq!((0..9).filter(|_| admission.admit(ip("192.0.2.1"), later)).count(), 2);
        let much_later = later + Duration::from_secs(60);
        assert_eq!((0..9).filter(|_| admission.admit(ip("192.0.2.1"), much_later)).count(), 3);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut admission = Admission::new(1, 1);
        let now = Instant::now();
        for n in 0..3 * u32::try_from(PREFIXES_MAX).unwrap() {
            admission.admit(IpAddr::from((n << 8).to_be_bytes()), now);
        }
        assert!(admission.buckets.len() <= PREFIXES_MAX);
    }
}
