//! Who is let in.

use std::time::Duration;

use bytes::Bytes;
use millstream_lane::{Input, Output, Reach, limits::*};
use millstream_model::{Fingerprint, SessionId, StreamId};
use millstream_wire::{
    frame::{Frame, Reason, Subscription},
    session::{Grant, Hello},
    sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
};

use crate::world::{VIDEO, WALL, World, edge, grant, hello, hello_frame, signed};

fn refused(frame: &Frame, reason: Reason, text: &str) {
    let mut world = World::silent();
    world.say(frame);
    assert_eq!(world.refused(reason), text);
    let opened = world.outputs.iter().any(|output| matches!(output, Output::Open(_)));
    assert!(!opened, "nothing is asked of anybody for a stranger");
    assert_eq!(world.frames.len(), 1, "a stranger hears the refusal and nothing else");
}

#[test]
fn a_good_hello_is_welcomed_with_the_window_and_the_description() {
    let mut world = World::silent();
    world.say(&hello_frame(&grant(), &hello()));
    let window = u32::try_from(WINDOW_MIN).unwrap();
    assert_eq!(
        world.frames,
        [Frame::Welcome { protocol: 1, window }, Frame::Ping(0), Frame::Ping(1)],
        "the pings stand for delegation and catalog"
    );
    assert!(matches!(&world.outputs[0], Output::Open(opened) if **opened == grant()));
    assert_eq!(world.closed, None);
}

#[test]
fn another_version_is_refused() {
    let mut frame = hello_frame(&grant(), &hello());
    if let Frame::Hello { protocol, .. } = &mut frame {
        *protocol = 2;
    }
    refused(&frame, Reason::Protocol, "this edge speaks version 1");
}

#[test]
fn a_forged_grant_is_refused() {
    let mut frame = hello_frame(&grant(), &hello());
    if let Frame::Hello { grant: shown, .. } = &mut frame {
        *shown = Signed::new(grant(), Context::None, &SecretKey::from_seed(&[9; 32]));
    }
    refused(&frame, Reason::Grant, "the grant is not signed by the tracker");
}

#[test]
fn a_grant_for_another_edge_or_by_another_tracker_is_refused() {
    let other = SecretKey::from_seed(&[9; 32]).public();
    let grant_for = Grant { edge: other, ..grant() };
    refused(&hello_frame(&grant_for, &hello()), Reason::Grant, "the grant is for another edge");
    let grant_by = Grant { tracker: other, ..grant() };
    let text = "the grant is by another tracker than this edge's";
    refused(&hello_frame(&grant_by, &hello()), Reason::Grant, text);
}

#[test]
fn an_expired_grant_is_refused() {
    let expired = Grant { expires: WALL, ..grant() };
    let mut world = World::silent();
    world.wait(Duration::from_millis(CLOCK_MS));
    world.say(&hello_frame(&expired, &hello()));
    assert_eq!(world.refused(Reason::Grant), "the grant has expired");
}

#[test]
fn while_the_tracker_is_out_of_reach_an_expired_grant_is_honoured_for_a_quarter_of_an_hour() {
    for (after_ms, good) in [(GRACE_MS - 1, true), (GRACE_MS, false)] {
        let mut world = World::silent();
        world.handle(Input::Tracker(Reach::Out));
        world.wall = grant().expires.plus_millis(after_ms);
        world.say(&hello_frame(&grant(), &hello()));
        assert_eq!(world.closed.is_none(), good, "{after_ms}");
    }
}

#[test]
fn a_hello_by_another_key_is_refused() {
    let thief = SessionSecret::from_bytes(&[8; 32]).unwrap();
    let frame = Frame::Hello {
        protocol: 1,
        grant: signed(&grant()),
        hello: Signed::new(hello(), Context::None, &thief),
    };
    refused(&frame, Reason::Hello, "the hello is not signed by the session's key");
}

#[test]
fn a_hello_that_was_made_for_another_connection_is_refused() {
    let stolen = Hello { fingerprint: Fingerprint([6; 32]), ..hello() };
    refused(&hello_frame(&grant(), &stolen), Reason::Hello, "the hello is for another connection");
}

#[test]
fn a_hello_for_another_session_or_edge_is_refused() {
    let text = "the hello is for another session or edge";
    let session = Hello { session: SessionId([9; 16]), ..hello() };
    refused(&hello_frame(&grant(), &session), Reason::Hello, text);
    let edge = Hello { edge: SecretKey::from_seed(&[9; 32]).public(), ..hello() };
    refused(&hello_frame(&grant(), &edge), Reason::Hello, text);
}

#[test]
fn nothing_but_a_hello_is_answered_first() {
    for frame in [Frame::Ping(1), Frame::Subscribe { rendition: VIDEO, want: Subscription::Pieces, from: 0 }]
    {
        refused(&frame, Reason::Hello, "the first frame is the hello");
    }
    let mut world = World::silent();
    world.handle(Input::Message(Bytes::from_static(&[0x7f, 1, 2])));
    world.refused(Reason::Malformed);
}

#[test]
fn who_says_nothing_has_ten_seconds() {
    let mut world = World::silent();
    world.wait(Duration::from_millis(HELLO_MS - 1));
    assert_eq!(world.closed, None);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.refused(Reason::Silence), "no hello");
}

#[test]
fn unknown_extensions_do_not_prolong_the_time_to_say_hello() {
    let mut world = World::silent();
    world.wait(Duration::from_millis(HELLO_MS - 1));
    world.handle(Input::Message(Bytes::from_static(&[0x80])));
    world.wait(Duration::from_millis(1));
    world.refused(Reason::Silence);
}

#[test]
fn what_is_said_together_with_the_hello_is_heard_after_the_welcome() {
    let mut world = World::silent();
    world.shelf.parts.insert((VIDEO, 0), 1_000);
    let local = world.now;
    // The program takes its time: the answer to `Open` comes later than the subscription.
    world.lane.handle(Input::Message(hello_frame(&grant(), &hello()).encode()), local, WALL);
    let subscribe = Frame::Subscribe { rendition: VIDEO, want: Subscription::Pieces, from: 0 };
    world.lane.handle(Input::Message(subscribe.encode()), local, WALL);
    world.drain();
    assert!(matches!(world.frames[0], Frame::Welcome { .. }));
    assert_eq!(world.pieces(), [(0, 0)]);
}

#[test]
fn a_second_hello_is_refused() {
    let mut world = World::open(&grant());
    world.say(&hello_frame(&grant(), &hello()));
    assert_eq!(world.refused(Reason::Malformed), "a second hello");
}

#[test]
fn a_viewer_that_has_gone_silent_is_pinged_and_then_let_go() {
    let mut world = World::open(&grant());
    world.wait(Duration::from_millis(SILENCE_MS - 1));
    let pings = world.frames.iter().filter(|frame| matches!(frame, Frame::Ping(_))).count();
    assert_eq!(pings, 2);
    assert_eq!(world.closed, None);
    world.wait(Duration::from_millis(1));
    world.refused(Reason::Silence);
}

#[test]
fn a_viewer_that_answers_pings_stays_and_its_round_trip_is_known() {
    let mut world = World::open(&Grant { expires: WALL.plus_millis(10_000_000), ..grant() });
    for _ in 0..20 {
        world.frames.clear();
        world.wait(Duration::from_millis(PING_MS));
        let [Frame::Ping(value)] = world.frames[..] else { panic!("{:?}", world.frames) };
        world.wait(Duration::from_millis(30));
        world.say(&Frame::Pong(value));
    }
    assert_eq!(world.closed, None);
    assert_eq!(world.lane.stats().rtt_us, 30_000);
}

#[test]
fn a_ping_is_answered_with_its_value() {
    let mut world = World::open(&grant());
    world.say(&Frame::Ping(77));
    assert_eq!(world.frames, [Frame::Pong(77)]);
}

#[test]
fn a_grant_that_runs_out_ends_the_lane() {
    let mut world = World::open(&grant());
    for _ in 0..12 {
        world.say(&Frame::Ping(0));
        world.wait(Duration::from_secs(10));
    }
    assert_eq!(world.closed, None, "120 s, and clocks may differ");
    world.say(&Frame::Ping(0));
    world.wait(Duration::from_millis(CLOCK_MS));
    assert_eq!(world.refused(Reason::Grant), "the grant has expired");
}

#[test]
fn while_the_tracker_is_away_the_lane_goes_on_and_viewers_have_a_minute_after_its_return() {
    let mut world = World::open(&grant());
    world.handle(Input::Tracker(Reach::Out));
    let minute = |world: &mut World| {
        for _ in 0..6 {
            world.say(&Frame::Ping(0));
            world.wait(Duration::from_secs(10));
        }
    };
    for _ in 0..10 {
        minute(&mut world);
    }
    assert_eq!(world.closed, None);
    world.handle(Input::Tracker(Reach::Since(world.now)));
    for _ in 0..5 {
        world.say(&Frame::Ping(0));
        world.wait(Duration::from_secs(10));
    }
    let renewed = Grant { serial: 2, expires: world.wall.plus_millis(120_000), ..grant() };
    world.say(&Frame::Grant(signed(&renewed)));
    minute(&mut world);
    assert_eq!(world.closed, None);
    minute(&mut world);
    world.say(&Frame::Ping(0));
    world.wait(Duration::from_secs(10));
    world.refused(Reason::Grant);
}

#[test]
fn a_viewer_that_does_not_renew_after_the_return_is_let_go() {
    let mut world = World::open(&Grant { expires: WALL.plus_millis(1_000), ..grant() });
    world.handle(Input::Tracker(Reach::Out));
    for _ in 0..6 {
        world.say(&Frame::Ping(0));
        world.wait(Duration::from_secs(10));
    }
    world.handle(Input::Tracker(Reach::Since(world.now)));
    for _ in 0..6 {
        assert_eq!(world.closed, None);
        world.say(&Frame::Ping(0));
        world.wait(Duration::from_secs(10));
    }
    world.refused(Reason::Grant);
}

#[test]
fn a_renewal_must_be_of_this_lane() {
    let renewed = Grant { serial: 2, ..grant() };
    let other_key = SessionSecret::from_bytes(&[8; 32]).unwrap().public();
    let bad = [
        Grant { session: SessionId([9; 16]), ..renewed.clone() },
        Grant { key: other_key, ..renewed.clone() },
        Grant { stream: StreamId::new("other").unwrap(), ..renewed.clone() },
        Grant { edge: SecretKey::from_seed(&[9; 32]).public(), ..renewed.clone() },
        Grant { price: millstream_model::Price(2), ..renewed.clone() },
        Grant { cap_bytes: 1, ..renewed.clone() },
    ];
    for grant_shown in bad {
        let mut world = World::open(&grant());
        world.say(&Frame::Grant(signed(&grant_shown)));
        world.refused(Reason::Grant);
    }
    let mut world = World::open(&grant());
    world.say(&Frame::Grant(Signed::new(renewed.clone(), Context::None, &edge())));
    assert_eq!(world.refused(Reason::Grant), "the grant is not signed by the tracker");
    let mut world = World::open(&grant());
    world.say(&Frame::Grant(signed(&grant())));
    assert_eq!(world.closed, None, "the same serial again changes nothing");
    world.say(&Frame::Grant(signed(&renewed)));
    assert_eq!(world.lane.grant().unwrap().unverified().serial, 2);
}

#[test]
fn a_viewer_that_leaves_with_a_reason_is_heard() {
    let mut world = World::open(&grant());
    world.say(&Frame::Refuse { reason: Reason::Bad, text: "two bad pieces".into() });
    assert_eq!(world.closed, Some((Reason::Bad, "two bad pieces".into(), true)));
    assert!(world.frames.is_empty());
}

#[test]
fn frames_that_edges_send_are_refused_from_a_viewer() {
    for frame in
        [Frame::Welcome { protocol: 1, window: 1 }, Frame::Gap { rendition: VIDEO, from: 0, next: 1 }]
    {
        let mut world = World::open(&grant());
        world.say(&frame);
        world.refused(Reason::Malformed);
    }
}

#[test]
fn a_flood_of_frames_is_refused_and_a_busy_viewer_is_not() {
    let mut world = World::open(&grant());
    for _ in 0..20 {
        for _ in 0..FRAMES_PER_SECOND {
            world.say(&Frame::Ping(0));
        }
        world.wait(Duration::from_secs(1));
    }
    assert_eq!(world.closed, None);
    for _ in 0..=FRAMES_BURST {
        if world.closed.is_none() {
            world.say(&Frame::Ping(0));
        }
    }
    assert_eq!(world.refused(Reason::Malformed), "too many frames");
}

#[test]
fn an_edge_that_stops_says_goodbye_and_turns_new_ones_away() {
    let within = Duration::from_secs(5);
    let mut world = World::open(&grant());
    world.handle(Input::Goaway { within });
    assert_eq!(world.frames, [Frame::Goaway { reason: Reason::Shutdown, within_ms: 5_000 }]);
    assert_eq!(world.closed, None);
    let mut world = World::silent();
    world.handle(Input::Goaway { within });
    world.refused(Reason::Shutdown);
}

#[test]
fn a_viewer_without_room_or_stream_is_told_so() {
    let mut world = World::silent();
    let now = world.now;
    world.lane.handle(Input::Message(hello_frame(&grant(), &hello()).encode()), now, WALL);
    assert!(matches!(world.lane.poll(), Some(Output::Open(_))));
    world.handle(Input::Dismiss { reason: Reason::Full, text: "no room".into() });
    assert_eq!(world.refused(Reason::Full), "no room");
}
