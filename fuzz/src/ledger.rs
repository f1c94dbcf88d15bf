//! The book, beside a model that keeps lists and works everything out anew.

use millstream_ledger::limits::{GRANT_MS, VOUCHER_LATE_MS};

use crate::{
    script::Script,
    stage::SECOND,
    world::{Lie, Step, World},
};

/// Steps of one run: each voucher is a real signature.
const STEPS_MAX: usize = 120;

pub(crate) fn ledger(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if !script.goes_on() {
            break;
        }
        world.take(step(&mut script));
        world.check();
    }
    world.check_disk();
    world.replay_everything();
}

fn step(script: &mut Script<'_>) -> Step {
    match script.byte() % 64 {
        0..=1 => Step::Fund { id: script.byte() % 6, amount: 1 + i64::from(script.half()) * 30 },
        2 => Step::Terms {
            stream: script.byte() % 2,
            price: u32::from(script.half()) * 46,
            budget: i64::from(script.half()) * 61,
            stopped: script.seldom(),
        },
        3..=8 => {
            Step::Publish { stream: script.byte() % 2, bytes: SECOND + u64::from(script.byte()) * SECOND / 6 }
        }
        9..=14 => Step::Pass { ms: wait(script) },
        15 => Step::Join { viewer: script.byte() % 3 },
        16 => Step::Leave { viewer: script.byte() % 6 },
        17..=26 => Step::Grant { viewer: script.byte() % 3, edge: script.byte() % 3 },
        27..=47 => Step::Voucher {
            viewer: script.byte() % 3,
            edge: script.byte() % 3,
            more: u64::from(script.half()) * 76,
            lie: lie(script),
        },
        48..=51 => Step::Replay { index: script.half() },
        52..=57 => Step::Take,
        58..=62 => Step::Write,
        _ => Step::Crash,
    }
}

fn wait(script: &mut Script<'_>) -> u64 {
    match script.byte() {
        0 => 6 * 3_600_000,
        1 => GRANT_MS + VOUCHER_LATE_MS,
        2 => GRANT_MS + VOUCHER_LATE_MS + 1_000,
        3 => 3_600_000,
        seconds => u64::from(seconds % 60) * 1_000,
    }
}

fn lie(script: &mut Script<'_>) -> Lie {
    match script.byte() % 24 {
        0 => Lie::Forged,
        1 => Lie::OverCap,
        2 => Lie::Tracker,
        3 => Lie::Stream,
        4 => Lie::Bringer,
        5 | 6 => Lie::Backwards,
        _ => Lie::None,
    }
}
