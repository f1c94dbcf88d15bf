//! An association without SCTP: what a controller is told by a sender that does everything else as it should.
//!
//! Acknowledgements name packets, losses are found as RACK does (a quarter of a round trip of patience), delivery
//! rates are sampled as draft-ietf-ccwg-bbr §4.1.1 says, and packets leave in batches of a millisecond at most.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

use millstream_model::Instant;
use millstream_netsim::{Packet, Sender};
use millstream_sctp::congestion::{Acknowledged, Controller, Lost, Rate, Sent};

/// Bytes of DATA chunks in a packet, and what IP, UDP, DTLS and SCTP add to them.
pub(crate) const CHUNK_BYTES: u64 = 1_160;
pub(crate) const WIRE_BYTES: u64 = 1_240;

const BATCH: Duration = Duration::from_millis(1);
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
const MILLION: u64 = 1_000_000;

/// What there is to send.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Supply {
    /// Without end.
    Endless,
    /// So many packets each so often.
    Bursts { packets: u64, each: Duration },
}

/// What can be seen of a sender from outside, while it is at work.
#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    /// Packets acknowledged.
    pub(crate) delivered: u64,
    /// Packets taken for lost.
    pub(crate) lost: u64,
    pub(crate) timeouts: u64,
    /// How long each burst took until its last packet was acknowledged, in microseconds.
    pub(crate) bursts: Vec<u32>,
    /// Bursts begun.
    pub(crate) begun: u64,
    /// Window and pace each 10 ms.
    pub(crate) trace: Vec<(Instant, u64, u64, u64)>,
}

struct Flight {
    sent: Instant,
    burst: u64,
    is_again: bool,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    in_flight: u64,
    lost: u64,
    is_app_limited: bool,
}

struct Burst {
    begun: Instant,
    unsent: u64,
    missing: u64,
}

pub(crate) struct Association {
    controller: Box<dyn Controller>,
    supply: Supply,
    log: Rc<RefCell<Log>>,
    flights: VecDeque<Option<Flight>>,
    first: u64,
    in_flight: u64,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    lost: u64,
    app_limited_until: u64,
    again: VecDeque<u64>,
    bursts: VecDeque<Burst>,
    bursts_gone: u64,
    newest: Option<(Instant, u64)>,
    latest_round_trip: Duration,
    smoothed: Option<(Duration, Duration)>,
    shortest: Duration,
    reorder_at: Option<Instant>,
    timeout_at: Option<Instant>,
    is_probed: bool,
    must_probe: bool,
    pace_at: Instant,
    is_resting: bool,
    traced: Instant,
}

impl Association {
    pub(crate) fn new(controller: impl Controller + 'static, supply: Supply) -> (Self, Rc<RefCell<Log>>) {
        let log = Rc::new(RefCell::new(Log::default()));
        let association = Self {
            controller: Box::new(controller),
            supply,
            log: Rc::clone(&log),
            flights: VecDeque::new(),
            first: 0,
            in_flight: 0,
            delivered: 0,
            delivered_at: Instant(0),
            first_sent: Instant(0),
            lost: 0,
            app_limited_until: 0,
            again: VecDeque::new(),
            bursts: VecDeque::new(),
            bursts_gone: 0,
            newest: None,
            latest_round_trip: Duration::ZERO,
            smoothed: None,
            shortest: Duration::MAX,
            reorder_at: None,
            timeout_at: None,
            is_probed: false,
            must_probe: false,
            pace_at: Instant(0),
            is_resting: false,
            traced: Instant(0),
        };
        (association, log)
    }

    fn next_id(&self) -> u64 {
        self.first + self.flights.len() as u64
    }

    fn refill(&mut self, now: Instant) {
        let Supply::Bursts { packets, each } = self.supply else { return };
        while Instant(0) + each * u32::try_from(self.log.borrow().begun).unwrap() <= now {
            let begun = Instant(0) + each * u32::try_from(self.log.borrow().begun).unwrap();
            self.bursts.push_back(Burst { begun, unsent: packets, missing: packets });
            self.log.borrow_mut().begun += 1;
        }
    }

    /// The burst that the next packet is of, and whether it goes again.
    fn next_of(&mut self) -> Option<(u64, bool)> {
        if let Some(burst) = self.again.pop_front() {
            return Some((burst, true));
        }
        match self.supply {
            Supply::Endless => Some((0, false)),
            Supply::Bursts { .. } => {
                let index = self.bursts.iter().position(|burst| burst.unsent > 0)?;
                self.bursts[index].unsent -= 1;
                Some((self.bursts_gone + index as u64, false))
            }
        }
    }

    fn timeout(&self) -> Duration {
        let (smoothed, spread) =
            self.smoothed.unwrap_or((Duration::from_millis(250), Duration::from_millis(125)));
        if self.is_probed { (smoothed + 4 * spread).max(TIMEOUT_MIN) } else { 2 * smoothed + BATCH }
    }

    fn lose(&mut self, now: Instant, ids: &[u64]) {
        let mut newest: Option<Flight> = None;
        for &id in ids {
            let index = usize::try_from(id - self.first).unwrap();
            let flight = self.flights[index].take().unwrap();
            self.in_flight -= CHUNK_BYTES;
            self.lost += CHUNK_BYTES;
            self.again.push_back(flight.burst);
            self.log.borrow_mut().lost += 1;
            newest = Some(flight);
        }
        let Some(newest) = newest else { return };
        self.controller.lost(&Lost {
            now,
            bytes: ids.len() as u64 * CHUNK_BYTES,
            newest_sent: newest.sent,
            in_flight_then: newest.in_flight,
            lost_since: self.lost - newest.lost,
            in_flight: self.in_flight,
        });
    }

    fn find_losses(&mut self, now: Instant) {
        self.reorder_at = None;
        while matches!(self.flights.front(), Some(None)) {
            self.flights.pop_front();
            self.first += 1;
        }
        let Some((newest_sent, newest)) = self.newest else { return };
        let patience = self.latest_round_trip + self.shortest / 4;
        let mut lost = Vec::new();
        for (flight, id) in self.flights.iter().zip(self.first..) {
            let Some(flight) = flight else { continue };
            if id >= newest || flight.sent > newest_sent {
                break;
            }
            let at = flight.sent + patience;
            if at > now {
                self.reorder_at = Some(at);
                break;
            }
            lost.push(id);
        }
        self.lose(now, &lost);
    }

    fn time_out(&mut self, now: Instant) {
        if !self.is_probed {
            self.is_probed = true;
            self.must_probe = true;
            self.timeout_at = Some(now + self.timeout());
            return;
        }
        self.log.borrow_mut().timeouts += 1;
        for flight in std::mem::take(&mut self.flights).into_iter() {
            self.first += 1;
            let Some(flight) = flight else { continue };
            self.in_flight -= CHUNK_BYTES;
            self.lost += CHUNK_BYTES;
            self.again.push_back(flight.burst);
        }
        self.controller.timed_out(now);
        self.timeout_at = None;
        self.is_resting = false;
    }
}

impl Sender for Association {
    fn poll(&mut self, now: Instant) -> Option<Packet> {
        if self.traced + Duration::from_millis(10) <= now {
            self.traced = now;
            let pace = self.controller.pace().unwrap_or(0);
            let round_trip = u64::try_from(self.latest_round_trip.as_micros()).unwrap();
            self.log.borrow_mut().trace.push((now, self.controller.window(), pace, round_trip));
        }
        self.refill(now);
        if self.reorder_at.is_some_and(|at| at <= now) {
            self.find_losses(now);
        }
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.time_out(now);
        }
        if self.is_resting && self.pace_at <= now {
            self.is_resting = false;
        }
        let is_let = self.in_flight + CHUNK_BYTES <= self.controller.window() && !self.is_resting;
        if !is_let && !self.must_probe {
            return None;
        }
        let Some((burst, is_again)) = self.next_of() else {
            self.app_limited_until = (self.delivered + self.in_flight).max(1);
            self.must_probe = false;
            return None;
        };
        self.must_probe = false;
        if self.in_flight == 0 {
            self.first_sent = now;
            self.delivered_at = now;
        }
        if let Some(pace) = self.controller.pace() {
            let micros = CHUNK_BYTES * MILLION / pace.max(1);
            self.pace_at = self.pace_at.max(now - BATCH) + Duration::from_micros(micros);
            self.is_resting = self.pace_at > now + BATCH;
        }
        self.in_flight += CHUNK_BYTES;
        let id = self.next_id();
        self.flights.push_back(Some(Flight {
            sent: now,
            burst,
            is_again,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            in_flight: self.in_flight,
            lost: self.lost,
            is_app_limited: self.app_limited_until > self.delivered,
        }));
        self.controller.sent(&Sent { now, bytes: CHUNK_BYTES, in_flight: self.in_flight });
        let timeout = self.timeout();
        self.timeout_at.get_or_insert(now + timeout);
        Some(Packet { id, bytes: WIRE_BYTES })
    }

    fn wake(&self) -> Option<Instant> {
        if self.next_id() == 0 {
            return Some(Instant(0));
        }
        let rested = (self.is_resting && self.in_flight + CHUNK_BYTES <= self.controller.window())
            .then_some(self.pace_at);
        let supplied = match self.supply {
            Supply::Endless => None,
            Supply::Bursts { each, .. } => {
                Some(Instant(0) + each * u32::try_from(self.log.borrow().begun).unwrap())
            }
        };
        [rested, supplied, self.reorder_at, self.timeout_at].into_iter().flatten().min()
    }

    fn acknowledged(&mut self, now: Instant, ids: &[u64]) {
        let in_flight_before = self.in_flight;
        let mut bytes = 0;
        let mut sample: Option<Flight> = None;
        let mut round_trip = None;
        for &id in ids {
            let Some(index) = id.checked_sub(self.first) else { continue };
            let Some(flight) = self.flights.get_mut(usize::try_from(index).unwrap()).and_then(Option::take)
            else {
                continue;
            };
            self.in_flight -= CHUNK_BYTES;
            bytes += CHUNK_BYTES;
            self.log.borrow_mut().delivered += 1;
            self.newest = self.newest.max(Some((flight.sent, id)));
            self.latest_round_trip = now.since(flight.sent);
            self.shortest = self.shortest.min(self.latest_round_trip);
            self.smoothed = Some(match self.smoothed {
                None => (self.latest_round_trip, self.latest_round_trip / 2),
                Some((smoothed, spread)) => (
                    (smoothed * 7 + self.latest_round_trip) / 8,
                    (spread * 3 + smoothed.abs_diff(self.latest_round_trip)) / 4,
                ),
            });
            if !flight.is_again {
                round_trip = Some(self.latest_round_trip);
            }
            if let Supply::Bursts { .. } = self.supply {
                let index = usize::try_from(flight.burst - self.bursts_gone).unwrap();
                self.bursts[index].missing -= 1;
                if self.bursts[index].missing == 0 {
                    let took = u32::try_from(now.since(self.bursts[index].begun).as_micros()).unwrap();
                    self.log.borrow_mut().bursts.push(took);
                }
            }
            sample = Some(flight);
        }
        while self.bursts.front().is_some_and(|burst| burst.missing == 0) {
            self.bursts.pop_front();
            self.bursts_gone += 1;
        }
        let Some(flight) = sample else { return };
        self.delivered += bytes;
        self.delivered_at = now;
        self.first_sent = flight.sent;
        let interval = flight.sent.since(flight.first_sent).max(now.since(flight.delivered_at));
        let rate = (interval >= self.shortest && interval > Duration::ZERO).then(|| Rate {
            delivered: self.delivered - flight.delivered,
            interval,
            delivered_before: flight.delivered,
            lost: self.lost - flight.lost,
            in_flight: flight.in_flight,
            is_app_limited: flight.is_app_limited,
        });
        self.is_probed = false;
        self.timeout_at = None;
        self.find_losses(now);
        self.controller.acknowledged(&Acknowledged {
            now,
            bytes,
            delivered: self.delivered,
            in_flight_before,
            in_flight: self.in_flight,
            round_trip,
            rate,
        });
        if self.in_flight > 0 {
            self.timeout_at = Some(now + self.timeout());
        }
    }
}
