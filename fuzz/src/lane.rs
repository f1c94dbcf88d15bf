//! A lane of an edge, and a viewer that says anything.

use std::time::Duration;

use bytes::Bytes;
use millstream_lane::{Found, Input, Lookup, Reach, limits::*};
use millstream_model::RenditionId;
use millstream_wire::{
    frame::{Frame, Reason, Span, Subscription},
    session::Grant,
};

use crate::script::Script;

#[allow(dead_code, reason = "the lane's own tests use the rest")]
#[path = "../../crates/lane/tests/lane/world.rs"]
mod lane_world;

use lane_world::{World, grant, hello, hello_frame, signed, voucher, voucher_frame};

/// Steps of one run: each voucher is a real signature, and a part is up to 32 pieces.
const STEPS_MAX: usize = 150;

/// The cap of the lane's first grant.
const CAP: u64 = 16 << 20;

/// The first byte says whether the lane is opened before the rest happens.
pub(crate) fn lane(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::silent();
    let opened = !script.byte().is_multiple_of(8);
    if opened {
        world.say(&hello_frame(&Grant { cap_bytes: CAP, ..grant() }, &hello()));
    }
    let mut run = Run { world, cap: CAP, number: 0 };
    for _ in 0..STEPS_MAX {
        if !script.goes_on() || run.world.closed.is_some() {
            break;
        }
        run.step(&mut script);
        if opened { run.check() } else { run.check_silent() }
    }
    // What is due is done, and does not come back at once.
    if let Some(at) = run.world.lane.deadline().filter(|_| run.world.closed.is_none()) {
        run.world.now = run.world.now.max(at);
        run.world.lane.handle_timeout(run.world.now, run.world.wall);
        run.world.drain();
        assert!(run.world.lane.deadline().is_none_or(|next| next > at), "would spin");
    }
}

struct Run {
    world: World,
    cap: u64,
    number: u64,
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) {
        let world = &mut self.world;
        match script.byte() % 32 {
            0..=4 => world.say(&Frame::Subscribe {
                rendition: RenditionId(script.byte() % 3),
                want: [Subscription::Nothing, Subscription::Records, Subscription::Pieces][script.index(3)],
                from: u64::from(script.byte() % 40),
            }),
            5..=9 => world.say(&Frame::Request(Span {
                rendition: RenditionId(script.byte() % 3),
                number: u64::from(script.byte() % 40),
                first: u32::from(script.byte() % 4),
                count: u32::from(script.byte() % 5) + 1,
            })),
            10 => world.say(&Frame::Cancel {
                rendition: RenditionId(script.byte() % 3),
                number: u64::from(script.byte() % 40),
            }),
            11 => world.say(&Frame::Ping(script.long())),
            12 => world.say(&Frame::Pong(script.long())),
            13 => world.handle(Input::Message(Bytes::copy_from_slice(script.bytes()))),
            14..=17 => {
                let received = world.bytes() * u64::from(script.byte() % 18) / 16;
                let payable = (received * u64::from(script.byte() % 18) / 16).min(received);
                world.say(&voucher_frame(&voucher(payable, received)));
            }
            18 => {
                let (serial, cap_bytes) = (u32::from(script.byte() % 5), u64::from(script.byte()) << 18);
                let before = world.lane.grant().map(|grant| grant.unverified().serial);
                world.say(&Frame::Grant(signed(&Grant { serial, cap_bytes, ..grant() })));
                if world.closed.is_none() && before.is_some_and(|before| before < serial) {
                    self.cap = cap_bytes;
                }
            }
            19..=24 => {
                let (rendition, size) = (RenditionId(script.byte() % 3), script.byte());
                let size = if size < 128 { u32::from(size) * 15 + 1 } else { u32::from(size - 127) << 14 };
                world.part(rendition, self.number, size);
                self.number += 1;
            }
            25 => {
                let (coming, number) = (script.flag(), self.number);
                world.shelf.coming.clear();
                if coming {
                    world.shelf.coming.extend((0..3).map(|id| (RenditionId(id), number, 0)));
                }
                world.handle(Input::Changed);
            }
            26 => world.handle(Input::Busy),
            27 => world.handle(Input::Writable),
            // Answers that nobody asked for.
            28 if script.flag() => {
                world.handle(Input::Piece(Lookup::Here { message: Frame::Ping(0).encode(), bytes: 9 }));
            }
            28 => {
                world.handle(Input::Record(Some(Found { number: 3, message: Bytes::new(), size: 1 })));
            }
            29 if script.flag() => world.handle(Input::Tracker(Reach::Since(world.now))),
            29 => world.handle(Input::Tracker(Reach::Out)),
            _ => world.wait(Duration::from_millis(u64::from(script.half() % 3_000))),
        }
    }

    fn check(&self) {
        let world = &self.world;
        let latest = world.brought.last().map(millstream_wire::sign::Signed::unverified);
        let (received, payable) = latest.map_or((0, 0), |voucher| (voucher.received, voucher.payable));
        let sent = world.bytes();
        assert!(received <= sent, "vouchers never exceed what was sent");
        let owed = sent - received;
        assert!(owed <= WINDOW_MAX && owed <= WINDOW_MIN + payable / WINDOW_GROWTH, "{owed} owed");
        assert!(payable + owed <= self.cap.max(payable), "{owed} owed of {}", self.cap);
        let (requests, pushes) = world.lane.waiting();
        assert!(requests <= REQUESTS_MAX && pushes <= START_PARTS_MAX);
        assert!(world.lane.credit().is_none_or(|credit| credit.sent() == sent));
        if let Some((reason, _, false)) = &world.closed {
            assert_ne!(*reason, Reason::Shutdown, "nobody asked for it");
        }
    }

    /// Without a hello nothing opens it.
    fn check_silent(&self) {
        assert!(
            self.world.lane.credit().is_none() && self.world.bytes() == 0 && self.world.brought.is_empty()
        );
    }
}
