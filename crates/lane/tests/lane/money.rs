//! Credit, vouchers and caps.

use std::time::Duration;

use millstream_lane::{Claim, Credit, Input, limits::*};
use millstream_model::SessionId;
use millstream_wire::{
    frame::{Frame, Reason, Subscription::Pieces},
    session::{Grant, Voucher},
    sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
};

use crate::world::{VIDEO, WALL, World, grant, hello, hello_frame, signed, voucher, voucher_frame};

const MIB: u64 = 1 << 20;
const PART: u32 = 1 << 20;

/// A viewer that subscribes, and parts of 1 MiB that come until `parts` were there.
fn watching(grant: &Grant, parts: u64) -> World {
    let mut world = World::open(grant);
    world.subscribe(VIDEO, Pieces, 0);
    for number in 0..parts {
        world.part(VIDEO, number, PART);
    }
    world
}

fn vouch(world: &mut World, payable: u64, received: u64) {
    world.say(&voucher_frame(&voucher(payable, received)));
}

#[test]
fn a_viewer_that_never_signs_gets_the_window_and_is_let_go() {
    let mut world = watching(&grant(), 5);
    assert_eq!(world.bytes(), WINDOW_MIN);
    for _ in 0..BLOCKED_MS / 5_000 {
        assert_eq!(world.closed, None);
        world.say(&Frame::Ping(0));
        world.wait(Duration::from_secs(5));
    }
    assert_eq!(world.refused(Reason::Unpaid), "what was sent has not been vouched for");
    assert_eq!(world.bytes(), WINDOW_MIN);
    assert_eq!(world.lane.credit().unwrap().outstanding(), WINDOW_MIN, "remembered for its return");
}

#[test]
fn pushes_stop_at_the_window_and_go_on_at_the_next_voucher() {
    let mut world = watching(&grant(), 6);
    assert_eq!(world.bytes(), 2 * MIB);
    vouch(&mut world, MIB, MIB);
    // A quarter of what was vouched for widens the window.
    assert_eq!(world.bytes(), 3 * MIB + MIB / 4);
    assert_eq!(world.brought.len(), 1);
    assert_eq!(world.lane.stats().vouchers, 1);
    vouch(&mut world, 3 * MIB, 3 * MIB);
    assert_eq!(world.bytes(), 3 * MIB + WINDOW_MIN + 3 * MIB / 4);
}

#[test]
fn who_asks_while_the_window_is_closed_is_sent_elsewhere_at_once() {
    let mut world = watching(&grant(), 3);
    world.shelf.parts.insert((VIDEO, 90), 10);
    world.request(VIDEO, 90, 0, 1);
    assert_eq!(world.missing(), [(90, 0, 1)]);
    vouch(&mut world, 2 * MIB, 2 * MIB);
    world.request(VIDEO, 90, 0, 1);
    assert_eq!(world.pieces().last(), Some(&(90, 0)));
}

#[test]
fn the_cap_of_the_grant_ends_what_is_sent_until_it_is_renewed() {
    let capped = Grant { cap_bytes: 3 * MIB + 10, ..grant() };
    let mut world = watching(&capped, 2);
    vouch(&mut world, 2 * MIB, 2 * MIB);
    world.part(VIDEO, 2, PART);
    world.part(VIDEO, 3, PART);
    assert_eq!(world.bytes(), 3 * MIB, "10 bytes are left, and a piece has more");
    let renewed = Grant { serial: 2, cap_bytes: 4 * MIB, ..capped };
    world.say(&Frame::Grant(signed(&renewed)));
    assert_eq!(world.bytes(), 4 * MIB);
    world.part(VIDEO, 4, PART);
    for _ in 0..BLOCKED_MS / 5_000 {
        assert_eq!(world.closed, None);
        world.say(&Frame::Ping(0));
        world.wait(Duration::from_secs(5));
    }
    world.refused(Reason::Cap);
    assert_eq!(world.bytes(), 4 * MIB);
}

#[test]
fn bytes_that_arrived_and_are_not_payable_leave_room_under_the_cap() {
    let mut world = watching(&Grant { cap_bytes: 2 * MIB, ..grant() }, 3);
    assert_eq!(world.bytes(), 2 * MIB);
    vouch(&mut world, 2 * MIB - MIB / 2, 2 * MIB);
    assert_eq!(world.bytes(), 2 * MIB + MIB / 2);
}

#[test]
fn a_voucher_that_claims_more_than_was_sent_is_refused() {
    let mut world = watching(&grant(), 1);
    vouch(&mut world, MIB, MIB + 1);
    assert_eq!(world.refused(Reason::Unpaid), "the voucher claims more than was sent");
    assert!(world.brought.is_empty());
}

#[test]
fn a_voucher_over_the_cap_is_refused() {
    // Only an edge that has forgotten how much it sent can meet this one.
    let mut world = World::silent();
    world.credit = Credit::forgotten(None);
    world.say(&hello_frame(&Grant { cap_bytes: MIB, serial: 7, ..grant() }, &hello()));
    vouch(&mut world, MIB + 1, MIB + 1);
    world.refused(Reason::Cap);
    assert!(world.brought.is_empty());
}

#[test]
fn a_voucher_that_takes_something_back_is_refused() {
    let mut world = watching(&grant(), 2);
    vouch(&mut world, MIB, MIB);
    vouch(&mut world, MIB - 1, 2 * MIB);
    assert_eq!(world.refused(Reason::Unpaid), "the voucher takes back an earlier one");
}

#[test]
fn vouchers_that_are_late_or_repeated_change_nothing() {
    let mut world = watching(&grant(), 2);
    for received in [MIB, MIB, MIB / 2, 2 * MIB, MIB] {
        vouch(&mut world, received, received);
    }
    assert_eq!(world.closed, None);
    let payable: Vec<u64> = world.brought.iter().map(|voucher| voucher.unverified().payable).collect();
    assert_eq!(payable, [MIB, 2 * MIB]);
}

#[test]
fn a_forged_voucher_is_refused() {
    let mut world = watching(&grant(), 1);
    let thief = SessionSecret::from_bytes(&[8; 32]).unwrap();
    let forged = Signed::new(voucher(MIB, MIB), Context::None, &thief);
    world.say(&Frame::Voucher(forged));
    assert_eq!(world.refused(Reason::Unpaid), "the voucher is not signed by the session's key");
}

#[test]
fn a_voucher_of_another_lane_is_refused() {
    let other = SecretKey::from_seed(&[9; 32]).public();
    let bad = [
        Voucher { session: SessionId([9; 16]), ..voucher(1, 1) },
        Voucher { edge: other, ..voucher(1, 1) },
        Voucher { tracker: other, ..voucher(1, 1) },
        Voucher { stream: millstream_model::StreamId::new("other").unwrap(), ..voucher(1, 1) },
    ];
    for foreign in bad {
        let mut world = watching(&grant(), 1);
        world.say(&voucher_frame(&foreign));
        assert_eq!(world.refused(Reason::Unpaid), "the voucher is for another lane");
    }
}

#[test]
fn an_unpaid_share_over_five_percent_ends_the_lane_after_the_voucher_is_brought() {
    let mut world = watching(&grant(), 2);
    vouch(&mut world, MIB - 1, 2 * MIB - 1);
    assert_eq!(world.closed, None, "a mebibyte is nobody's fault");
    vouch(&mut world, MIB - 1, 2 * MIB);
    assert_eq!(world.refused(Reason::Unpaid), "too much of what was sent is not paid for");
    assert_eq!(world.brought.len(), 2, "what it does pay for is worth having");
}

#[test]
fn a_lane_that_comes_back_goes_on_where_it_was() {
    let mut world = watching(&grant(), 3);
    let mut credit = world.lane.credit().unwrap();
    credit.reconnect();
    assert_eq!(credit.outstanding(), WINDOW_MIN);
    let mut again = World::silent();
    again.credit = credit;
    again.say(&hello_frame(&grant(), &hello()));
    again.subscribe(VIDEO, Pieces, 0);
    again.part(VIDEO, 0, PART);
    assert_eq!(again.bytes(), 0, "it never signed: coming back gains nothing");
    vouch(&mut again, 2 * MIB, 2 * MIB);
    assert_eq!(again.bytes(), MIB);
    vouch(&mut world, MIB, MIB);
}

#[test]
fn an_edge_that_was_restarted_takes_up_the_lane_at_its_next_voucher() {
    let mut world = World::silent();
    let last = Claim { payable: 40 * MIB, received: 41 * MIB, segments: 20 };
    world.credit = Credit::forgotten(Some(last));
    world.say(&hello_frame(&Grant { serial: 3, ..grant() }, &hello()));
    world.subscribe(VIDEO, Pieces, 0);
    for number in 0..4 {
        world.part(VIDEO, number, PART);
    }
    assert_eq!(world.bytes(), WINDOW_MIN);
    let next = Voucher { segments: 22, ..voucher(46 * MIB, 47 * MIB) };
    world.say(&voucher_frame(&next));
    assert_eq!(world.closed, None);
    assert_eq!(world.brought.len(), 1);
    assert_eq!(world.bytes(), 2 * WINDOW_MIN);
}

#[test]
fn a_flood_of_vouchers_is_refused() {
    let mut world = watching(&grant(), 2);
    for received in 1..=FRAMES_BURST / VOUCHER_FRAMES + 1 {
        if world.closed.is_none() {
            vouch(&mut world, received, received);
        }
    }
    assert_eq!(world.refused(Reason::Malformed), "too many frames");
}

#[test]
fn a_lane_at_its_window_with_nothing_wanted_of_it_stays() {
    let mut world = watching(&Grant { expires: WALL.plus_millis(1_000_000), ..grant() }, 3);
    world.subscribe(VIDEO, millstream_wire::frame::Subscription::Nothing, 0);
    for _ in 0..20 {
        world.say(&Frame::Ping(0));
        world.wait(Duration::from_secs(10));
    }
    assert_eq!(world.closed, None);
    world.handle(Input::Changed);
}
