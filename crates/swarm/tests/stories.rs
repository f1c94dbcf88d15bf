//! What a viewer lives through, told in virtual time.

mod world;

use millstream_swarm::{Event, Input, Output, Resource, Source, WantId};
use millstream_wire::tracker::ToViewer;
use world::{AUDIO, LOW, Manners, PART_MS, PARTS_PER_SEGMENT, VIDEO, World};

fn watching(edges: usize) -> World {
    let mut world = World::new(edges);
    world.watch(VIDEO);
    world.watch(AUDIO);
    world
}

#[test]
fn it_starts_by_http_and_lives_on_pushed_pieces() {
    let mut world = watching(2);
    world.run(5_000);
    let at_first = world.origin_bytes;
    assert!(at_first > 0, "the first parts come by HTTP while channels open");
    world.run(20_000);
    assert_eq!(world.origin_bytes, at_first, "nothing more comes from the origin");
    assert_eq!(world.stalled_ms(), 0);
    assert!(world.player[&VIDEO].played > 80);
    let stats = world.swarm.stats();
    assert!(stats.edge_bytes > 8_000_000, "{stats:?}");
    assert_eq!(stats.pieces_rejected, 0);
    assert_eq!(world.edges[1].bytes_sent, 0, "the edge that stands by sends no pieces");
}

#[test]
fn what_the_player_asks_for_is_asked_for_at_once() {
    let mut world = watching(0);
    world.run(3_000);
    // The oldest part known lies behind where the player began: nobody has brought it.
    let number = (1_000..).find(|number| world.swarm.record(VIDEO, *number).is_some()).unwrap();
    while world.swarm.poll().is_some() {}
    let resource = Resource::Part { rendition: "video".into(), number };
    world.swarm.handle(Input::Want { want: WantId(9_999), resource }, world.now);
    let wanted = format!("/video/p{number}.m4s");
    let outputs: Vec<Output> = std::iter::from_fn(|| world.swarm.poll()).collect();
    let asked =
        outputs.iter().any(|output| matches!(output, Output::Fetch { url, .. } if url.contains(&wanted)));
    assert!(asked, "{outputs:?}");
}

#[test]
fn an_init_segment_is_that_of_its_own_generation() {
    let mut world = watching(0);
    world.run(3_000);
    let mut ask = |generation| {
        let resource = Resource::Init { rendition: "video".into(), generation, version: 1 };
        world.swarm.handle(Input::Want { want: WantId(9_000 + generation), resource }, world.now);
        let answers = |output: &Output| matches!(output, Output::Deliver { .. } | Output::Refuse { .. });
        std::iter::from_fn(|| world.swarm.poll()).filter(answers).last().unwrap()
    };
    assert!(matches!(ask(1), Output::Deliver { want: WantId(9_001), .. }));
    assert!(matches!(ask(2), Output::Refuse { want: WantId(9_002), status: 404 }));
}

#[test]
fn without_edges_everything_comes_by_http_and_is_verified() {
    let mut world = watching(0);
    world.run(20_000);
    assert!(world.stalled_ms() < 500, "{}", world.stalled_ms());
    assert!(world.player[&VIDEO].played > 60, "{}", world.player[&VIDEO].played);
    assert!(world.swarm.stats().pieces_verified > 100);
}

#[test]
fn a_primary_that_dies_costs_no_stall() {
    let mut world = watching(2);
    world.run(8_000);
    world.kill_edge(0);
    world.run(12_000);
    assert_eq!(world.stalled_ms(), 0);
    assert!(world.edges[1].bytes_sent > 1_000_000, "the other edge took over");
}

#[test]
fn an_edge_that_was_restarted_is_found_again() {
    let mut world = watching(2);
    world.run(8_000);
    let ready = |world: &World| world.swarm.stats().edges.iter().filter(|edge| edge.ready).count();
    for n in [0, 1] {
        world.restart_edge(n);
        world.run(10_000);
        assert_eq!(
            world.count(|event| matches!(event, Event::EdgeLost { .. })),
            n,
            "not for a short silence"
        );
        world.run(15_000);
        assert_eq!(ready(&world), 2);
        assert_eq!(world.stalled_ms(), 0);
    }
}

#[test]
fn when_both_edges_are_gone_the_origin_carries_on() {
    let mut world = watching(2);
    world.run(8_000);
    world.kill_edge(0);
    world.kill_edge(1);
    world.run(20_000);
    assert!(world.stalled_ms() <= 1_000, "{}", world.stalled_ms());
    assert!(world.player[&VIDEO].played > 90);
}

#[test]
fn a_primary_that_pushes_nothing_is_replaced() {
    let mut world = watching(2);
    world.edges[0].manners = Manners { never_sends: true, ..Manners::default() };
    world.run(15_000);
    assert_eq!(world.stalled_ms(), 0);
    let second = world.edge_id(1);
    assert!(world.count(|event| matches!(event, Event::Primary { edge, .. } if *edge == second)) > 0);
    let stats = world.swarm.stats();
    assert!(stats.edge_bytes > 3_000_000, "{stats:?}");
}

#[test]
fn two_bad_pieces_end_a_lane_and_are_not_paid() {
    let mut world = watching(2);
    world.edges[0].manners = Manners { corrupt_every: 10, ..Manners::default() };
    world.run(20_000);
    assert_eq!(world.stalled_ms(), 0);
    assert!(world.edges[0].refused, "the edge was told");
    let bad = world.edge_id(0);
    let from_it =
        |event: &Event| matches!(event, Event::BadPiece { source: Source::Edge(edge), .. } if *edge == bad);
    assert_eq!(world.count(from_it), 2);
    let stats = world.swarm.stats();
    let lane = stats.edges.iter().find(|lane| lane.edge == bad).unwrap();
    assert!(lane.payable < lane.received, "{lane:?}");
}

#[test]
fn vouchers_say_exactly_what_was_verified_and_used() {
    let mut world = watching(2);
    world.run(30_000);
    let stats = world.swarm.stats();
    let payable: u64 = stats.edges.iter().map(|lane| lane.payable).sum();
    assert_eq!(payable, stats.edge_bytes, "each byte once");
    let voucher = world.edges[0].voucher.clone().expect("the edge got vouchers");
    assert!(stats.edges[0].payable - voucher.payable < 2 << 20, "within one interval");
    assert!(!world.brought.is_empty());
    assert!(stats.vouchers_accepted > 0);
    let unsigned = world.edges[0].bytes_sent - voucher.received;
    assert!(unsigned <= (2 << 20) / 2, "signing stays well inside the window: {unsigned}");
}

#[test]
fn the_tracker_may_die_and_every_voucher_arrives_afterwards() {
    let mut world = watching(2);
    world.run(8_000);
    world.tracker_up = false;
    world.swarm.handle(millstream_swarm::Input::TrackerClosed, world.now);
    let before = world.brought.len();
    world.run(300_000);
    assert_eq!(world.stalled_ms(), 0);
    assert_eq!(world.brought.len(), before);
    world.tracker_up = true;
    world.open_tracker();
    world.run(12_000);
    assert_eq!((world.joins, world.resumes), (1, 1), "the session was resumed, not begun anew");
    let stats = world.swarm.stats();
    assert!(stats.edges[0].booked + (4 << 20) > stats.edges[0].payable, "{stats:?}");
}

#[test]
fn a_session_that_the_tracker_forgot_is_begun_anew() {
    let mut world = watching(2);
    world.run(8_000);
    world.swarm.handle(Input::TrackerClosed, world.now);
    world.session_over = true;
    world.open_tracker();
    let before = world.swarm.stats().edge_bytes;
    world.run(15_000);
    assert_eq!((world.joins, world.resumes), (2, 1));
    assert_eq!(world.stalled_ms(), 0);
    let stats = world.swarm.stats();
    assert!(stats.edge_bytes > before + 3_000_000, "{stats:?}");
    let session = world.brought.last().unwrap().unverified().session;
    assert_eq!(session, world.session, "what is vouched for is the new session's");
    assert!(stats.edges.iter().any(|edge| edge.booked > 0), "{stats:?}");
}

#[test]
fn a_tracker_that_was_restarted_takes_no_edge_from_a_viewer() {
    let mut world = watching(2);
    world.run(8_000);
    world.swarm.handle(Input::TrackerClosed, world.now);
    let by_http = world.origin_bytes;
    // Its edges have not come back to it yet.
    world.edges_offered = 0;
    world.open_tracker();
    world.run(20_000);
    assert_eq!(world.resumes, 1);
    assert_eq!(world.origin_bytes, by_http, "the edges go on");
    assert_eq!(world.count(|event| matches!(event, Event::EdgeLost { .. })), 0);
    // What it says later on is the whole set.
    let reassign = ToViewer::Reassign { edges: Vec::new(), reason: String::from("none is left") };
    world.swarm.handle(Input::Tracker(reassign), world.now);
    world.run(10_000);
    assert_eq!(world.count(|event| matches!(event, Event::EdgeLost { .. })), 2);
    assert!(world.origin_bytes > by_http);
}

#[test]
fn the_publisher_may_go_and_come_back() {
    let mut world = watching(2);
    world.run(8_000);
    world.publishing = false;
    world.run(5_000);
    let played = world.player[&VIDEO].played;
    world.publishing = true;
    world.run(10_000);
    assert!(world.player[&VIDEO].played > played + 30);
}

#[test]
fn whoever_leaves_vouches_for_everything_first() {
    let mut world = watching(2);
    world.run(8_300);
    let now = world.now;
    world.swarm.handle(millstream_swarm::Input::Leave, now);
    world.run(100);
    let stats = world.swarm.stats();
    let brought = world.brought.last().unwrap().unverified().payable;
    assert_eq!(brought, stats.edges[0].payable);
    assert_eq!(world.edges[0].voucher.as_ref().unwrap().payable, stats.edges[0].payable);
    assert!(!world.edges[0].connected);
}

/// Bytes of a rendition that edges sent.
fn sent_of(world: &World, rendition: millstream_model::RenditionId) -> u64 {
    world.edges.iter().filter_map(|edge| edge.sent_of.get(&rendition)).sum()
}

#[test]
fn a_rendition_that_the_player_left_costs_nothing_any_more() {
    let mut world = watching(2);
    world.run(8_000);
    let origin = world.origin_bytes;
    world.go_over(VIDEO, LOW);
    world.run(100);
    let left = sent_of(&world, VIDEO);
    world.run(6_000);
    assert_eq!(sent_of(&world, VIDEO), left, "a line that is too narrow for one has no room for two");
    assert_eq!(world.origin_bytes, origin, "what was not brought any more is not missed");
    assert_eq!(world.stalled_ms(), 0);
    assert!(sent_of(&world, LOW) > 20 * 30_000);
}

#[test]
fn a_player_that_comes_back_to_a_rendition_goes_on_at_the_live_end() {
    let mut world = watching(2);
    world.run(8_000);
    world.go_over(VIDEO, LOW);
    world.run(20_000);
    let (before, requests) = (sent_of(&world, VIDEO), world.edges[0].requests);
    world.go_over(LOW, VIDEO);
    world.run(500);
    let came = sent_of(&world, VIDEO) - before;
    assert!(came <= 2 * 8 * 100_000, "{came} bytes of what nobody plays any more");
    world.run(6_000);
    assert_eq!(world.stalled_ms(), 0);
    assert!(world.edges[0].requests - requests < 12, "what was published before is asked for, and no more");
}

#[test]
fn a_player_that_goes_over_is_pushed_the_segment_that_it_goes_on_with() {
    let mut world = watching(2);
    world.run(8_000);
    let next = world.player[&VIDEO].next.expect("it plays");
    let of =
        |number: u64| world.records[&LOW].iter().find(move |record| record.unverified().number == number);
    let record = of(next).or_else(|| of(next - 1)).expect("it was published").unverified();
    let first = record.number - u64::from(record.part);
    world.go_over(VIDEO, LOW);
    world.run(8_000);
    assert_eq!(world.edges[0].from[&LOW], first);
    assert!(world.player[&LOW].played > 20, "{}", world.player[&LOW].played);
    assert_eq!(world.stalled_ms(), 0);
}

/// hls.js takes a playlist without a whole segment for broken, and asks again a second later: on a line that has become too
/// narrow, its buffer has no second to lose.
#[test]
fn a_player_that_goes_over_has_its_playlist_at_once_wherever_in_a_segment_it_stands() {
    for parts in 0..PARTS_PER_SEGMENT {
        let mut world = watching(2);
        world.run(8_000 + parts * PART_MS);
        world.go_over(VIDEO, LOW);
        world.run(PART_MS);
        assert!(
            world.player[&LOW].next.is_some(),
            "no playlist after one part's time, {parts} parts into a segment"
        );
        world.run(6_000);
        assert_eq!(world.stalled_ms(), 0);
    }
}

#[test]
fn as_long_as_parts_come_nobody_else_is_asked_for_them() {
    let mut world = watching(2);
    // Later than half of their time, from whomever: that is what a full line looks like.
    for edge in &mut world.edges {
        edge.manners = Manners { late_every: 1, late_ms: 1_500, ..Manners::default() };
    }
    world.run(6_000);
    let asked = |world: &World| world.edges[0].requests + world.edges[1].requests;
    let (before, origin) = (asked(&world), world.origin_bytes);
    world.run(20_000);
    // 160 parts were published. Some are asked for when another edge is tried as the one that pushes.
    assert!(asked(&world) - before <= 8, "{} requests", asked(&world) - before);
    assert_eq!((world.origin_bytes, world.stalled_ms()), (origin, 0));
}
