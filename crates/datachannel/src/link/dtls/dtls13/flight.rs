//! The client's last flight: certificate, signature and Finished, which it repeats until the server has acknowledged
//! them (RFC 9147 §7.3). Nothing of it is needed after that.

use std::time::{Duration, Instant};

use super::{
    HANDSHAKE_EPOCH,
    keys::Secret,
    record::{Place, Sealer},
};
use crate::link::{
    dtls::{DATAGRAM_BYTES, FLIGHT_INTERVAL},
    records::HANDSHAKE,
};

/// Between two repetitions at most. The client is through and speaks, and all of it waits for this flight.
const INTERVAL_MAX: Duration = Duration::from_secs(2);

/// How often the flight is sent again: for 15 s, as long as anybody waits.
const REPEATS: usize = 8;

/// What a repetition of a flight is made of.
pub(in super::super) struct Flight {
    secret: Secret,
    /// The next record number of the handshake's epoch.
    next: u64,
    /// (A part of) a message each, and whether it is still to be acknowledged.
    parts: Vec<(Vec<u8>, bool)>,
    /// Under which number a part has been sent.
    sent: Vec<(u64, usize)>,
    due: Instant,
    interval: Duration,
    repeats: usize,
}

impl Flight {
    /// Of these parts, which have just left with these record numbers.
    pub(in super::super) fn new(
        secret: Secret,
        records: Vec<(u64, Vec<u8>)>,
        next: u64,
        now: Instant,
    ) -> Self {
        let sent = records.iter().enumerate().map(|(part, (number, _))| (*number, part)).collect();
        let parts = records.into_iter().map(|(_, part)| (part, true)).collect();
        let interval = FLIGHT_INTERVAL;
        Self { secret, next, parts, sent, due: now + interval, interval, repeats: REPEATS }
    }

    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// The server has the record of this number. Says whether it has all.
    pub(super) fn acknowledge(&mut self, number: u64, now: Instant) -> bool {
        let part = self.sent.iter().find(|(sent, _)| *sent == number).map(|(_, part)| *part);
        if let Some((_, is_open)) = part.and_then(|part| self.parts.get_mut(part))
            && std::mem::take(is_open)
        {
            // Some came, so the rest is lost rather than slow.
            self.due = now.max(self.due.min(now + FLIGHT_INTERVAL));
        }
        self.parts.iter().all(|(_, is_open)| !is_open)
    }

    /// What is not acknowledged, as new records; none when that has been often enough.
    pub(super) fn repeat(&mut self, now: Instant) -> Option<Vec<Vec<u8>>> {
        self.repeats = self.repeats.checked_sub(1)?;
        self.interval = (self.interval * 2).min(INTERVAL_MAX);
        self.due = now + self.interval;
        let mut sealer = Sealer::new(self.secret.key()?, HANDSHAKE_EPOCH, self.next);
        let mut datagrams = vec![Vec::new()];
        for (at, (part, _)) in self.parts.iter().enumerate().filter(|(_, (_, is_open))| *is_open) {
            self.sent.push((sealer.next, at));
            let mut record = Vec::new();
            sealer.seal(HANDSHAKE, Place::Before, &mut record, |out| out.extend_from_slice(part)).ok()?;
            match datagrams.last_mut() {
                Some(datagram) if datagram.len() + record.len() <= DATAGRAM_BYTES => {
                    datagram.append(&mut record);
                }
                _ => datagrams.push(record),
            }
        }
        self.next = sealer.next;
        Some(datagrams)
    }
}
