//! The money, told as stories: what each party may expect, and what each may try.

use crate::stage::*;
use millstream_ledger::{
    Kind, Terms,
    epoch::Epoch,
    grant,
    limits::{
        FIRST_COVER_MIN_MS, FREEZE_AFTER_MS, FREEZE_WAIT_MS, GRANT_BYTES_MIN, GRANT_MS,
        LANES_PER_SESSION_MAX, VOUCHER_LATE_MS,
    },
    session, stream as terms,
    voucher::{Bringer, Refused, Verified},
};
use millstream_model::{Micros, Price, PublicKey, SessionId};
use millstream_wire::{session::Voucher, sign::Signed};

#[test]
fn an_edge_is_paid_for_what_the_viewer_signed_and_the_rest_goes_back() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(7, &demo);
    let first = stage.grant(&viewer, 0).unwrap();
    assert_eq!((first.serial, first.price), (1, Price(PRICE)));
    assert_eq!(first.expires, stage.now.plus_millis(GRANT_MS));
    assert_eq!(stage.reserve(&demo), price_of(first.cap_bytes) + 1, "rounded up");

    let receipt = stage.bring(&viewer.voucher(edge(0), 3 * SECOND + 1)).unwrap();
    assert_eq!((receipt.payable, receipt.earned.0), (3 * SECOND + 1, price_of(3 * SECOND + 1)));
    let receipt = stage.bring(&viewer.voucher(edge(0), 9 * SECOND + 7)).unwrap();
    assert_eq!(receipt.earned.0, price_of(9 * SECOND + 7), "in all, not for the last voucher alone");
    assert_eq!(stage.earned(0), price_of(9 * SECOND + 7), "rounding does not pile up over vouchers");

    stage.ledger.close(viewer.session, stage.now);
    assert!(stage.reserve(&demo) > 0, "edges may still bring vouchers");
    stage.pass(GRANT_MS + VOUCHER_LATE_MS + 1);
    assert_eq!(stage.reserve(&demo), 0);
    assert_eq!(stage.balance(&broadcaster()), PLENTY - price_of(9 * SECOND + 7));
    assert!(stage.ledger.session(viewer.session).is_none(), "a session that is over is forgotten");
    stage.commit();
    stage.disk.audit().unwrap();
}

#[test]
fn a_viewer_that_never_signs_costs_the_broadcaster_nothing() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.grant(&viewer, 2).unwrap();
    assert!(stage.balance(&broadcaster()) < PLENTY);
    stage.pass(GRANT_MS + VOUCHER_LATE_MS + 1);
    assert_eq!(stage.balance(&broadcaster()), PLENTY);
    assert_eq!(stage.ledger.balances().filter(|(_, balance)| *balance != Micros::ZERO).count(), 2);
}

#[test]
fn vouchers_replayed_in_any_order_move_nothing() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewers: Vec<_> = (1..4).map(|n| stage.join(n, &demo)).collect();
    let mut said = Vec::new();
    for viewer in &viewers {
        for n in 0..3 {
            stage.grant(viewer, n).unwrap();
            for step in 1..=5 {
                said.push(viewer.voucher(edge(n), step * SECOND));
            }
        }
    }
    for voucher in &said {
        stage.bring(voucher).unwrap();
    }
    stage.commit();
    let before = stage.disk.clone();
    let mut seed = 1_u64;
    for _ in 0..10 {
        for index in (1..said.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            said.swap(index, usize::try_from(seed >> 33).unwrap() % (index + 1));
        }
        for voucher in &said {
            let receipt = stage.bring(voucher).unwrap();
            assert_eq!(receipt.payable, 5 * SECOND, "the answer is what is booked");
        }
    }
    assert_eq!(stage.ledger.take_batch(stage.now), None, "nothing changed, so there is nothing to write");
    assert_eq!(stage.disk, before);
    let each = price_of(5 * SECOND);
    assert_eq!((stage.earned(0), stage.earned(2)), (6 * each, 3 * each));
}

#[test]
fn every_refusal_has_its_reason_and_the_operator_finds_it() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    let other = stage.join(2, &demo);
    let grant = stage.grant(&viewer, 0).unwrap();
    stage.grant(&other, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap();

    let forged = other.signs(viewer.says(edge(0), 2 * SECOND));
    let forged_again = other.signs(viewer.says(edge(0), SECOND));
    let inflated = viewer.voucher(edge(0), 200 * SECOND);
    let over_cap = viewer.voucher(edge(0), grant.cap_bytes + 1);
    let foreign = viewer.signs(Voucher { tracker: PublicKey([9; 32]), ..viewer.says(edge(0), 2 * SECOND) });
    let elsewhere = viewer.signs(Voucher { stream: stream("other"), ..viewer.says(edge(0), 2 * SECOND) });
    let ungranted = viewer.voucher(edge(1), SECOND);
    let stranger = Viewer::new(9, &demo).voucher(edge(0), SECOND);
    let refused: Vec<_> =
        [&forged, &forged_again, &inflated, &over_cap, &foreign, &elsewhere, &ungranted, &stranger]
            .into_iter()
            .map(|voucher| stage.bring(voucher).unwrap_err().code())
            .collect();
    assert_eq!(
        refused,
        [
            "signature",
            "signature",
            "over_bound",
            "over_cap",
            "tracker",
            "stream",
            "unknown_lane",
            "unknown_session"
        ]
    );
    let own = viewer.voucher(edge(0), 2 * SECOND);
    for by in [Bringer::Edge(edge(1)), Bringer::Session(other.session)] {
        assert_eq!(stage.ledger.bring(own.clone(), by, stage.now).map(open), Err(Refused::Foreign));
    }
    stage.now = grant.expires.plus_millis(VOUCHER_LATE_MS + 1);
    let late = stage.bring(&own).unwrap_err();
    assert!(matches!(late, Refused::Late { .. }), "{late}");

    assert_eq!(stage.earned(0), price_of(SECOND), "none of them moved anything");
    let lane = stage.ledger.lane(viewer.session, edge(0)).unwrap();
    let reasons: Vec<_> = lane.refusals().map(|refusal| refusal.reason.code()).collect();
    assert_eq!(reasons, ["signature", "signature", "over_bound", "over_cap", "tracker", "stream", "late"]);
    assert_eq!(lane.state().refused, 7);
    assert_eq!(
        stage.ledger.strays().count(),
        4,
        "the ungranted, the stranger's and the two that had no part in it"
    );
    let text = lane.refusals().nth(3).unwrap().reason.to_string();
    assert_eq!(
        text,
        format!("{} bytes are more than the {1} bytes granted", grant.cap_bytes + 1, grant.cap_bytes)
    );
}

#[test]
fn a_voucher_is_booked_until_the_last_millisecond() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    let grant = stage.grant(&viewer, 0).unwrap();
    stage.ledger.close(viewer.session, stage.now);
    stage.now = grant.expires.plus_millis(VOUCHER_LATE_MS);
    stage.ledger.tick(stage.now);
    stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap();
    stage.pass(1);
    assert_eq!(stage.reserve(&demo), 0);
    assert_eq!(stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap_err().code(), "unknown_session");
}

#[test]
fn two_edges_cannot_be_paid_for_the_same_bytes() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.grant(&viewer, 2).unwrap();
    // The window of 60 s was there to watch, and 10 s more.
    for second in 121..=130 {
        stage.pass(1_000);
        stage.publish(&demo, second * SECOND);
    }
    stage.bring(&viewer.voucher(edge(0), 70 * SECOND)).unwrap();
    let refused = stage.bring(&viewer.voucher(edge(2), 4 * SECOND)).unwrap_err();
    assert!(matches!(refused, Refused::OverBound { .. }), "{refused}");
    stage.bring(&viewer.voucher(edge(2), 7 * SECOND / 2)).expect("five percent of slack");
}

#[test]
fn a_voucher_ahead_of_the_packagers_report_is_booked_once_the_report_is_there() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    // The tracker is away for five minutes; viewer and edge go on.
    stage.pass(100_000);
    let voucher = viewer.voucher(edge(0), 110 * SECOND);
    let refused = stage.bring(&voucher).unwrap_err();
    assert!(refused.may_pass_later(), "{refused}");
    stage.publish(&demo, 220 * SECOND);
    assert_eq!(stage.bring(&voucher).unwrap().payable, 110 * SECOND);
}

#[test]
fn a_recording_is_bounded_by_the_time_it_was_watched() {
    let mut stage = Stage::new();
    stage.fund(PLENTY, "a");
    let film = stream("film");
    let terms = Terms { kind: Kind::Recorded { rate: RATE }, ..live(PRICE, PLENTY) };
    stage.ledger.set_stream(&film, &name("acme"), terms).unwrap();
    let viewer = stage.join(1, &film);
    stage.grant(&viewer, 0).unwrap();
    stage.pass(40_000);
    assert_eq!(stage.bring(&viewer.voucher(edge(0), 121 * SECOND)).unwrap_err().code(), "over_bound");
    stage.bring(&viewer.voucher(edge(0), 120 * SECOND)).unwrap();
}

#[test]
fn no_reserve_no_grant() {
    let least = Price(PRICE).ceiling(GRANT_BYTES_MIN).0;
    let (mut stage, demo) = Stage::live(PRICE, 2 * least - 1, PLENTY);
    let viewer = stage.join(1, &demo);
    assert_eq!(stage.grant(&viewer, 0).unwrap().cap_bytes, GRANT_BYTES_MIN);
    let refused = stage.grant(&viewer, 1).unwrap_err();
    assert!(matches!(refused, grant::Refused::Funds { .. }), "{refused}");
    assert_eq!(stage.balance(&broadcaster()), least - 1);
    assert!(stage.ledger.lane(viewer.session, edge(1)).is_none(), "a refused lane leaves no trace");
    stage.fund(1, "more");
    stage.grant(&viewer, 1).unwrap();
}

#[test]
fn the_budget_of_a_day_is_hard_and_new_the_next_day() {
    let least = Price(PRICE).ceiling(GRANT_BYTES_MIN).0;
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, least);
    let viewer = stage.join(1, &demo);
    let grant = stage.grant(&viewer, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), grant.cap_bytes)).unwrap();
    let refused = stage.grant(&viewer, 0).unwrap_err();
    assert!(matches!(refused, grant::Refused::Budget { .. }), "{refused}");
    assert_eq!(stage.ledger.stream(&demo).unwrap().spent_today(stage.now).0, price_of(grant.cap_bytes));
    stage.pass(12 * 3_600_000);
    let next_day = stage.join(2, &demo);
    stage.grant(&next_day, 0).unwrap();
}

#[test]
fn the_hard_stop_ends_grants_and_honours_what_was_given() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.ledger.set_stream(&demo, &name("acme"), Terms { stopped: true, ..live(PRICE, PLENTY) }).unwrap();
    stage.pass(GRANT_MS / 2);
    assert_eq!(stage.grant(&viewer, 0), Err(grant::Refused::Stopped(demo.clone())));
    stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap();
}

#[test]
fn a_lane_keeps_its_price_and_a_new_one_gets_the_new() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.ledger.set_stream(&demo, &name("acme"), live(2 * PRICE, PLENTY)).unwrap();
    stage.pass(GRANT_MS / 2);
    assert_eq!(stage.grant(&viewer, 0).unwrap().price, Price(PRICE));
    assert_eq!(stage.grant(&viewer, 1).unwrap().price, Price(2 * PRICE));
}

#[test]
fn a_grant_is_renewed_by_time_or_by_bytes_and_not_before() {
    let least = Price(PRICE).ceiling(GRANT_BYTES_MIN).0;
    let (mut stage, demo) = Stage::live(PRICE, 10 * least, PLENTY);
    let viewer = stage.join(1, &demo);
    let first = stage.grant(&viewer, 0).unwrap();
    assert_eq!(stage.grant(&viewer, 0).unwrap(), first, "asked again too early: the same grant");
    stage.bring(&viewer.voucher(edge(0), first.cap_bytes / 2)).unwrap();
    let by_bytes = stage.grant(&viewer, 0).unwrap();
    assert_eq!(by_bytes.serial, 2);
    assert_eq!(by_bytes.cap_bytes, first.cap_bytes / 2 + GRANT_BYTES_MIN);
    stage.pass(GRANT_MS / 2);
    let by_time = stage.grant(&viewer, 0).unwrap();
    assert_eq!((by_time.serial, by_time.cap_bytes), (3, by_bytes.cap_bytes));
    assert!(by_time.expires > by_bytes.expires);
    let lane = stage.ledger.lane(viewer.session, edge(0)).unwrap().state();
    assert_eq!(lane.reserved.0, Price(PRICE).ceiling(lane.cap_bytes).0 - lane.paid.0);
}

#[test]
fn without_money_for_more_bytes_the_bytes_left_get_more_time() {
    let least = Price(PRICE).ceiling(GRANT_BYTES_MIN).0;
    let (mut stage, demo) = Stage::live(PRICE, least, PLENTY);
    let viewer = stage.join(1, &demo);
    let first = stage.grant(&viewer, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap();
    stage.pass(GRANT_MS / 2);
    let longer = stage.grant(&viewer, 0).unwrap();
    assert_eq!((longer.serial, longer.cap_bytes), (2, first.cap_bytes));
    stage.bring(&viewer.voucher(edge(0), first.cap_bytes)).unwrap();
    assert!(matches!(stage.grant(&viewer, 0), Err(grant::Refused::Funds { .. })));
    assert_eq!(stage.balance(&broadcaster()), 0);
    assert!(stage.reserve(&demo) <= 1, "rounding");
}

#[test]
fn a_lane_that_comes_back_is_not_paid_again_for_its_past() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    let old = viewer.voucher(edge(0), 5 * SECOND);
    stage.bring(&old).unwrap();
    stage.pass(GRANT_MS + VOUCHER_LATE_MS + 1);
    assert_eq!(stage.reserve(&demo), 0);
    assert_eq!(stage.bring(&viewer.voucher(edge(0), 6 * SECOND)).unwrap_err().code(), "late");
    let again = stage.grant(&viewer, 0).unwrap();
    assert_eq!(again.serial, 2);
    stage.bring(&old).unwrap();
    assert_eq!(stage.earned(0), price_of(5 * SECOND));
    stage.bring(&viewer.voucher(edge(0), 6 * SECOND)).unwrap();
    assert_eq!(stage.earned(0), price_of(6 * SECOND));
}

#[test]
fn a_lane_without_reserve_gets_no_old_grant_when_the_clock_goes_back() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    let granted_at = stage.now;
    stage.grant(&viewer, 0).unwrap();
    stage.pass(GRANT_MS + VOUCHER_LATE_MS + 1);
    assert_eq!(stage.reserve(&demo), 0);
    stage.now = granted_at;
    assert_eq!(stage.grant(&viewer, 0).unwrap().serial, 2);
    assert!(stage.reserve(&demo) > 0);
}

#[test]
fn what_is_brought_late_belongs_to_the_epoch_it_was_delivered_in() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    // Two minutes before the hour's end.
    stage.now = Epoch::of(stage.now).end();
    stage.now = millstream_model::WallTime(stage.now.0 - GRANT_MS - 1);
    let epoch = Epoch::of(stage.now);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), 2 * SECOND)).unwrap();
    stage.pass(GRANT_MS + 20 * 60_000);
    stage.bring(&viewer.voucher(edge(0), 6 * SECOND)).unwrap();
    stage.grant(&viewer, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), 7 * SECOND)).unwrap();
    let epochs: Vec<_> = stage.ledger.epochs().collect();
    assert_eq!(epochs.len(), 2);
    assert_eq!((epochs[0].0, epochs[0].2.micros.0), (epoch, price_of(6 * SECOND)));
    assert_eq!((epochs[0].2.bytes, epochs[0].2.segments), (6 * SECOND, 3));
    assert_eq!(epochs[1].2.micros.0, price_of(7 * SECOND) - price_of(6 * SECOND));
    stage.commit();
    // From the operator's sum to the lanes' sums to the vouchers that prove them.
    let rows: Vec<_> = stage.disk.vouchers.values().collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let sum = stage.disk.epochs[&(row.epoch, row.operator.clone())];
        assert_eq!(row.earned, sum);
        let voucher = Signed::<Voucher>::decode(row.voucher.clone()).unwrap();
        assert_eq!(voucher.unverified().payable, row.payable);
        voucher.verify(&viewer.key(), millstream_wire::sign::Context::None).unwrap();
    }
}

#[test]
fn a_sealed_epoch_takes_nothing_even_when_the_clock_goes_back() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.bring(&viewer.voucher(edge(0), SECOND)).unwrap();
    stage.commit();
    let before = stage.now;
    stage.pass(4 * 3_600_000);
    stage.now = before;
    let other = stage.join(2, &demo);
    stage.grant(&other, 0).unwrap();
    stage.bring(&other.voucher(edge(0), SECOND)).unwrap();
    stage.commit();
    let sums: Vec<_> = stage.disk.epochs.values().map(|earned| earned.micros.0).collect();
    assert_eq!(
        sums,
        [price_of(SECOND), price_of(SECOND)],
        "the old hour's sum stands, the new went elsewhere"
    );
}

#[test]
fn a_signature_that_holds_under_another_key_is_worth_nothing() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let (viewer, other) = (stage.join(1, &demo), stage.join(2, &demo));
    stage.grant(&viewer, 0).unwrap();
    let forged = other.signs(viewer.says(edge(0), SECOND));
    let verified = Verified::check(forged, other.key()).unwrap();
    let refused = stage.ledger.accept(verified, Bringer::Edge(edge(0)), stage.now).map(open);
    assert_eq!(refused.unwrap_err().code(), "signature");
    assert_eq!(stage.earned(0), 0);
}

#[test]
fn limits_refuse_with_words() {
    let (mut stage, demo) = Stage::live(0, 1, PLENTY);
    let viewer = stage.join(1, &demo);
    let request = |n: usize| grant::Request {
        session: viewer.session,
        edge: PublicKey([u8::try_from(n).unwrap(); 32]),
        operator: name("op"),
        rate: RATE,
    };
    for n in 0..LANES_PER_SESSION_MAX {
        drop(stage.ledger.grant(&request(n), stage.now).unwrap());
    }
    let one_more = stage.ledger.grant(&request(LANES_PER_SESSION_MAX), stage.now);
    assert_eq!(one_more.map(open), Err(grant::Refused::SessionLanes));
    let opening = session::Opening {
        session: viewer.session,
        key: viewer.key(),
        stream: demo.clone(),
        expires: stage.now.plus_millis(1),
    };
    assert_eq!(stage.ledger.open(opening, stage.now), Err(session::Refused::Exists(viewer.session)));
    assert!(matches!(stage.ledger.remove_stream(&demo), Err(terms::Refused::InUse(_))));
    let thief = stage.ledger.set_stream(&demo, &name("thief"), live(1, 1));
    assert_eq!(thief.unwrap_err().to_string(), "the stream demo belongs to acme");
    assert!(!stage.ledger.close(SessionId([0xff; 16]), stage.now));
}

#[test]
fn a_flood_of_forgeries_grows_neither_memory_nor_disk() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    let grant = stage.grant(&viewer, 0).unwrap();
    stage.commit();
    let over = viewer.voucher(edge(0), grant.cap_bytes + 1);
    let stray = viewer.voucher(edge(5), 1);
    for _ in 0..2_000 {
        stage.bring(&over).unwrap_err();
        stage.bring(&stray).unwrap_err();
    }
    let lane = stage.ledger.lane(viewer.session, edge(0)).unwrap();
    assert_eq!((lane.refusals().count(), lane.state().refused), (8, 2_000));
    assert_eq!(stage.ledger.strays().count(), 256);
    assert_eq!(stage.ledger.take_batch(stage.now).unwrap().refusals.len(), 32);
}

#[test]
fn who_joins_and_leaves_in_a_loop_locks_no_budget() {
    // A thousand hours of one viewer.
    let funds = price_of(3_600_000 * SECOND);
    let (mut stage, demo) = Stage::live(PRICE, funds, funds);
    let mut viewers = Vec::new();
    for n in 0..200 {
        let viewer = stage.join(n, &demo);
        for n in [0, 2] {
            stage.grant(&viewer, n).unwrap();
        }
        stage.ledger.close(viewer.session, stage.now);
        viewers.push(viewer);
    }
    assert!(stage.balance(&broadcaster()) >= funds / 10 * 9, "all of them within a moment");
    stage.pass(FREEZE_AFTER_MS);
    stage.publish(&demo, 130 * SECOND);
    stage.pass(FREEZE_AFTER_MS);
    let honest = price_of(70 * SECOND * 105 / 100) + 3;
    assert!(stage.reserve(&demo) <= 200 * honest, "what could honestly be watched, once a session");
    assert!(stage.balance(&broadcaster()) >= funds / 100 * 99);
    // Each of them was honest after all: edges bring what was signed, much later, up to the bound.
    stage.pass(VOUCHER_LATE_MS);
    for viewer in &viewers {
        stage.bring(&viewer.voucher(edge(2), 30 * SECOND)).unwrap();
        stage.bring(&viewer.voucher(edge(0), 43 * SECOND + SECOND / 2)).unwrap();
        let refused = stage.bring(&viewer.voucher(edge(2), 30 * SECOND + 1)).unwrap_err();
        assert_eq!(refused.code(), "over_bound");
        assert!(!refused.may_pass_later(), "nobody watches any more");
    }
    assert_eq!(stage.earned(0), 200 * price_of(43 * SECOND + SECOND / 2));
    assert_eq!(stage.earned(2), 200 * price_of(30 * SECOND));
    stage.pass(GRANT_MS);
    assert_eq!(stage.reserve(&demo), 0);
    stage.commit();
    stage.disk.audit().unwrap();
}

#[test]
fn a_bound_waits_for_the_packagers_report_but_not_for_ever() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewers = [stage.join(1, &demo), stage.join(2, &demo)];
    for viewer in &viewers {
        stage.grant(viewer, 0).unwrap();
    }
    // The packager does not reach the tracker for a while.
    stage.pass(100_000);
    stage.ledger.close(viewers[0].session, stage.now);
    stage.pass(60_000);
    let voucher = viewers[0].voucher(edge(0), 150 * SECOND);
    assert!(stage.bring(&voucher).unwrap_err().may_pass_later());
    stage.publish(&demo, 280 * SECOND);
    stage.pass(FREEZE_AFTER_MS);
    stage.bring(&voucher).expect("it was published while the viewer watched");
    stage.ledger.close(viewers[1].session, stage.now);
    stage.pass(FREEZE_WAIT_MS);
    assert!(stage.ledger.session(viewers[1].session).unwrap().bound().is_some());
}

#[test]
fn a_lane_that_ends_before_the_other_leaves_its_reserve_to_it() {
    let (mut stage, demo) = Stage::live(PRICE, PLENTY, PLENTY);
    let viewer = stage.join(1, &demo);
    stage.grant(&viewer, 0).unwrap();
    stage.pass(60_000);
    stage.publish(&demo, 180 * SECOND);
    stage.grant(&viewer, 2).unwrap();
    stage.ledger.close(viewer.session, stage.now);
    stage.pass(FREEZE_AFTER_MS);
    stage.publish(&demo, 190 * SECOND);
    stage.pass(FREEZE_AFTER_MS);
    stage.pass(GRANT_MS + VOUCHER_LATE_MS - 70_000);
    assert!(stage.ledger.lane(viewer.session, edge(0)).unwrap().state().settled);
    stage.bring(&viewer.voucher(edge(2), 130 * SECOND)).expect("all of it from one edge");
    assert_eq!(stage.earned(2), price_of(130 * SECOND));
}

#[test]
fn even_a_small_first_grant_lasts_until_the_next() {
    // A gibibyte's worth.
    let (mut stage, demo) = Stage::live(PRICE, i64::from(PRICE), PLENTY);
    let viewer = stage.join(1, &demo);
    let first = stage.grant(&viewer, 0).unwrap();
    assert_eq!(first.cap_bytes, RATE.bytes_in_ms(FIRST_COVER_MIN_MS));
    stage.bring(&viewer.voucher(edge(0), first.cap_bytes / 2)).unwrap();
    let second = stage.grant(&viewer, 0).unwrap();
    assert!(second.cap_bytes > 2 * first.cap_bytes, "and grows: {second:?}");
}
