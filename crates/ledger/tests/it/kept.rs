//! What is on disk: told to nobody before it is there, the same after a crash, and refused when it does not add up.

use crate::stage::*;
use millstream_ledger::{
    Account, Ledger, book,
    limits::{FREEZE_AFTER_MS, GRANT_MS, VOUCHER_LATE_MS},
    rows::Damaged,
    voucher::Bringer,
};
use millstream_model::Micros;

#[test]
fn a_promise_opens_only_after_its_batch_is_on_disk() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.commit();
    let voucher = viewer.voucher(edge(0), SECOND);
    let by = Bringer::Edge(edge(0));
    let promised = stage.ledger.bring(voucher.clone(), by, stage.now).unwrap();
    let promised = promised.release(stage.ledger.durable()).expect_err("nothing is on disk yet");
    stage.take();
    let again = stage.ledger.bring(voucher, by, stage.now).unwrap();
    let again = again.release(stage.ledger.durable()).expect_err("nor for whoever brings it second");
    stage.write();
    let receipt = promised.release(stage.ledger.durable()).unwrap();
    assert_eq!(again.release(stage.ledger.durable()).unwrap(), receipt);
}

#[test]
fn a_restart_forgets_nothing_that_was_told() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    let first = stage.grant(&viewer, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap();
    stage.commit();
    stage.bring(&viewer.voucher(edge(0), 2 * SECOND)).unwrap();
    stage.take();
    stage.crash();
    assert_eq!(stage.earned(0), price_of(SECOND), "the second was never acknowledged");
    assert_eq!(stage.grant(&viewer, 0).unwrap(), first, "the same grant, not another reserve");
    stage.bring(&viewer.voucher(edge(0), 2 * SECOND)).unwrap();
    assert_eq!(stage.earned(0), price_of(2 * SECOND));
    stage.commit();
    stage.pass(20_000);
    stage.publish(&demo, 140 * SECOND);
    stage.bring(&viewer.voucher(edge(0), 80 * SECOND)).expect("the bound survived, too");
}

#[test]
fn the_honest_bound_counts_all_lanes_also_after_a_restart() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.grant(&viewer, 2).unwrap();
    stage.commit();
    stage.bring(&viewer.voucher(edge(0), 50 * SECOND)).unwrap();
    stage.commit();
    stage.crash();
    assert_eq!(stage.bring(&viewer.voucher(edge(2), 14 * SECOND)).unwrap_err().code(), "over_bound");
    stage.bring(&viewer.voucher(edge(2), 13 * SECOND)).unwrap();
}

#[test]
fn budget_and_published_bytes_survive_a_restart() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.commit();
    stage.bring(&viewer.voucher(edge(0), 5 * SECOND)).unwrap();
    stage.commit();
    // The packager starts again and counts from zero, which is stored at once.
    stage.pass(500);
    stage.count(2, &demo, SECOND);
    stage.commit();
    stage.crash();
    let known = stage.ledger.stream(&demo).unwrap();
    assert_eq!(known.spent_today(stage.now).0, price_of(5 * SECOND));
    assert_eq!(known.published(), 121 * SECOND);
    stage.pass(1_000);
    stage.count(2, &demo, 2 * SECOND);
    assert_eq!(stage.ledger.stream(&demo).unwrap().published(), 122 * SECOND);
}

#[test]
fn funding_is_booked_once_also_after_a_restart() {
    let mut stage = Stage::new();
    stage.fund(500, "invoice-1");
    stage.commit();
    stage.crash();
    stage.fund(500, "invoice-1");
    assert_eq!(stage.balance(&broadcaster()), 500);
    let id = book::FundingId::new("invoice-1").unwrap();
    let other = stage.ledger.fund(&name("acme"), Micros(501), id.clone(), stage.now);
    assert_eq!(other.map(open), Err(book::Refused::IdTaken(id)));
}

#[test]
fn rows_that_do_not_add_up_are_refused() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap();
    stage.commit();
    let restore = |change: &dyn Fn(&mut millstream_ledger::Rows)| {
        let mut rows = stage.disk.clone();
        change(&mut rows);
        Ledger::restore(TRACKER, rows).map(|_| ())
    };
    assert_eq!(restore(&|_| ()), Ok(()));
    let operator = Account::Operator(operator(0));
    let robbed = restore(&|rows| rows.balances.get_mut(&operator).unwrap().0 += 1);
    assert_eq!(robbed, Err(Damaged::Sum(1)));
    let moved = restore(&|rows| {
        rows.balances.get_mut(&operator).unwrap().0 += 1;
        rows.balances.get_mut(&Account::Reserve(demo.clone())).unwrap().0 -= 1;
    });
    assert!(matches!(moved, Err(Damaged::Reserve { .. })), "{moved:?}");
    let inflated = restore(&|rows| rows.lanes.values_mut().for_each(|row| row.payable *= 2));
    assert!(matches!(inflated, Err(Damaged::Paid { .. })), "{inflated:?}");
    let forgotten = restore(&|rows| rows.sessions.values_mut().for_each(|row| row.payable = 0));
    assert!(matches!(forgotten, Err(Damaged::Payable { .. })), "{forgotten:?}");
    let lost = restore(&|rows| rows.sessions.clear());
    assert!(matches!(lost, Err(Damaged::Lane { .. })), "{lost:?}");
}

#[test]
fn a_stream_that_is_removed_leaves_its_history_on_disk_and_its_name_free() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap();
    stage.ledger.close(viewer.session, stage.now);
    stage.pass(GRANT_MS + VOUCHER_LATE_MS + 1);
    stage.ledger.remove_stream(&demo).unwrap();
    stage.commit();
    assert_eq!(stage.disk.vouchers.len(), 1);
    stage.crash();
    assert!(stage.ledger.stream(&demo).is_none());
    stage.ledger.set_stream(&demo, &name("other"), live(1, 1)).unwrap();
}

#[test]
fn a_frozen_bound_survives_a_restart_with_what_is_set_aside_for_it() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    for n in [0, 2] {
        stage.grant(&viewer, n).unwrap();
    }
    stage.ledger.close(viewer.session, stage.now);
    stage.commit();
    stage.crash();
    stage.pass(1);
    stage.pass(FREEZE_AFTER_MS);
    stage.publish(&demo, 121 * SECOND);
    stage.pass(FREEZE_AFTER_MS);
    assert!(stage.ledger.session(viewer.session).unwrap().bound().is_some(), "closed before the crash");
    stage.commit();
    let reserve = stage.reserve(&demo);
    stage.crash();
    assert_eq!(stage.reserve(&demo), reserve);
    stage.publish(&demo, 500 * SECOND);
    assert_eq!(stage.bring(&viewer.voucher(edge(0), 65 * SECOND)).unwrap_err().code(), "over_bound");
    stage.bring(&viewer.voucher(edge(2), 64 * SECOND)).expect("its own and the other's reserve");
}
