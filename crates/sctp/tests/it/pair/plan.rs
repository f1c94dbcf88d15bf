//! What happens in a run: everything is drawn from the seed before it begins.

use std::time::Duration;

use millstream_netsim::{Burst, Chance, Reorder, Traits};
use millstream_sctp::{Config, Congestion, Reliability};

const MS: Duration = Duration::from_millis(1);

/// Both sides, both directions, and what happens to them.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) configs: [Config; 2],
    pub(crate) traits: [Traits; 2],
    pub(crate) begins: Begins,
    pub(crate) grain: Duration,
    pub(crate) flows: Vec<Flow>,
    /// Which end leaves its messages unread, from when after the opening, and for how long.
    pub(crate) pauses: Vec<(usize, Duration, Duration)>,
    /// When nothing passes any more either way, and for how long.
    pub(crate) black_out: Option<(Duration, Duration)>,
    /// When longer packets than so many bytes vanish.
    pub(crate) narrowing: Option<(Duration, u64)>,
    /// When this end loses all it knows, and begins anew.
    pub(crate) restart: Option<(usize, Duration)>,
    pub(crate) finish: Finish,
    /// It is finished while messages are still on their way.
    pub(crate) is_hasty: bool,
}

/// Who sends INIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    First,
    Second,
    /// At once, or the second a little later.
    Both(Duration),
}

/// How it ends when all is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Not: both are left alone, and must be quiet.
    Idle,
    Shutdown(usize),
    BothShutdown,
    Abort(usize),
}

/// Messages of one end on one stream.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) from: usize,
    pub(crate) stream: u16,
    pub(crate) is_unordered: bool,
    pub(crate) reliability: Reliability,
    pub(crate) priority: Option<u8>,
    /// Message lengths.
    pub(crate) bytes: (u64, u64),
    /// How many bytes in all.
    pub(crate) total: u64,
    /// As fast as it is taken, or so much at a time.
    pub(crate) burst: Option<(Duration, u64)>,
    /// The stream is reset when all is sent, and half as much follows on it anew.
    pub(crate) is_reset: bool,
}

fn between(chance: &mut Chance, least: u64, most: u64) -> u64 {
    least + chance.below(most - least + 1)
}

fn one_in(chance: &mut Chance, cases: u64) -> bool {
    chance.below(cases) == 0
}

/// Small ones as often as large ones.
fn scaled(chance: &mut Chance, least: u64, most: u64) -> u64 {
    let doublings = (most / least).ilog2();
    let top = least << chance.below(u64::from(doublings) + 1);
    between(chance, top, (top * 2).min(most).max(top))
}

fn millis(chance: &mut Chance, least: u64, most: u64) -> Duration {
    MS * u32::try_from(between(chance, least, most)).unwrap()
}

fn per_million(chance: &mut Chance, most: u64) -> u32 {
    u32::try_from(chance.below(most + 1)).unwrap()
}

fn config(chance: &mut Chance) -> Config {
    let bytes_min = 1_160;
    let bytes_max =
        if one_in(chance, 2) { bytes_min } else { usize::try_from(between(chance, 1_160, 8_900)).unwrap() };
    Config {
        receive_window_bytes: u32::try_from(scaled(chance, 64 << 10, 2 << 20)).unwrap().max(72 << 10),
        send_bytes_max: usize::try_from(scaled(chance, 128 << 10, 2 << 20)).unwrap(),
        packet_bytes_min: bytes_min,
        packet_bytes_max: bytes_max,
        // Set below, from what the path takes.
        round_trip_hint: None,
        congestion: if one_in(chance, 3) { Congestion::NewReno } else { Congestion::Bbr },
        interleaving: !one_in(chance, 3),
        zero_checksum: !one_in(chance, 2),
        heartbeat_interval: one_in(chance, 5).then_some(5_000 * MS),
        ..Config::default()
    }
}

fn traits(chance: &mut Chance, delay: Duration, may_corrupt: bool) -> Traits {
    let queue = millis(chance, 5, 500);
    let base = match one_in(chance, 6) {
        true => Traits { delay, ..Traits::default() },
        false => Traits::bottleneck(scaled(chance, 50_000, 20_000_000), delay, queue),
    };
    Traits {
        // A queue that holds less than a few packets is no path for anybody.
        queue_bytes: base.queue_bytes.max(12_000),
        loss_per_million: if one_in(chance, 2) { per_million(chance, 50_000) } else { 0 },
        burst: one_in(chance, 4).then(|| Burst {
            to_bad_per_million: per_million(chance, 4_000),
            to_good_per_million: 100_000 + per_million(chance, 400_000),
            loss_per_million: 300_000 + per_million(chance, 600_000),
        }),
        jitter: if one_in(chance, 3) { millis(chance, 0, 20) } else { Duration::ZERO },
        reorder: one_in(chance, 3)
            .then(|| Reorder { per_million: per_million(chance, 100_000), by: millis(chance, 1, 30) }),
        duplicate_per_million: if one_in(chance, 4) { per_million(chance, 100_000) } else { 0 },
        corrupt_per_million: if may_corrupt && one_in(chance, 2) { per_million(chance, 20_000) } else { 0 },
        packet_bytes_max: between(chance, 1_200, 9_000),
        ..base
    }
}

fn flow(chance: &mut Chance, stream: u16, budget: u64) -> Flow {
    let (least, most) = match chance.below(4) {
        0 => (1, 100),
        1 => (1, 4_000),
        2 => (30_000, 65_600),
        _ => (1, 65_600),
    };
    let burst = one_in(chance, 3).then(|| (250 * MS, scaled(chance, 1_000, budget.max(2_000) / 4 + 1_000)));
    let reliability = match chance.below(5) {
        0 => Reliability::Retransmissions(u32::try_from(chance.below(3)).unwrap()),
        1 => Reliability::Lifetime(millis(chance, 0, 400)),
        _ => Reliability::Reliable,
    };
    Flow {
        from: usize::try_from(chance.below(2)).unwrap(),
        stream,
        is_unordered: one_in(chance, 2),
        reliability,
        priority: one_in(chance, 3).then(|| u8::try_from(chance.below(256)).unwrap()),
        bytes: (least, most),
        // Of tiny messages fewer: each costs the model as much as a long one.
        total: budget.min(if most <= 100 { 30_000 } else { u64::MAX }),
        burst,
        is_reset: one_in(chance, 6),
    }
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let chance = &mut chance;
        let mut configs = [config(chance), config(chance)];
        let delay = if one_in(chance, 8) { Duration::ZERO } else { millis(chance, 1, 150) };
        // Where no checksums are asked for, DTLS throws away what was damaged.
        let traits = [
            traits(chance, delay, !configs[1].zero_checksum),
            traits(chance, delay, !configs[0].zero_checksum),
        ];
        for config in &mut configs {
            let round_trip = 2 * delay + traits[0].jitter + traits[1].jitter;
            config.round_trip_hint = one_in(chance, 3).then_some(round_trip.max(MS));
        }
        let begins = match chance.below(4) {
            0 => Begins::Second,
            1 => Begins::Both(millis(chance, 0, 300)),
            _ => Begins::First,
        };
        let slowest = traits.iter().filter_map(|traits| traits.rate).min().unwrap_or(1 << 20);
        let flow_count = between(chance, 1, 4);
        let budget = (slowest * 3).min(1_200_000) / flow_count;
        let mut flows: Vec<Flow> = (0..flow_count)
            .map(|_| {
                let stream = u16::try_from(chance.below(16)).unwrap();
                flow(chance, stream, budget)
            })
            .collect();
        // Who uses a stream twice shall not reset it for the other.
        for at in 0..flows.len() {
            let (stream, from) = (flows[at].stream, flows[at].from);
            if flows.iter().filter(|flow| flow.stream == stream && flow.from == from).count() > 1 {
                flows[at].is_reset = false;
            }
        }
        let pauses = (0..chance.below(3))
            .map(|_| {
                (
                    usize::try_from(chance.below(2)).unwrap(),
                    millis(chance, 0, 3_000),
                    millis(chance, 1, 5_000),
                )
            })
            .collect();
        let black_out = one_in(chance, 4).then(|| (millis(chance, 0, 2_000), millis(chance, 100, 5_000)));
        let narrowing =
            one_in(chance, 5).then(|| (millis(chance, 500, 3_000), between(chance, 1_160, 2_000)));
        let restart =
            one_in(chance, 12).then(|| (usize::try_from(chance.below(2)).unwrap(), millis(chance, 0, 2_000)));
        let finish = match chance.below(6) {
            0 => Finish::Shutdown(0),
            1 => Finish::Shutdown(1),
            2 => Finish::BothShutdown,
            3 => Finish::Abort(usize::try_from(chance.below(2)).unwrap()),
            _ => Finish::Idle,
        };
        let is_hasty = finish != Finish::Idle && one_in(chance, 2);
        let grain = if one_in(chance, 3) { millis(chance, 1, 4) } else { Duration::ZERO };
        Self {
            configs,
            traits,
            begins,
            grain,
            flows,
            pauses,
            black_out,
            narrowing,
            restart,
            finish,
            is_hasty,
        }
    }

    /// How much of what arrives late looks lost.
    pub(crate) fn disorder(&self) -> Disorder {
        let late = self
            .traits
            .iter()
            .map(|traits| traits.jitter + traits.reorder.map_or(Duration::ZERO, |by| by.by));
        let (late, delay) = (late.max().unwrap_or_default(), self.traits[0].delay);
        match late {
            Duration::ZERO => Disorder::None,
            late if late < delay => Disorder::Some,
            // Whoever waits for these waits longer than for what is lost.
            _ => Disorder::BeyondRoundTrip,
        }
    }
}

/// How much packets overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disorder {
    None,
    Some,
    BeyondRoundTrip,
}
