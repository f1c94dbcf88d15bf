//! What a viewer is sent, and in which order.

use std::time::Duration;

use millstream_lane::{Input, Output, limits::*};
use millstream_model::PIECE_BYTES;
use millstream_wire::frame::{Frame, Reason, Subscription::*};

use crate::world::{AUDIO, VIDEO, World, grant, pieces_of};

const PART: u32 = 100_000;

#[test]
fn a_subscription_to_pieces_brings_records_and_pieces_as_they_come() {
    let mut world = World::open(&grant());
    world.subscribe(VIDEO, Pieces, 0);
    assert!(world.outputs.contains(&Output::Subscribe { rendition: VIDEO, want: Pieces }));
    for number in 0..3 {
        world.part(VIDEO, number, PART);
        assert_eq!(world.records(VIDEO).last(), Some(&number));
        assert!(world.pieces().ends_with(&pieces_of(number, PART)));
    }
    assert_eq!(world.bytes(), 3 * u64::from(PART));
    assert_eq!(world.lane.credit().unwrap().sent(), 3 * u64::from(PART));
}

#[test]
fn a_subscription_to_records_brings_no_pieces() {
    let mut world = World::open(&grant());
    world.subscribe(VIDEO, Records, 0);
    world.part(VIDEO, 0, PART);
    world.part(VIDEO, 1, PART);
    assert_eq!(world.records(VIDEO), [0, 1]);
    assert_eq!(world.pieces(), []);
}

#[test]
fn a_subscription_starts_where_the_viewer_says_or_with_the_newest_segment() {
    let mut world = World::open(&grant());
    for number in 0..10 {
        world.shelf.parts.insert((VIDEO, number), 100);
    }
    world.shelf.start = 8;
    world.subscribe(VIDEO, Records, 0);
    assert_eq!(world.records(VIDEO), [8, 9]);
    world.frames.clear();
    world.subscribe(VIDEO, Pieces, 6);
    assert_eq!(world.records(VIDEO), [6, 7, 8, 9]);
    assert_eq!(world.pieces().len(), 4);
}

#[test]
fn records_of_all_renditions_go_before_pieces_of_any() {
    let mut world = World::open(&grant());
    for rendition in [VIDEO, AUDIO] {
        world.shelf.parts.insert((rendition, 0), PART);
        world.lane.handle(
            Input::Message(Frame::Subscribe { rendition, want: Pieces, from: 0 }.encode()),
            world.now,
            world.wall,
        );
    }
    world.drain();
    let kinds: String = world
        .frames
        .iter()
        .map(|frame| if matches!(frame, Frame::Piece { .. }) { 'p' } else { 'r' })
        .collect();
    assert_eq!(kinds, "rrpppp");
}

#[test]
fn a_hole_in_the_records_is_announced() {
    let mut world = World::open(&grant());
    world.subscribe(VIDEO, Records, 5);
    world.part(VIDEO, 5, 100);
    world.part(VIDEO, 9, 100);
    let gap = Frame::Gap { rendition: VIDEO, from: 6, next: 9 };
    let at = world.frames.iter().position(|frame| *frame == gap).unwrap();
    assert_eq!(world.records(VIDEO), [5, 9]);
    assert_eq!(at, 1, "before the record that follows");
}

#[test]
fn a_piece_that_is_on_its_way_is_sent_when_it_comes_and_holds_up_nothing_else() {
    let mut world = World::open(&grant());
    world.subscribe(VIDEO, Pieces, 0);
    world.subscribe(AUDIO, Pieces, 0);
    world.shelf.coming.insert((VIDEO, 0, 1));
    world.part(VIDEO, 0, PART);
    world.part(AUDIO, 0, 500);
    assert_eq!(world.pieces(), [(0, 0), (0, 0)]);
    world.shelf.coming.clear();
    world.handle(Input::Changed);
    assert_eq!(world.pieces().last(), Some(&(0, 1)));
}

#[test]
fn a_pushed_piece_that_will_not_come_is_called_missing() {
    let mut world = World::open(&grant());
    world.subscribe(VIDEO, Pieces, 0);
    world.shelf.absent.insert((VIDEO, 0, 1));
    world.part(VIDEO, 0, 200_000);
    assert_eq!(world.pieces(), [(0, 0)]);
    assert_eq!(world.missing(), [(0, 1, 3)]);
    assert_eq!(world.lane.stats().dropped, 1);
}

#[test]
fn a_request_is_answered_with_what_is_here_and_missing_for_what_is_not() {
    let mut world = World::open(&grant());
    world.shelf.parts.insert((VIDEO, 0), 200_000);
    world.request(VIDEO, 0, 1, 2);
    assert_eq!(world.pieces(), [(0, 1), (0, 2)]);
    assert_eq!(world.missing(), []);
    world.request(VIDEO, 7, 0, 2);
    assert_eq!(world.missing(), [(7, 0, 2)]);
}

#[test]
fn a_request_for_what_is_coming_waits_a_second() {
    let mut world = World::open(&grant());
    world.shelf.parts.insert((VIDEO, 0), 100);
    world.shelf.coming.insert((VIDEO, 0, 0));
    world.request(VIDEO, 0, 0, 1);
    world.request(VIDEO, 0, 0, 1);
    world.wait(Duration::from_millis(REQUEST_MS - 1));
    assert_eq!((world.pieces(), world.missing()), (vec![], vec![]));
    world.wait(Duration::from_millis(1));
    assert_eq!(world.missing(), [(0, 0, 1), (0, 0, 1)]);
    world.shelf.coming.clear();
    world.handle(Input::Changed);
    assert_eq!(world.pieces(), []);
}

#[test]
fn a_request_goes_before_what_is_pushed_and_is_not_pushed_again() {
    let mut world = World::open(&grant());
    world.handle(Input::Busy);
    world.subscribe(VIDEO, Pieces, 0);
    for number in 0..3 {
        world.part(VIDEO, number, PART);
    }
    world.request(VIDEO, 2, 0, 2);
    world.handle(Input::Writable);
    assert_eq!(world.pieces(), [(2, 0), (2, 1), (0, 0), (0, 1), (1, 0), (1, 1)]);
}

#[test]
fn more_requests_than_a_viewer_needs_are_missing_at_once() {
    let mut world = World::open(&grant());
    world.handle(Input::Busy);
    for number in 0..REQUESTS_MAX as u64 + 3 {
        world.shelf.parts.insert((VIDEO, number), 10);
        world.request(VIDEO, number, 0, 1);
    }
    assert_eq!(world.lane.waiting().0, REQUESTS_MAX);
    assert_eq!(world.missing(), [(64, 0, 1), (65, 0, 1), (66, 0, 1)]);
}

#[test]
fn a_cancelled_part_is_neither_answered_nor_pushed() {
    let mut world = World::open(&grant());
    world.handle(Input::Busy);
    world.subscribe(VIDEO, Pieces, 0);
    world.part(VIDEO, 0, PART);
    world.part(VIDEO, 1, PART);
    world.request(VIDEO, 0, 0, 1);
    world.say(&Frame::Cancel { rendition: VIDEO, number: 0 });
    world.handle(Input::Writable);
    assert_eq!(world.pieces(), pieces_of(1, PART));
}

#[test]
fn the_end_of_a_subscription_is_the_end_of_its_pushes() {
    let mut world = World::open(&grant());
    world.handle(Input::Busy);
    world.subscribe(VIDEO, Pieces, 0);
    world.part(VIDEO, 0, PART);
    world.subscribe(VIDEO, Nothing, 0);
    world.handle(Input::Writable);
    world.part(VIDEO, 1, PART);
    assert_eq!(world.pieces(), []);
    assert_eq!(world.records(VIDEO), [0]);
    assert_eq!(world.lane.subscribed().count(), 0);
}

#[test]
fn a_slow_viewer_gets_every_record_and_the_newest_parts_whole() {
    let mut world = World::open(&grant());
    world.room = Some(0);
    world.subscribe(VIDEO, Pieces, 0);
    // One piece of part 0 goes out, then the transport is full for five seconds.
    for number in 0..20 {
        world.part(VIDEO, number, PART);
    }
    assert_eq!(world.records(VIDEO), (0..20).collect::<Vec<_>>());
    assert_eq!(world.pieces(), [(0, 0)]);
    let dropped = world.missing();
    assert_eq!(dropped, [(1, 0, 2), (2, 0, 2), (3, 0, 2), (4, 0, 2)], "old, whole, not begun");
    world.room = None;
    world.handle(Input::Writable);
    let mut rest = vec![(0, 1)];
    rest.extend((5..20).flat_map(|number| pieces_of(number, PART)));
    assert_eq!(world.pieces()[1..], rest);
}

#[test]
fn a_viewer_that_starts_behind_live_is_sent_all_of_what_it_asked_for() {
    let mut world = World::open(&grant());
    for number in 0..40 {
        world.shelf.parts.insert((VIDEO, number), 30_000);
    }
    world.subscribe(VIDEO, Pieces, 1);
    assert_eq!(world.missing(), []);
    assert_eq!(world.pieces().len(), 39);
}

#[test]
fn what_waits_to_be_pushed_is_bounded_in_bytes_too() {
    let mut world = World::open(&grant());
    world.handle(Input::Busy);
    world.subscribe(VIDEO, Pieces, 0);
    for number in 0..4 {
        world.part(VIDEO, number, 3 << 20);
    }
    assert_eq!(world.lane.waiting().1, 2);
    world.part(VIDEO, 4, 16 << 20);
    assert_eq!(world.lane.waiting().1, 1, "one part is always allowed, however large");
}

#[test]
fn more_subscriptions_than_renditions_are_refused() {
    let mut world = World::open(&grant());
    for id in 0..=32 {
        world.subscribe(millstream_model::RenditionId(id), Records, 0);
    }
    world.refused(Reason::Malformed);
}

#[test]
fn a_description_is_sent_again_only_when_it_changed() {
    let mut world = World::open(&grant());
    let frame = |value| Frame::Ping(value).encode();
    world.handle(Input::Described { delegation: frame(0), catalog: frame(1) });
    assert_eq!(world.frames, []);
    world.handle(Input::Described { delegation: frame(0), catalog: frame(2) });
    assert_eq!(world.frames, [Frame::Ping(2)]);
}

#[test]
fn no_more_is_asked_for_than_the_transport_takes() {
    let mut world = World::open(&grant());
    world.room = Some(2);
    world.subscribe(VIDEO, Pieces, 0);
    world.part(VIDEO, 0, 5 * PIECE_BYTES);
    assert_eq!(world.pieces().len(), 3, "two, and the one that found it full");
    let asked = world.outputs.iter().filter(|output| matches!(output, Output::Piece { .. })).count();
    assert_eq!(asked, 3);
}

/// Bytes of records sent so far.
fn record_bytes(world: &World) -> u64 {
    let is_record = |frame: &&Frame| matches!(frame, Frame::Request(_));
    world.frames.iter().filter(is_record).map(|frame| frame.encode().len() as u64).sum()
}

#[test]
fn who_has_all_records_sent_again_and_again_waits() {
    let mut world = World::open(&grant());
    world.handle(Input::Busy);
    // What an edge keeps: the records of these are small, so there are more.
    for number in 1..=10_000 {
        world.shelf.parts.insert((VIDEO, number), 100);
    }
    let seconds = 30;
    for _ in 0..seconds * 100 {
        world.subscribe(VIDEO, Records, 1);
        world.wait(Duration::from_millis(10));
    }
    assert!(world.closed.is_none(), "it is slow, not thrown out");
    let bytes = record_bytes(&world);
    assert!(bytes <= RECORDS_BURST + seconds * RECORDS_PER_SECOND + 1_000, "{bytes}");
    assert!(bytes >= RECORDS_BURST, "{bytes}");
    // Pieces go on meanwhile.
    world.handle(Input::Writable);
    world.request(VIDEO, 1, 0, 1);
    assert_eq!(world.pieces(), [(1, 0)]);
}

#[test]
fn records_that_had_to_wait_come_without_being_asked_for_again() {
    let mut world = World::open(&grant());
    for number in 1..=200_000 {
        world.shelf.parts.insert((VIDEO, number), 100);
    }
    world.subscribe(VIDEO, Records, 1);
    let first = world.records(VIDEO).len();
    assert!(first < 200_000);
    for _ in 0..60 {
        world.wait(Duration::from_secs(1));
        world.say(&Frame::Ping(1));
    }
    assert_eq!(world.records(VIDEO), (1..=200_000).collect::<Vec<_>>());
}

#[test]
fn a_viewer_that_switches_to_and_fro_and_starts_anew_waits_for_nothing() {
    let mut world = World::open(&grant());
    for number in 1..=240 {
        world.shelf.parts.insert((VIDEO, number), 100);
        world.shelf.parts.insert((AUDIO, number), 100);
    }
    for _ in 0..20 {
        for (rendition, other) in [(VIDEO, AUDIO), (AUDIO, VIDEO)] {
            world.frames.clear();
            world.subscribe(other, Nothing, 0);
            world.subscribe(rendition, Pieces, 1);
            assert_eq!(world.records(rendition).len(), 240);
        }
    }
}
