//! Whatever a viewer says and the edge does, in whatever order: the bounds hold and nothing panics.

use std::time::Duration;

use bytes::Bytes;
use millstream_lane::{Found, Input, Lookup, Reach, limits::*};
use millstream_model::RenditionId;
use millstream_wire::frame::{Frame, Reason, Span, Subscription};
use proptest::prelude::*;

use crate::world::{World, grant, hello, hello_frame, signed, voucher, voucher_frame};

#[derive(Debug, Clone)]
enum Step {
    Frame(Box<Frame>),
    Bytes(Vec<u8>),
    /// A voucher for this share of what was sent (in 1/16), of which this share is payable.
    Vouch {
        received: u64,
        payable: u64,
    },
    Renew {
        serial: u32,
        cap: u64,
    },
    Part {
        rendition: u8,
        size: u32,
    },
    Coming(bool),
    Busy(bool),
    Stray(bool),
    Reach(bool),
    Wait(u64),
}

fn span() -> impl Strategy<Value = Span> {
    (0..3u8, 0..40u64, 0..4u32, 1..5u32).prop_map(|(id, number, first, count)| Span {
        rendition: RenditionId(id),
        number,
        first,
        count,
    })
}

fn want() -> impl Strategy<Value = Subscription> {
    prop_oneof![Just(Subscription::Nothing), Just(Subscription::Records), Just(Subscription::Pieces)]
}

fn step() -> impl Strategy<Value = Step> {
    let frame = prop_oneof![
        6 => (0..3u8, want(), 0..40u64)
            .prop_map(|(id, want, from)| Frame::Subscribe { rendition: RenditionId(id), want, from }),
        6 => span().prop_map(Frame::Request),
        2 => (0..3u8, 0..40u64).prop_map(|(id, number)| Frame::Cancel { rendition: RenditionId(id), number }),
        1 => any::<u64>().prop_map(Frame::Ping),
        1 => any::<u64>().prop_map(Frame::Pong),
    ];
    prop_oneof![
        12 => frame.prop_map(|frame| Step::Frame(Box::new(frame))),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
        6 => (0..=17u64, 0..=17u64).prop_map(|(received, payable)| Step::Vouch { received, payable }),
        1 => (0..5u32, (1u64 << 20)..(64 << 20)).prop_map(|(serial, cap)| Step::Renew { serial, cap }),
        14 => (0..3u8, prop_oneof![1..2_000u32, 60_000..400_000u32, Just(2 << 20)])
            .prop_map(|(rendition, size)| Step::Part { rendition, size }),
        2 => any::<bool>().prop_map(Step::Coming),
        3 => any::<bool>().prop_map(Step::Busy),
        1 => any::<bool>().prop_map(Step::Stray),
        1 => any::<bool>().prop_map(Step::Reach),
        3 => (0..3_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_sequence_passes_the_window_the_cap_or_the_queues(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::silent();
        let mut cap = 16 << 20;
        let first = millstream_wire::session::Grant { cap_bytes: cap, ..grant() };
        world.say(&hello_frame(&first, &hello()));
        let mut number = 0;
        let mut acknowledged = (0, 0);
        for step in steps {
            if world.closed.is_some() {
                break;
            }
            match step {
                Step::Frame(frame) => world.say(&frame),
                Step::Bytes(bytes) => world.handle(Input::Message(bytes.into())),
                Step::Vouch { received, payable } => {
                    let received = world.bytes() * received / 16;
                    let payable = (received * payable / 16).min(received);
                    world.say(&voucher_frame(&voucher(payable, received)));
                }
                Step::Renew { serial, cap: higher } => {
                    let renewed = millstream_wire::session::Grant { serial, cap_bytes: higher, ..grant() };
                    let serial_before = world.lane.grant().map(|grant| grant.unverified().serial);
                    world.say(&Frame::Grant(signed(&renewed)));
                    if world.closed.is_none() && serial_before < Some(serial) {
                        cap = higher;
                    }
                }
                Step::Part { rendition, size } => {
                    world.part(RenditionId(rendition), number, size);
                    number += 1;
                }
                Step::Coming(coming) => {
                    world.shelf.coming.clear();
                    if coming {
                        world.shelf.coming.extend((0..3).map(|id| (RenditionId(id), number, 0)));
                    }
                    world.handle(Input::Changed);
                }
                Step::Busy(busy) => world.handle(if busy { Input::Busy } else { Input::Writable }),
                // Answers that nobody asked for.
                Step::Stray(true) => world.handle(Input::Piece(Lookup::Here { message: Bytes::from_static(&[0x40, 0, 0, 0, 0, 0, 0, 0, 0]), bytes: 9 })),
                Step::Stray(false) => world.handle(Input::Record(Some(Found { number: 3, message: Bytes::new(), size: 1 }))),
                Step::Reach(true) => world.handle(Input::Tracker(Reach::Since(world.now))),
                Step::Reach(false) => world.handle(Input::Tracker(Reach::Out)),
                Step::Wait(millis) => world.wait(Duration::from_millis(millis)),
            }
            if let Some(latest) = world.brought.last() {
                acknowledged = (latest.unverified().received, latest.unverified().payable);
            }
            let (received, payable) = acknowledged;
            let sent = world.bytes();
            prop_assert!(received <= sent, "vouchers never exceed what was sent");
            prop_assert!(sent - received <= WINDOW_MAX);
            prop_assert!(sent - received <= WINDOW_MIN + payable / WINDOW_GROWTH);
            prop_assert!(payable + (sent - received) <= cap.max(payable));
            let (requests, pushes) = world.lane.waiting();
            prop_assert!(requests <= REQUESTS_MAX && pushes <= START_PARTS_MAX);
            if let Some(credit) = world.lane.credit() {
                prop_assert_eq!(credit.sent(), sent);
            }
        }
        if let Some((reason, _, false)) = &world.closed {
            prop_assert_ne!(*reason, Reason::Shutdown);
        }
    }

    #[test]
    fn no_bytes_open_a_lane_or_panic(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20)) {
        let mut world = World::silent();
        for message in messages {
            if world.closed.is_none() {
                world.handle(Input::Message(message.into()));
            }
        }
        prop_assert!(world.lane.credit().is_none());
        prop_assert!(world.bytes() == 0);
    }

    #[test]
    fn a_deadline_is_never_in_the_past_after_it_was_dealt_with(waits in prop::collection::vec(0..40_000u64, 1..20)) {
        let mut world = World::open(&grant());
        for wait in waits {
            let before = world.now;
            if let Some(at) = world.lane.deadline() {
                world.now = world.now.max(at);
                world.lane.handle_timeout(world.now, world.wall);
                world.drain();
                prop_assert!(world.lane.deadline().is_none_or(|next| next > at), "would spin");
            }
            world.now = world.now.max(before + Duration::from_millis(wait));
        }
    }
}
