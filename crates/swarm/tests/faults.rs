//! What a viewer lives through when others lie, fail, or take more than their share, told in virtual time.

mod world;

use bytes::Bytes;
use millstream_model::{PIECE_BYTES, RenditionId};
use millstream_swarm::{Event, Input, Output, Resource, WantId};
use millstream_wire::{
    frame::{Frame, Reason},
    media::Record,
    sign::Signed,
};
use world::{AUDIO, LOW, Manners, VIDEO, World};

fn watching(edges: usize) -> World {
    let mut world = World::new(edges);
    world.watch(VIDEO);
    world.watch(AUDIO);
    world
}

/// The number of the oldest part known.
fn oldest(world: &World) -> u64 {
    (1_000..).find(|number| world.swarm.record(VIDEO, *number).is_some()).expect("a record is known")
}

fn known(world: &World, rendition: RenditionId) -> usize {
    (1_000..9_000).filter(|number| world.swarm.record(rendition, *number).is_some()).count()
}

fn want(world: &mut World, resource: Resource) -> WantId {
    let want = WantId(900_000);
    world.swarm.handle(Input::Want { want, resource }, world.now);
    want
}

/// The pieces of a part, as an edge sends them.
fn pieces(world: &World, rendition: RenditionId, number: u64) -> Vec<Frame> {
    let data = world.media[&(rendition, number)].clone();
    let piece = |(index, bytes): (u32, &[u8])| Frame::Piece {
        rendition,
        number,
        index,
        data: Bytes::copy_from_slice(bytes),
    };
    (0..).zip(data.chunks(PIECE_BYTES as usize)).map(piece).collect()
}

fn lost(world: &World, why: Reason) -> usize {
    world.count(|event| matches!(event, Event::EdgeLost { reason: Some(reason), .. } if *reason == why))
}

/// Bytes that came from an edge and are not paid.
fn in_vain(world: &World, n: usize) -> u64 {
    let stats = world.swarm.stats();
    stats.edges[n].received - stats.edges[n].payable
}

#[test]
fn a_part_that_comes_wrong_is_asked_for_with_patience_and_then_given_up() {
    let mut world = watching(0);
    world.run(3_000);
    world.pause(true);
    world.run(100);
    world.origin_lies = true;
    let number = oldest(&world);
    let want = want(&mut world, Resource::Part { rendition: "video".into(), number });
    world.run(20_000);
    let asked = world.asked.iter().filter(|url| url.contains(&format!("/video/p{number}.m4s"))).count();
    assert_eq!((asked, &world.refused[..]), (5, &[(want, 502)][..]));
}

#[test]
fn an_answer_that_brings_no_record_is_none() {
    let mut world = watching(0);
    world.run(3_000);
    world.origin_lies = true;
    let before = world.asked.len();
    world.pause(true);
    world.run(6_000);
    let asked = world.asked.len() - before;
    assert!(asked < 40, "{asked} requests in six seconds");
    world.origin_lies = false;
    world.run(7_000);
    world.pause(false);
    world.run(6_000);
    assert!(world.player[&VIDEO].played > 16, "{}", world.player[&VIDEO].played);
}

#[test]
fn a_start_that_says_nothing_is_asked_for_again() {
    let mut world = World::new(0);
    world.origin_lies = true;
    world.watch(VIDEO);
    world.run(5_000);
    assert!((3..10).contains(&world.asked.len()), "{:?}", world.asked);
    world.origin_lies = false;
    world.run(12_000);
    assert!(world.player[&VIDEO].played > 8, "{}", world.player[&VIDEO].played);
}

#[test]
fn an_edge_is_not_paid_for_what_nobody_asked_it_for_and_is_left_when_it_goes_on() {
    let mut world = World::new(2);
    world.watch(VIDEO);
    world.run(8_000);
    let payable = |world: &World| world.swarm.stats().edges[1].payable;
    let before = payable(&world);
    let newest = 1_000 + world.records[&AUDIO].len() as u64;
    for number in newest - 20..newest {
        let of = |record: &&Signed<Record>| record.unverified().number == number;
        let record = world.records[&AUDIO].iter().find(of).expect("it was published").clone();
        world.edge_says(1, &Frame::Record(record));
        for piece in pieces(&world, AUDIO, number) {
            world.edge_says(1, &piece);
        }
    }
    world.run(100);
    assert_eq!(payable(&world), before, "a rendition that nobody watches");
    for number in newest - 20..newest {
        for piece in pieces(&world, VIDEO, number) {
            world.edge_says(1, &piece);
        }
    }
    world.run(100);
    assert_eq!(payable(&world), before, "another pushes this rendition");
    assert_eq!(lost(&world, Reason::Bad), 1);
    let connects = world.edges[1].connects;
    world.run(120_000);
    assert_eq!(world.edges[1].connects, connects, "for good");
    assert_eq!(world.stalled_ms(), 0);
}

#[test]
fn what_was_on_its_way_when_the_player_left_is_paid() {
    let mut world = watching(2);
    // A part was published a millisecond ago.
    world.run(8_001);
    let before = in_vain(&world, 0);
    world.go_over(VIDEO, LOW);
    world.run(10_000);
    assert_eq!(in_vain(&world, 0), before);
    assert_eq!(world.count(|event| matches!(event, Event::EdgeLost { .. })), 0);
}

#[test]
fn a_piece_is_paid_once_even_if_it_was_forgotten_since() {
    let mut world = World::new(1);
    world.scale = 6;
    world.watch(VIDEO);
    world.run(45_000);
    let payable = |world: &World| world.swarm.stats().edges[0].payable;
    let (before, edge_bytes) = (payable(&world), world.swarm.stats().edge_bytes);
    let first = oldest(&world);
    world.publishing = false;
    world.run(100);
    let paid = payable(&world) - before;
    for number in first + 24..first + 64 {
        for piece in pieces(&world, VIDEO, number) {
            world.edge_says(0, &piece);
        }
    }
    world.run(100);
    assert_eq!(payable(&world) - before, paid);
    assert_eq!(world.swarm.stats().edge_bytes - edge_bytes, paid);
}

#[test]
fn a_request_that_was_aborted_keeps_no_past() {
    let mut world = watching(2);
    world.run(8_000);
    let number = oldest(&world);
    let want = want(&mut world, Resource::Part { rendition: "video".into(), number });
    world.swarm.handle(Input::Unwant { want }, world.now);
    world.run(120_000);
    assert_eq!(known(&world, VIDEO), known(&world, AUDIO));
    assert!(known(&world, VIDEO) < 210, "{}", known(&world, VIDEO));
}

#[test]
fn what_is_not_needed_any_more_is_taken_back() {
    let mut world = watching(2);
    world.run(5_000);
    let before = in_vain(&world, 0);
    world.edges[0].manners = Manners { late_every: 4, late_ms: 3_500, ..Manners::default() };
    world.run(30_000);
    assert!(world.edges[0].cancels > 10, "{}", world.edges[0].cancels);
    assert_eq!(in_vain(&world, 0), before);
    assert_eq!(world.stalled_ms(), 0);
}

#[test]
fn a_request_to_the_origin_ends_when_the_piece_came_from_an_edge() {
    let mut world = watching(1);
    world.run(5_000);
    world.origin_ms = 2_000;
    world.edges[0].manners = Manners { late_every: 4, late_ms: 2_000, ..Manners::default() };
    world.run(20_000);
    assert!(world.aborts > 2, "{}", world.aborts);
}

#[test]
fn an_honest_viewer_of_late_edges_is_never_refused() {
    let mut world = watching(2);
    // Just after half of the allowance: the other edge was asked, and its copy is on its way.
    for n in [0, 1] {
        world.edges[n].manners = Manners { late_every: 2, late_ms: 2_003, ..Manners::default() };
    }
    world.run(10_000);
    let stalled = world.stalled_ms();
    world.run(300_000);
    assert_eq!(lost(&world, Reason::Unpaid), 0);
    assert!(world.swarm.stats().parts_hedged > 100, "{:?}", world.swarm.stats());
    assert!(world.swarm.stats().edge_bytes > 100_000_000, "{:?}", world.swarm.stats());
    assert_eq!(world.stalled_ms(), stalled);
}

#[test]
fn an_edge_that_gives_nothing_more_on_credit_is_left_until_it_is_offered_anew() {
    let mut world = watching(2);
    world.run(8_000);
    // What it sends twice comes in vain.
    let newest = 1_000 + world.records[&VIDEO].len() as u64;
    for number in newest - 20..newest {
        for piece in pieces(&world, VIDEO, number) {
            world.edge_says(0, &piece);
        }
    }
    world.run(120_000);
    assert_eq!((lost(&world, Reason::Unpaid), world.edges[0].connects), (1, 1));
    assert_eq!(world.stalled_ms(), 0);
    assert!(world.edges[1].bytes_sent > 40_000_000, "the other one took over");
    world.swarm.handle(Input::TrackerClosed, world.now);
    world.open_tracker();
    world.run(1_000);
    assert_eq!(world.edges[0].connects, 2);
}

#[test]
fn an_edge_that_was_away_for_long_is_found_again() {
    let mut world = watching(2);
    world.run(8_000);
    world.kill_edge(0);
    world.run(200_000);
    world.revive_edge(0);
    world.run(70_000);
    assert_eq!(world.swarm.stats().edges.iter().filter(|edge| edge.ready).count(), 2);
}

#[test]
fn an_edge_that_is_offered_anew_is_tried_like_a_new_one() {
    let mut world = watching(2);
    world.run(8_000);
    world.kill_edge(0);
    world.run(200_000);
    world.swarm.handle(Input::TrackerClosed, world.now);
    world.open_tracker();
    world.run(2_000);
    world.revive_edge(0);
    world.run(8_000);
    assert_eq!(world.swarm.stats().edges.iter().filter(|edge| edge.ready).count(), 2);
}

#[test]
fn nothing_is_pushed_to_a_player_that_stands() {
    let mut world = watching(2);
    world.run(8_000);
    world.pause(true);
    world.run(10_000);
    let sent = |world: &World| world.edges.iter().map(|edge| edge.bytes_sent).sum::<u64>();
    let (before, by_http) = (sent(&world), world.origin_bytes);
    world.run(60_000);
    assert_eq!((sent(&world), world.origin_bytes), (before, by_http));
    world.pause(false);
    world.run(10_000);
    assert_eq!((world.stalled_ms(), world.origin_bytes), (0, by_http));
    assert!(sent(&world) > before + 3_000_000);
    let requests = world.edges[0].requests;
    world.run(10_000);
    assert_eq!(world.edges[0].requests, requests, "pushed again, not asked for");
}

#[test]
fn what_is_gone_is_said_to_be_gone() {
    let mut world = watching(2);
    world.run(70_000);
    let video = String::from("video");
    let gone = [
        Resource::Segment { rendition: video.clone(), segment: 50 },
        Resource::Part { rendition: video.clone(), number: 1_000 },
        Resource::Init { rendition: video, generation: 1, version: 0 },
    ];
    for resource in gone {
        while world.swarm.poll().is_some() {}
        let want = want(&mut world, resource.clone());
        let refused =
            |output: &Output| matches!(output, Output::Refuse { want: of, status: 404 } if *of == want);
        assert!(std::iter::from_fn(|| world.swarm.poll()).any(|output| refused(&output)), "{resource:?}");
    }
}

#[test]
fn a_timer_fires_only_when_something_is_to_be_done() {
    let mut world = watching(1);
    world.run(5_000);
    world.edges[0].manners.never_sends = true;
    world.origin_ms = 2_000;
    world.timeouts = 0;
    world.run(20_000);
    // Four parts a second of two renditions, each with a mark or two.
    assert!(world.timeouts < 20 * 16, "{} in twenty seconds", world.timeouts);
    let mut world = watching(2);
    world.run(5_000);
    world.player.clear();
    world.run(15_000);
    world.timeouts = 0;
    world.run(60_000);
    assert!(world.timeouts < 60 * 2, "{} in a minute in which nobody wants anything", world.timeouts);
}

#[test]
fn a_session_that_is_over_is_begun_anew() {
    let mut world = watching(2);
    world.run(8_000);
    world.session_over = true;
    world.run(80_000);
    assert_eq!((world.joins, world.resumes), (2, 0));
    let stats = world.swarm.stats();
    assert!(stats.edges.iter().any(|edge| edge.ready && edge.booked > 0), "{stats:?}");
    assert_eq!(world.stalled_ms(), 0);
}
