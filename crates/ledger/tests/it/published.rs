//! What packagers count, and when edges are paid by it.

use crate::stage::*;

#[test]
fn what_a_show_published_while_the_tracker_was_away_is_paid_when_it_is_told() {
    let (mut stage, demo) = Stage::live(1_000_000, 1_000_000_000, 1_000_000_000);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.commit();
    // The packager went on for a minute that nobody was told of, and another began with a count of its own, above
    // that of the first.
    stage.pass(60_000);
    let voucher = viewer.voucher(edge(0), 110 * SECOND);
    assert_eq!(stage.bring(&voucher).unwrap_err().code(), "over_bound");
    stage.count(2, &demo, 121 * SECOND - 1);
    stage.count(1, &demo, 180 * SECOND);
    stage.bring(&voucher).unwrap();
    assert_eq!(stage.ledger.stream(&demo).unwrap().published(), 301 * SECOND - 1);
}
