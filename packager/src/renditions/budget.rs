//! What ladders cost, and whether the machine can carry one more.
//!
//! The cost is reckoned, not measured: decoding and scaling go with the source's pixels a second, encoding with the
//! rung's, and the preset says how much. The figures are one and a half times those of a clip that moves everywhere,
//! on a core that shares its caches with a busy neighbour (EPYC, 1080p30: decoded 0.06 cores, scaled 0.04,
//! 720p veryfast 0.25); a film takes half. Whether it was enough is seen at run time, by rungs that fall behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_pipeline::ladder::Preset;

use super::plan::{Coding, Plan, Size};

/// Thousandths of a core for a million pixels a second, decoded.
const fn decode_milli(coding: Coding) -> u64 {
    match coding {
        Coding::H264 => 2,
        Coding::Hevc => 4,
        Coding::Av1 => 6,
    }
}

/// The same, scaled for one rung.
const SCALE_MILLI: u64 = 1;

/// The same of a rung, encoded with each preset.
const fn encode_milli(preset: Preset) -> u64 {
    match preset {
        Preset::Ultrafast => 7,
        Preset::Superfast => 10,
        Preset::Veryfast => 14,
        Preset::Faster => 21,
        Preset::Fast => 34,
        Preset::Medium => 44,
    }
}

/// Thousandths of a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load(pub u64);

impl std::fmt::Display for Load {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{:02} cores", self.0 / 1_000, self.0 % 1_000 / 10)
    }
}

impl Load {
    /// What this plan takes: nothing without a rung.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        if plan.rungs.is_empty() {
            return Self(0);
        }
        let source = plan.source.pixels_per_second();
        let rungs: u64 = plan
            .rungs
            .iter()
            .map(|planned| {
                let rung = planned.rung;
                let size = Size { width: rung.width, height: rung.height, ..plan.source };
                source * SCALE_MILLI + size.pixels_per_second() * encode_milli(rung.preset)
            })
            .sum();
        Self((source * decode_milli(plan.source.coding) + rungs).div_ceil(1_000_000))
    }
}

/// The cores that all ladders share.
#[derive(Debug)]
pub struct Budget {
    max: Load,
    used: Mutex<Load>,
}

/// A ladder's part of the budget; given back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    load: Load,
}

impl Budget {
    /// `max` for all ladders together.
    #[must_use]
    pub fn new(max: Load) -> Arc<Self> {
        Arc::new(Self { max, used: Mutex::default() })
    }

    /// What all may take.
    #[must_use]
    pub const fn max(&self) -> Load {
        self.max
    }

    /// What is taken.
    #[must_use]
    pub fn used(&self) -> Load {
        *self.lock()
    }

    /// Takes what `plan` needs, or as much of it as there is room for: its largest rungs are left out until the rest
    /// fits. Gives the lines of those.
    #[must_use]
    pub fn lease(self: &Arc<Self>, plan: &mut Plan) -> (Lease, Vec<u32>) {
        let mut used = self.lock();
        let mut trimmed = Vec::new();
        while Load::of(plan).0 > self.max.0.saturating_sub(used.0) {
            // Without a rung it takes nothing.
            trimmed.push(plan.rungs.remove(0).lines);
        }
        let load = Load::of(plan);
        used.0 += load.0;
        (Lease { budget: Arc::clone(self), load }, trimmed)
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// What it is for.
    #[must_use]
    pub const fn load(&self) -> Load {
        self.load
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut used = self.budget.lock();
        used.0 = used.0.saturating_sub(self.load.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, preset: Preset) -> Plan {
        let coding = Coding::H264;
        let source = Size { width: 1_920, height: 1_080, frame_rate_milli: 30_000, coding };
        Plan::new(source, text.parse::<super::super::Renditions>().unwrap().steps(), preset)
    }

    #[test]
    fn cost_goes_with_pixels_and_preset() {
        let usual = Load::of(&plan("720p,480p,360p", Preset::Veryfast));
        assert!((900..1_050).contains(&usual.0), "{usual}");
        assert_eq!(usual.to_string(), "0.96 cores");
        let costs = Preset::ALL.map(|preset| Load::of(&plan("720p", preset)));
        assert!(costs.is_sorted());
        let mut hevc = plan("720p", Preset::Veryfast);
        let plain = Load::of(&hevc);
        hevc.source.coding = Coding::Hevc;
        assert!(Load::of(&hevc) > plain, "it is harder to decode");
        assert_eq!(Load::of(&plan("passthrough", Preset::Medium)), Load(0));
    }

    #[test]
    fn the_largest_rungs_go_until_the_rest_fits_and_all_comes_back() {
        let budget = Budget::new(Load(1_500));
        let mut first = plan("720p,480p,360p", Preset::Veryfast);
        let (lease, trimmed) = budget.lease(&mut first);
        assert_eq!((first.rungs.len(), trimmed.len()), (3, 0));
        let mut second = plan("720p,480p,360p", Preset::Veryfast);
        let (other, trimmed) = budget.lease(&mut second);
        assert_eq!((second.rungs.len(), trimmed), (2, vec![720]));
        assert_eq!(budget.used().0, lease.load().0 + other.load().0);
        let mut third = plan("720p,480p,360p", Preset::Veryfast);
        let (nothing, trimmed) = budget.lease(&mut third);
        assert_eq!((third.rungs.len(), trimmed, nothing.load()), (0, vec![720, 480, 360], Load(0)));
        drop((lease, other, nothing));
        assert_eq!(budget.used(), Load(0));
    }
}
