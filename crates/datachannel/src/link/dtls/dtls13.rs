//! An open connection of DTLS 1.3 (RFC 9147): what is left to do when the handshake is through and its engine is gone.
//!
//! ```text
//! epoch 2  the client repeats its last flight until it is acknowledged; the server acknowledges each repetition
//! epoch 3… application data, both ways; KeyUpdate, ACK, alerts
//! ```
//!
//! The receiver of a KeyUpdate opens the next epoch at once and the one before for a while; its sender goes on in the old
//! one until the KeyUpdate is acknowledged, and repeats it until then (§8). Time comes as an argument.

use std::time::{Duration, Instant};

use super::{Arrived, CLOSE_NOTIFY, Ended, SealError, WARNING};
use crate::link::records::{self, ACK, ALERT, APPLICATION_DATA, HANDSHAKE};

mod flight;
pub(super) mod keys;
pub(super) mod messages;
pub(super) mod record;

pub(super) use flight::Flight;
use keys::Secret;
use messages::{RecordNumber, Said};
use record::{Opened, Opener, Place, Sealer};

/// The epoch in which the client's certificate and Finished come.
pub(super) const HANDSHAKE_EPOCH: u64 = 2;
/// The first epoch of application data.
pub(super) const APPLICATION_EPOCH: u64 = 3;

/// Not an end (RFC 8446 §6.1).
const USER_CANCELED: u8 = 90;

/// Records sealed before new keys are asked for: half of what a key may seal at most, and that leaves room for a
/// KeyUpdate which is lost again and again.
pub(super) const UPDATE_AFTER: u64 = 1 << 23;

/// Records of a new epoch after which the one before is forgotten: its peer has our ACK since the first of them, and what
/// is still on its way has been overtaken by as many as our window remembers.
pub(super) const OVERTAKEN_MAX: u32 = 960;

/// Wait for the ACK of a KeyUpdate before it leaves again, doubled each time up to its bound.
const UPDATE_INTERVAL: Duration = Duration::from_millis(500);
/// See [`UPDATE_INTERVAL`].
const UPDATE_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// Records of one KeyUpdate of which an ACK is known: its last repetitions.
const UPDATE_RECORDS_MAX: usize = 8;

/// For so long the server acknowledges repetitions of the client's last flight: twice the longest life of a segment
/// (RFC 9147 §5.8.1, RFC 9293 §3.4.1).
const REPETITIONS_FOR: Duration = Duration::from_secs(240);

/// An open connection.
pub(super) struct Open {
    sealer: Sealer,
    opener: Opener,
    /// Of the present epochs: ours, the peer's.
    secrets: [Secret; 2],
    /// The peer's epoch before, and how many records of the present one have come.
    previous: Option<(Box<Opener>, u32)>,
    /// The end of the handshake, until nobody can ask for it.
    rest: Rest,
    /// The number of our next handshake message.
    message: u16,
    update: Option<Box<Update>>,
    /// Records after which our keys are changed.
    update_after: u64,
    is_server: bool,
}

/// What a side has still to do of the handshake.
pub(super) enum Rest {
    Nothing,
    /// The client's: its last flight is not acknowledged.
    Flight(Box<Flight>),
    /// The server's: the client may repeat its last flight.
    Repetitions(Box<Repetitions>),
}

/// What tells an authentic repetition of the client's last flight.
pub(super) struct Repetitions {
    /// The client's secret of the handshake.
    pub(super) secret: Secret,
    /// A bit for each of the first record numbers of its epoch that has been seen. An honest client's flight is at most
    /// some records, at most some times.
    seen: u64,
    until: Instant,
}

impl Repetitions {
    /// Of a flight whose records in `ack` have been seen.
    pub(super) fn new(secret: Secret, ack: &[u8], now: Instant) -> Self {
        let of_handshake = messages::read_ack(ack).filter(|(epoch, _)| *epoch == HANDSHAKE_EPOCH);
        let seen = of_handshake.fold(0, |seen, (_, number)| seen | bit(number).unwrap_or(0));
        Self { secret, seen, until: now + REPETITIONS_FOR }
    }

    /// The number of a record that is the client's and new. `opener` is made when it is needed first: it is rare, and
    /// large, and costs more than a forgery does.
    fn open(&mut self, record: &mut [u8], opener: &mut Option<Opener>) -> Option<u64> {
        if opener.is_none() {
            *opener = Some(Opener::new(self.secret.key()?, HANDSHAKE_EPOCH));
        }
        let Opened { number, kind, .. } = opener.as_mut()?.open(record)?;
        let bit = bit(number).filter(|bit| self.seen & bit == 0 && kind == HANDSHAKE)?;
        self.seen |= bit;
        Some(number)
    }
}

fn bit(number: u64) -> Option<u64> {
    u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number))
}

/// A KeyUpdate of ours that is not acknowledged.
struct Update {
    message: u16,
    /// Where it was sent, the newest last.
    numbers: Vec<u64>,
    due: Instant,
    interval: Duration,
}

/// What a connection begins with.
pub(super) struct Start {
    /// Ours, in the first epoch of application data.
    pub(super) sealer: Sealer,
    /// Of the first epoch of application data: ours, the peer's.
    pub(super) secrets: [Secret; 2],
    pub(super) rest: Rest,
    pub(super) message: u16,
    pub(super) is_server: bool,
    pub(super) update_after: u64,
}

impl Open {
    /// None when the cryptography fails, which nobody can bring about.
    pub(super) fn new(start: Start) -> Option<Self> {
        let Start { sealer, secrets, rest, message, is_server, update_after } = start;
        let opener = Opener::new(secrets[1].key()?, APPLICATION_EPOCH);
        Some(Self {
            sealer,
            opener,
            secrets,
            previous: None,
            rest,
            message,
            update: None,
            update_after,
            is_server,
        })
    }

    /// Takes the records of a datagram. What must be acknowledged is, once for all of them.
    pub(super) fn take(
        &mut self,
        datagram: &mut [u8],
        now: Instant,
        plaintext: &mut dyn FnMut(&mut [u8]),
        pending: &mut Vec<Vec<u8>>,
    ) -> Arrived {
        let mut arrived = Arrived::default();
        let mut acknowledged = Vec::new();
        let mut of_handshake = None;
        for record in records::each_mut(datagram) {
            let Some(first) = record.first() else { continue };
            if !records::is_sealed(*first) {
                continue;
            }
            let (is_present, opener) = match &mut self.previous {
                _ if self.opener.is_of(record) => (true, &mut self.opener),
                Some((previous, _)) if previous.is_of(record) => (false, &mut **previous),
                _ => {
                    let number = self.repetition(record, now, &mut of_handshake);
                    arrived.is_authentic |= number.is_some();
                    acknowledged.extend(number.map(|number| (HANDSHAKE_EPOCH, number)));
                    continue;
                }
            };
            let epoch = opener.epoch;
            let Some(Opened { number, kind, body }) = opener.open(record) else {
                if opener.is_worn() {
                    arrived.ended = Some(Ended::Misbehaviour("too many forged records"));
                    break;
                }
                continue;
            };
            arrived.is_authentic = true;
            match kind {
                APPLICATION_DATA => plaintext(body),
                ACK => self.acknowledge(body, now),
                ALERT if body.get(1).is_none_or(|what| *what == USER_CANCELED) => {}
                ALERT => {
                    arrived.ended = Some(Ended::Peer);
                    break;
                }
                HANDSHAKE => match messages::read(body) {
                    Said::Tickets if !self.is_server => acknowledged.push((epoch, number)),
                    Said::KeyUpdate { is_requested } => {
                        acknowledged.push((epoch, number));
                        // One of the epoch before is a repetition.
                        if is_present && self.receive_anew().is_none() {
                            arrived.ended = Some(Ended::Misbehaviour("no keys"));
                        }
                        if is_present && is_requested {
                            pending.extend(self.update(now));
                        }
                    }
                    _ => {
                        arrived.ended =
                            Some(Ended::Misbehaviour("a message that has no place after a handshake"));
                        break;
                    }
                },
                // Of no kind that we know.
                _ => {}
            }
            if is_present {
                self.forget_previous();
            }
        }
        if !acknowledged.is_empty() {
            pending.extend(self.ack(&acknowledged));
        }
        pending.extend(self.wear(now));
        arrived
    }

    pub(super) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<bool, SealError> {
        self.sealer.seal(APPLICATION_DATA, Place::Last, out, write)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let flight = match &self.rest {
            Rest::Flight(flight) => Some(flight.due()),
            _ => None,
        };
        let update = self.update.as_ref().map(|update| update.due);
        [flight, update].into_iter().flatten().min()
    }

    /// Does what is due at `now`: sends again what nobody has acknowledged.
    pub(super) fn handle_timeout(&mut self, now: Instant, pending: &mut Vec<Vec<u8>>) {
        if let Rest::Flight(flight) = &mut self.rest
            && flight.due() <= now
        {
            match flight.repeat(now) {
                Some(datagrams) => pending.extend(datagrams),
                // Whoever never heard of it never answers either: the handshake's limit or silence ends that.
                None => self.rest = Rest::Nothing,
            }
        }
        if self.update.as_ref().is_some_and(|update| update.due <= now) {
            pending.extend(self.send_update(now));
        }
        pending.extend(self.wear(now));
    }

    /// close_notify, also in answer to the peer's.
    pub(super) fn farewell(&mut self) -> Option<Vec<u8>> {
        self.say(ALERT, |out| out.extend([WARNING, CLOSE_NOTIFY]))
    }

    /// An ACK of these records.
    fn ack(&mut self, numbers: &[RecordNumber]) -> Option<Vec<u8>> {
        self.say(ACK, |out| messages::write_ack(numbers, out))
    }

    fn say(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
        let mut datagram = Vec::new();
        self.sealer.seal(kind, Place::Last, &mut datagram, write).ok()?;
        Some(datagram)
    }

    /// The number of a record of the handshake's epoch, if it repeats the client's last flight.
    fn repetition(&mut self, record: &mut [u8], now: Instant, opener: &mut Option<Opener>) -> Option<u64> {
        let Rest::Repetitions(repetitions) = &mut self.rest else { return None };
        if now > repetitions.until {
            self.rest = Rest::Nothing;
            return None;
        }
        repetitions.open(record, opener)
    }

    /// The peer has these records of ours.
    fn acknowledge(&mut self, ack: &[u8], now: Instant) {
        for (epoch, number) in messages::read_ack(ack) {
            if let Rest::Flight(flight) = &mut self.rest
                && epoch == HANDSHAKE_EPOCH
                && flight.acknowledge(number, now)
            {
                self.rest = Rest::Nothing;
            }
            let is_update = self.update.as_ref().is_some_and(|update| update.numbers.contains(&number));
            if is_update && epoch == self.sealer.epoch {
                self.update = None;
                self.send_anew();
            }
        }
    }

    /// Goes on in our next epoch.
    fn send_anew(&mut self) -> Option<()> {
        let secret = self.secrets[0].next();
        self.sealer = Sealer::new(secret.key()?, self.sealer.epoch + 1, 0);
        self.secrets[0] = secret;
        Some(())
    }

    /// The peer goes on in its next epoch. Of the handshake, which would have the same low bits some epochs later, it
    /// has nothing to repeat by now.
    fn receive_anew(&mut self) -> Option<()> {
        let secret = self.secrets[1].next();
        let opener = Opener::new(secret.key()?, self.opener.epoch + 1);
        let previous = std::mem::replace(&mut self.opener, opener);
        self.secrets[1] = secret;
        self.previous = Some((Box::new(previous), 0));
        if self.opener.epoch > APPLICATION_EPOCH + 1 {
            self.rest = Rest::Nothing;
        }
        Some(())
    }

    /// Counts a record of the present epoch.
    fn forget_previous(&mut self) {
        if let Some((_, overtaken)) = &mut self.previous {
            *overtaken += 1;
            if *overtaken > OVERTAKEN_MAX {
                self.previous = None;
            }
        }
    }

    /// Changes our keys when they have sealed enough.
    fn wear(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.sealer.next >= self.update_after { self.update(now) } else { None }
    }

    /// Begins to change our keys, unless that is under way.
    fn update(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.update.is_some() {
            return None;
        }
        let numbers = Vec::with_capacity(UPDATE_RECORDS_MAX);
        self.update =
            Some(Box::new(Update { message: self.message, numbers, due: now, interval: UPDATE_INTERVAL }));
        self.message = self.message.wrapping_add(1);
        self.send_update(now)
    }

    fn send_update(&mut self, now: Instant) -> Option<Vec<u8>> {
        let update = self.update.as_mut()?;
        if update.numbers.len() >= UPDATE_RECORDS_MAX {
            update.numbers.remove(0);
        }
        update.numbers.push(self.sealer.next);
        update.due = now + update.interval;
        update.interval = (update.interval * 2).min(UPDATE_INTERVAL_MAX);
        let message = messages::key_update(update.message);
        self.say(HANDSHAKE, |out| out.extend_from_slice(&message))
    }

    /// Our epoch and the peer's.
    #[cfg(test)]
    pub(super) const fn epochs(&self) -> [u64; 2] {
        [self.sealer.epoch, self.opener.epoch]
    }

    /// To say what we would not.
    #[cfg(test)]
    pub(super) const fn sealer(&mut self) -> &mut Sealer {
        &mut self.sealer
    }

    #[cfg(test)]
    pub(super) fn update_now(&mut self, now: Instant, pending: &mut Vec<Vec<u8>>) {
        pending.extend(self.update(now));
    }
}
