//! Another encoding of the same pictures is cut where the publisher's own is cut, whatever its encoder does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so and stop")]

mod kit;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kit::{
    World,
    publisher::{self, Publisher},
    rules,
};
use millstream_model::{MediaTime, RenditionId};
use millstream_segmenter::{
    Coded, Follow, Follower, Media, Output, Part, Picture, ROUNDING_TICKS, Track, TrackConfig, VIDEO,
    describe,
};
use proptest::prelude::*;

const RUNG: RenditionId = RenditionId(2);

/// A decoder and an encoder: pictures go in as they are decoded, and come out as frames in the order in which they
/// are shown, `delay` pictures later; some do not come out.
struct Encoder {
    delay: usize,
    shown: Vec<u64>,
    starts: VecDeque<u64>,
    drops: Box<dyn FnMut() -> bool>,
    fresh: bool,
    out: VecDeque<Coded>,
}

impl Encoder {
    fn new(delay: usize, drops: impl FnMut() -> bool + 'static) -> Self {
        let drops = Box::new(drops);
        Self { delay, shown: Vec::new(), starts: VecDeque::new(), drops, fresh: true, out: VecDeque::new() }
    }

    fn push(&mut self, picture: &Picture) {
        self.starts.extend(picture.first.map(|first| first.0));
        self.shown.push(picture.shown.0);
        self.shown.sort_unstable();
        while self.shown.len() > self.delay {
            self.encode();
        }
    }

    fn encode(&mut self) {
        let shown = self.shown.remove(0);
        if (self.drops)() {
            return;
        }
        let mut keyframe = std::mem::take(&mut self.fresh);
        while self.starts.front().is_some_and(|&start| shown + ROUNDING_TICKS >= start) {
            self.starts.pop_front();
            keyframe = true;
        }
        self.out.push_back(Coded { shown: MediaTime(shown), keyframe, data: Bytes::from(vec![1; 60]) });
    }

    fn flush(&mut self) {
        while !self.shown.is_empty() {
            self.encode();
        }
    }
}

/// What a rung is made of: the leader's outputs, and the rung's.
struct Made {
    tracks: Vec<Track>,
    leader: Vec<Part>,
    rung: Vec<Part>,
    pictures: Vec<Picture>,
}

fn record() -> Bytes {
    let TrackConfig::H264(record) = publisher::avc() else { panic!("H.264") };
    record
}

/// Follows all that a publisher sends within one continuity.
fn follow(publisher: &Publisher, duration_ms: i64, mut encoder: Encoder) -> Made {
    let mut world = World::with_pictures();
    let mut made = Made { tracks: Vec::new(), leader: Vec::new(), rung: Vec::new(), pictures: Vec::new() };
    let mut follower: Option<Follower> = None;
    let mut inputs = publisher.play(duration_ms);
    inputs.push((millstream_segmenter::Input::Gone, inputs.last().unwrap().1));
    for (input, wall) in inputs {
        world.handle(input, wall);
        for output in world.outputs.drain(..) {
            match output {
                Output::Tracks(tracks) => {
                    let track = describe(RUNG, record(), &tracks[0]).unwrap();
                    made.tracks = vec![tracks[0].clone(), track];
                    follower = Some(Follower::new(RUNG));
                }
                Output::Picture(picture) => {
                    follower.as_mut().unwrap().handle(Follow::Picture(&picture));
                    encoder.push(&picture);
                    made.pictures.push(picture);
                }
                Output::Part(part) if part.rendition == VIDEO => {
                    follower.as_mut().unwrap().handle(Follow::Part(&part));
                    made.leader.push(part);
                }
                _ => {}
            }
        }
        if let Some(follower) = &mut follower {
            encoder.out.drain(..).for_each(|coded| follower.handle(Follow::Coded(coded)));
            made.rung.extend(parts(follower));
        }
    }
    encoder.flush();
    let mut follower = follower.unwrap();
    encoder.out.drain(..).for_each(|coded| follower.handle(Follow::Coded(coded)));
    follower.handle(Follow::Finish);
    made.rung.extend(parts(&mut follower));
    assert!(!follower.is_lost());
    made
}

fn parts(follower: &mut Follower) -> Vec<Part> {
    let outputs = std::iter::from_fn(|| follower.poll());
    outputs
        .map(|output| match output {
            Output::Part(part) => part,
            other => panic!("{other:?}"),
        })
        .collect()
}

impl Made {
    /// Every part has its twin, and the rung keeps all rules on its own.
    fn check(&self) {
        assert_eq!(self.leader.len(), self.rung.len(), "as many parts");
        for (leader, rung) in self.leader.iter().zip(&self.rung) {
            let expected = Part {
                rendition: RUNG,
                independent: rung.independent,
                data: rung.data.clone(),
                ..leader.clone()
            };
            assert_eq!(*rung, expected);
            assert!(rung.independent || !(leader.first && leader.independent), "{leader:?}");
        }
        let mut outputs = vec![Output::Tracks(vec![self.tracks[1].clone()])];
        outputs.extend(self.rung.iter().cloned().map(Output::Part));
        let regular = |part: &&Part| rules::durations(part).len() > 1;
        if self.rung.iter().all(|part| regular(&part)) {
            rules::check(&outputs);
        }
    }

    /// When the rung's frames are shown.
    fn shown(&self) -> Vec<u64> {
        let all = self.rung.iter().flat_map(|part| rules::presentations(part, &self.tracks[1]));
        all.map(|at| u64::try_from(at).unwrap()).collect()
    }
}

#[test]
fn every_part_of_the_leader_has_its_twin_at_the_same_time() {
    for (rate_milli, reorder, gop) in [
        (30_000, 0, 60),
        (30_000, 2, 61),
        (25_000, 0, 50),
        (59_940, 2, 121),
        (24_000, 0, 250),
        (10_000, 2, 31),
    ] {
        let publisher = Publisher { rate_milli, reorder, gop, ..Publisher::default() };
        let delay = usize::try_from(reorder).unwrap();
        let made = follow(&publisher, 12_000, Encoder::new(delay, || false));
        made.check();
        assert!(made.leader.len() > 40, "{}", made.leader.len());
        let last = made.leader.last().unwrap();
        let end = last.media_time.0 + u64::from(last.duration);
        let mut expected: Vec<u64> = made.pictures.iter().map(|picture| picture.shown.0).collect();
        expected.sort_unstable();
        // What is shown after the last part's end has no part, unless that has nothing else.
        expected.retain(|shown| shown + ROUNDING_TICKS < end);
        let shown = made.shown();
        assert!(shown.len() - expected.len() <= 1, "no picture is lost or twice at {rate_milli}");
        for (shown, expected) in shown.iter().zip(expected) {
            assert!(shown.abs_diff(expected) <= ROUNDING_TICKS, "{shown} for {expected}");
        }
        assert!(matches!(made.tracks[1].media, Media::Video { width: 1280, height: 720, .. }));
    }
}

#[test]
fn without_reordering_a_part_comes_with_its_last_frame_and_not_with_the_next() {
    let mut world = World::with_pictures();
    let mut follower = None;
    let (mut leader, mut rung) = (0, 0);
    for (input, wall) in Publisher::default().play(6_000) {
        world.handle(input, wall);
        for output in world.outputs.drain(..) {
            match (output, &mut follower) {
                (Output::Tracks(_), _) => follower = Some(Follower::new(RUNG)),
                (Output::Picture(picture), Some(follower)) => {
                    follower.handle(Follow::Picture(&picture));
                    let keyframe = picture.first.is_some();
                    let (shown, data) = (picture.shown, picture.data.clone());
                    follower.handle(Follow::Coded(Coded { shown, keyframe, data }));
                }
                (Output::Part(part), Some(follower)) if part.rendition == VIDEO => {
                    leader += 1;
                    follower.handle(Follow::Part(&part));
                }
                _ => {}
            }
        }
        rung += follower.as_mut().map_or(0, |follower| parts(follower).len());
        assert_eq!(rung, leader, "none waits for a frame behind it");
    }
    assert!(leader > 20);
}

#[test]
fn pictures_that_were_left_out_stretch_their_neighbours() {
    let mut count = 0;
    let encoder = Encoder::new(0, move || {
        count += 1;
        count % 3 != 0
    });
    let made = follow(&Publisher::default(), 8_000, encoder);
    made.check();
    let pictures: BTreeMap<u64, ()> = made.pictures.iter().map(|picture| (picture.shown.0, ())).collect();
    let shown = made.shown();
    assert!(shown.len() * 3 <= pictures.len() + 3, "two of three are gone");
    assert!(shown.iter().all(|at| pictures.contains_key(at)), "what is left is shown when it should be");
}

#[test]
fn a_part_without_any_picture_exists_all_the_same() {
    let mut count = 0;
    // More than two segments are gone, with their starts.
    let encoder = Encoder::new(0, move || {
        count += 1;
        (50..200).contains(&count) || count > 290
    });
    let made = follow(&Publisher::default(), 11_000, encoder);
    made.check();
    assert!(made.rung.iter().all(|part| !part.data.is_empty()));
}

#[test]
fn an_encoder_that_gives_nothing_is_lost_and_holds_nothing() {
    let publisher = Publisher::default();
    let mut world = World::with_pictures();
    world.handle_all(publisher.play(60_000));
    let mut follower = Follower::new(RUNG);
    for output in &world.outputs {
        match output {
            Output::Picture(picture) => follower.handle(Follow::Picture(picture)),
            Output::Part(part) if part.rendition == VIDEO => follower.handle(Follow::Part(part)),
            _ => {}
        }
    }
    assert!(follower.is_lost());
    assert_eq!(follower.poll(), None);
}

#[test]
fn a_record_that_cannot_be_read_is_refused() {
    let mut world = World::with_pictures();
    world.handle_all(Publisher::default().play(1_000));
    let tracks = world.tracks()[0].clone();
    assert!(describe(RUNG, Bytes::from_static(&[1, 2, 3]), &tracks[0]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_stay_twins_whatever_the_encoder_leaves_out(
        (rate_milli, gop) in (5_000..61_000_i64, 3..300_i64),
        (reorder, extra, jitter_ms) in (0..3_i64, 0..4_usize, 0..3_i64),
        drops in prop::collection::vec(prop::bool::weighted(0.5), 1..60),
    ) {
        let publisher = Publisher { rate_milli, gop, reorder, jitter_ms, ..Publisher::default() };
        let mut turn = 0;
        let encoder = Encoder::new(usize::try_from(reorder).unwrap() + extra, move || {
            turn += 1;
            // The first always comes: an encoder that gives nothing has no rendition.
            turn > 1 && drops[turn % drops.len()]
        });
        follow(&publisher, 9_000, encoder).check();
    }
}
