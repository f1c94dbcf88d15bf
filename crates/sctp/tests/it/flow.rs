//! Who may send how much: windows that close, messages that wait for each other, and those that need not.

use std::time::Duration;

use bytes::Bytes;
use millstream_netsim::Traits;
use millstream_sctp::{Config, Outgoing, Reliability};

use crate::world::World;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn path() -> Traits {
    Traits::bottleneck(2_000_000, 10 * MS, 100 * MS)
}

/// Sends numbered messages of 10,000 bytes until `last`, as they are taken.
fn feed(world: &mut World, next: &mut u32, last: u32) {
    while *next < last {
        let bytes = Bytes::from(vec![3; 10_000]);
        let reliability = Reliability::Reliable;
        let outgoing = Outgoing { stream: 1, ppi: *next, bytes, is_unordered: false, reliability };
        if world.ends[0].association.send(outgoing, world.now).is_err() {
            return;
        }
        *next += 1;
    }
}

struct Pause {
    world: World,
    /// Messages sent in all.
    last: u32,
    /// Bytes held at most beyond the window.
    beyond: u64,
    /// Packets of the sender while nobody read.
    packets: u64,
    /// From reading on to the first message that was sent after.
    resumed: Duration,
}

/// Stops reading for 40 s.
fn pause(loss_per_million: u32) -> Pause {
    let mut world = World::opened(Traits { loss_per_million, ..path() }, 4);
    let (mut next, last) = (0, 500);
    world.run_until(SECOND, |world| {
        feed(world, &mut next, last);
        false
    });
    world.ends[1].is_reading = false;
    let window = u64::from(world.ends[1].config.receive_window_bytes);
    let mut beyond = 0;
    world.run_until(2 * SECOND, |world| {
        feed(world, &mut next, last);
        false
    });
    let before = world.ends[0].packets;
    world.run_until(38 * SECOND, |world| {
        feed(world, &mut next, last);
        let held = world.ends[1].association.stats().bytes_received - world.ends[1].received_bytes;
        beyond = beyond.max(held.saturating_sub(window));
        false
    });
    let packets = world.ends[0].packets - before;
    world.ends[1].is_reading = true;
    let start = world.now;
    let held = world.ends[1].association.stats().bytes_received;
    assert!(world.run_until(5 * SECOND, |world| {
        feed(world, &mut next, last);
        world.ends[1].received_bytes > held
    }));
    let resumed = world.now.since(start);
    world.run_until(20 * SECOND, |world| {
        feed(world, &mut next, last);
        false
    });
    Pause { world, last, beyond, packets, resumed }
}

#[test]
fn a_receiver_that_stops_reading_for_40_s_and_resumes_has_lost_nothing() {
    for loss_per_million in [0, 20_000] {
        let Pause { world, last, resumed, .. } = pause(loss_per_million);
        assert_eq!((world.closed(0), world.closed(1)), (None, None));
        let received: Vec<u32> = world.ends[1].received.iter().map(|message| message.ppi).collect();
        assert!(received.into_iter().eq(0..last), "something is missing");
        assert!(resumed < SECOND, "resumed after {resumed:?}");
    }
}

#[test]
fn a_window_that_is_shut_is_probed_now_and_then_and_not_overrun() {
    let Pause { packets, beyond, .. } = pause(0);
    assert!(packets <= 60, "{packets} packets in 38 s");
    assert!(beyond <= 2_400, "{beyond} bytes beyond the window");
}

#[test]
fn a_lost_window_update_does_not_stall_the_sender_for_long() {
    let mut world = World::opened(path(), 4);
    world.ends[1].is_reading = false;
    let (mut next, last) = (0, 100);
    world.run_until(4 * SECOND, |world| {
        feed(world, &mut next, last);
        false
    });
    let end = world.now + 20 * MS;
    world.tap = Some(Box::new(move |from, now, _| from == 1 && now < end));
    world.ends[1].is_reading = true;
    assert!(world.run_until(4 * SECOND, |world| {
        feed(world, &mut next, last);
        world.ends[1].received.len() == 100
    }));
}

#[test]
fn unordered_messages_pass_those_that_wait_with_5_percent_lost() {
    let mut world = World::opened(Traits { loss_per_million: 50_000, ..path() }, 8);
    for _ in 0..200 {
        world.send(0, 1, Bytes::from(vec![1; 3_000]), true).unwrap();
    }
    assert!(world.run_until(20 * SECOND, |world| world.ends[1].received.len() == 200));
    world.run(SECOND);
    assert_eq!(world.ends[1].received.len(), 200);
}

/// More long messages begin at once than the window holds: one must come to its end, so that the others can.
#[test]
fn long_messages_on_many_streams_do_not_hold_each_other_up_for_ever() {
    for interleaving in [false, true] {
        for loss_per_million in [0, 20_000] {
            let config = Config { interleaving, receive_window_bytes: 150_000, ..Config::default() };
            let mut world = World::with(&config, &config, Traits { loss_per_million, ..path() }, 8);
            world.open();
            for stream in 0..10 {
                world.send(0, stream, Bytes::from(vec![1; 65_600]), stream % 2 == 0).unwrap();
            }
            let is_done = world.run_until(30 * SECOND, |world| world.ends[1].received.len() == 10);
            let count = world.ends[1].received.len();
            assert!(is_done, "{count} of 10 came; interleaved: {interleaving}, lost: {loss_per_million} ppm");
        }
    }
}

#[test]
fn an_urgent_message_interrupts_a_long_one_where_both_speak_i_data() {
    for (interleaving, most) in [(true, 100 * MS), (false, 800 * MS)] {
        let config = Config { interleaving, ..Config::default() };
        let slow = Traits::bottleneck(100_000, 10 * MS, 30 * MS);
        let mut world = World::with(&config, &config, slow, 8);
        world.open();
        world.ends[0].association.set_priority(9, 1);
        world.send(0, 1, Bytes::from(vec![1; 60_000]), false).unwrap();
        world.run(100 * MS);
        world.send(0, 9, Bytes::from_static(b"urgent"), false).unwrap();
        let start = world.now;
        assert!(
            world.run_until(3 * SECOND, |world| world.ends[1]
                .received
                .iter()
                .any(|message| message.stream == 9))
        );
        let took = world.now.since(start);
        assert!(took <= most, "took {took:?}; interleaved: {interleaving}");
    }
}

#[test]
fn a_sender_is_told_when_what_it_sent_has_arrived() {
    let mut world = World::opened(path(), 8);
    world.send(0, 3, Bytes::from(vec![1; 5_000]), false).unwrap();
    world.send(0, 4, Bytes::from(vec![1; 7_000]), false).unwrap();
    let room = world.ends[0].association.room();
    assert!(world.run_until(SECOND, |world| world.is_drained()));
    let association = &mut world.ends[0].association;
    assert_eq!(association.room(), room + 12_000 + 2 * millstream_sctp::Association::CHARGE);
    let (three, four) = (association.take_released(3), association.take_released(4));
    assert_eq!((three.messages, three.bytes, four.messages, four.bytes), (1, 5_000, 1, 7_000));
    assert_eq!(association.take_released(3).messages, 0);
}

/// All behind a gap waits for it, and the window is full: the packet that fills the gap must be taken as a whole.
#[test]
fn a_gap_is_filled_though_the_window_is_full_of_what_waits_for_it() {
    for bytes in [40, 900] {
        let config = Config { receive_window_bytes: 73_728, ..Config::default() };
        let mut world = World::with(&config, &config, path(), 8);
        world.open();
        let (start, mut count) = (world.now, 0);
        // The second packet with data and what comes of it, for half a second.
        let mut lost = None;
        world.tap = Some(Box::new(move |from, now, packet| {
            let first = crate::forged::tsns(&[packet.to_vec()]).first().copied();
            let Some(first) = first.filter(|_| from == 0) else { return false };
            count += 1;
            lost = lost.or((count == 2).then_some(first));
            now.since(start) < 500 * MS && lost.is_some_and(|lost| (lost..lost + 15).contains(&first))
        }));
        let messages = 100_000 / bytes;
        for _ in 0..messages {
            world.send(0, 1, Bytes::from(vec![1; bytes]), false).unwrap();
        }
        let is_done = world.run_until(60 * SECOND, |world| world.ends[1].received.len() == messages);
        let took = world.now.since(start);
        assert!(is_done && took <= 3 * SECOND, "{} of {messages} in {took:?}", world.ends[1].received.len());
    }
}

/// What was refused is sent again when there is room, and not when its timer, which has backed off, comes to it.
#[test]
fn a_window_that_opens_lets_the_sender_go_on_at_once() {
    for bytes in [40, 900, 10_000] {
        for pause in 1..10 {
            let config = Config { receive_window_bytes: 73_728, ..Config::default() };
            let mut world = World::with(&config, &config, path(), 8);
            world.open();
            let feed =
                |world: &mut World| while world.send(0, 1, Bytes::from(vec![1; bytes]), false).is_ok() {};
            world.ends[1].is_reading = false;
            world.run_until(pause * 700 * MS, |world| {
                feed(world);
                false
            });
            world.ends[1].is_reading = true;
            let (start, before) = (world.now, world.ends[1].association.stats().bytes_received);
            let resumes = |world: &mut World| {
                feed(world);
                world.ends[1].association.stats().bytes_received >= before + 50_000
            };
            assert!(world.run_until(10 * SECOND, resumes));
            let took = world.now.since(start);
            assert!(took <= 300 * MS, "messages of {bytes}, {} ms unread: took {took:?}", pause * 700);
        }
    }
}

/// An urgent message interrupts a long one, and parts of both shut the window: a chunk each timeout would bring one to
/// its end after minutes.
#[test]
fn an_urgent_message_that_fills_the_window_with_what_it_interrupted_is_finished_soon() {
    for later in [100, 200, 300, 400, 500] {
        let config = Config { receive_window_bytes: 73_728, ..Config::default() };
        let lossy = Traits { loss_per_million: 0, ..Traits::bottleneck(100_000, 50 * MS, 100 * MS) };
        let mut world = World::with(&config, &config, lossy, 3);
        world.open();
        world.ends[0].association.set_priority(12, 1);
        world.send(0, 4, Bytes::from(vec![1; 60_000]), true).unwrap();
        world.run(later * MS);
        world.send(0, 12, Bytes::from(vec![1; 60_000]), false).unwrap();
        let start = world.now;
        let is_done = world.run_until(300 * SECOND, |world| world.ends[1].received.len() == 2);
        let took = world.now.since(start);
        // 120,000 bytes at 100,000 a second.
        assert!(is_done && took <= 3 * SECOND, "took {took:?} {later} ms later");
    }
}
