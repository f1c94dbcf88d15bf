//! A random world; the ledger beside the model after every step.

use millstream_ledger::limits::{GRANT_MS, VOUCHER_LATE_MS};
use proptest::{prelude::*, strategy::ValueTree as _};

use crate::{
    stage::SECOND,
    world::{Lie, Step, Word, World},
};

fn step() -> impl Strategy<Value = Step> {
    let lie = prop_oneof![
        12 => Just(Lie::None),
        1 => Just(Lie::Forged),
        1 => Just(Lie::OverCap),
        1 => Just(Lie::Tracker),
        1 => Just(Lie::Stream),
        1 => Just(Lie::Bringer),
        2 => Just(Lie::Backwards),
    ];
    let ms = prop_oneof![
        60 => (1_u64..60).prop_map(|seconds| seconds * 1_000),
        2 => Just(GRANT_MS + VOUCHER_LATE_MS),
        1 => Just(GRANT_MS + VOUCHER_LATE_MS + 1_000),
        1 => Just(6 * 3_600_000),
    ];
    prop_oneof![
        2 => (0_u8..6, 1_i64..2_000_000).prop_map(|(id, amount)| Step::Fund { id, amount }),
        1 => (0_u8..2, prop_oneof![Just(0_u32), 1..3_000_000_u32], 0_i64..4_000_000, prop::bool::weighted(0.1))
            .prop_map(|(stream, price, budget, stopped)| Step::Terms { stream, price, budget, stopped }),
        6 => (0_u8..2, SECOND..40 * SECOND).prop_map(|(stream, bytes)| Step::Publish { stream, bytes }),
        6 => ms.prop_map(|ms| Step::Pass { ms }),
        1 => (0_u8..3).prop_map(|viewer| Step::Join { viewer }),
        1 => (0_u8..6).prop_map(|viewer| Step::Leave { viewer }),
        10 => (0_u8..3, 0_u8..3).prop_map(|(viewer, edge)| Step::Grant { viewer, edge }),
        24 => (0_u8..3, 0_u8..3, 0_u64..5 * SECOND, lie)
            .prop_map(|(viewer, edge, more, lie)| Step::Voucher { viewer, edge, more, lie }),
        4 => any::<u16>().prop_map(|index| Step::Replay { index }),
        6 => Just(Step::Take),
        6 => Just(Step::Write),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_is_the_model(steps in prop::collection::vec(step(), 1..160)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.check_disk();
        world.replay_everything();
    }
}

#[test]
fn the_random_world_is_no_empty_one() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 200..201);
    let (mut grants, mut receipts, mut paid) = (0, 0, 0);
    for _ in 0..20 {
        let mut world = World::new();
        for step in steps.new_tree(&mut runner).unwrap().current() {
            world.take(step);
        }
        world.check_disk();
        grants += world.told.iter().filter(|word| matches!(word, Word::Grant(_))).count();
        receipts += world.told.iter().filter(|word| matches!(word, Word::Receipt(_))).count();
        paid += world.stage.disk.vouchers.len();
    }
    assert!(grants > 200 && receipts > 200 && paid > 60, "{grants} {receipts} {paid}");
}
