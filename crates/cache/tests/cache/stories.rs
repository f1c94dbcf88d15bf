//! What the cache does, told one situation at a time.
use std::time::Duration;

use millstream_cache::{BYTES_MIN, Bad, Cache, Input, Limits, Lookup, Output};
use millstream_model::{Instant, RenditionId};
use millstream_wire::{chain::Refused, frame::Frame, sign::SecretKey, sign::Signer as _};

use crate::broadcast::{AUDIO, Broadcast, PARTS, VIDEO, WALL};

struct World {
    cache: Cache,
    broadcast: Broadcast,
    now: Instant,
}

impl World {
    /// An edge that knows the stream and has its description.
    fn new(limits: Limits) -> Self {
        let broadcast = Broadcast::new("demo");
        let mut world = Self { cache: Cache::new(limits), broadcast, now: Instant(0) };
        let stream = world.broadcast.stream.clone();
        world.tell(Input::Known { stream: stream.clone(), root: world.broadcast.root.public() });
        assert_eq!(world.tell(Input::Enter(stream.clone())), [Output::Describe(stream.clone())]);
        assert_eq!(world.origin(None, world.broadcast.delegation()), []);
        assert_eq!(world.origin(None, world.broadcast.catalog()), [Output::Changed(stream)]);
        world
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.cache.handle(input, self.now, WALL);
        std::iter::from_fn(|| self.cache.poll()).collect()
    }

    fn origin(&mut self, feed: Option<RenditionId>, frame: Frame) -> Vec<Output> {
        self.tell(Input::Frame { stream: self.broadcast.stream.clone(), feed, frame: Box::new(frame) })
    }

    fn want(&mut self, rendition: RenditionId) -> Vec<Output> {
        self.tell(Input::Want { stream: self.broadcast.stream.clone(), rendition })
    }

    fn leave(&mut self, rendition: RenditionId) -> Vec<Output> {
        self.tell(Input::Leave { stream: self.broadcast.stream.clone(), rendition })
    }

    /// A whole part arrives by its feed.
    fn part(&mut self, rendition: RenditionId, size: u32) {
        let (record, pieces) = self.broadcast.part(rendition, size);
        for frame in std::iter::once(record).chain(pieces) {
            for output in self.origin(Some(rendition), frame) {
                assert!(matches!(output, Output::Changed(_)), "{output:?}");
            }
        }
    }

    fn lookup(&self, number: u64, index: u32) -> Lookup {
        self.cache.piece(&self.broadcast.stream, VIDEO, number, index)
    }

    fn number(&self, from: Option<u64>) -> Option<u64> {
        self.cache.record(&self.broadcast.stream, VIDEO, from).map(|part| part.record().number)
    }
}

fn open(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Open { .. })).count()
}

#[test]
fn ten_viewers_open_one_feed_and_the_last_one_closes_it_after_the_linger() {
    let mut world = World::new(Limits::default());
    let opened: usize = (0..10).map(|_| open(&world.want(VIDEO))).sum();
    assert_eq!(opened, 1);
    assert_eq!(world.cache.stats().feeds, 1);
    for _ in 0..10 {
        assert_eq!(world.leave(VIDEO), []);
    }
    let until = world.cache.deadline().unwrap();
    assert_eq!(until, world.now + Limits::default().linger);
    world.cache.handle_timeout(until - Duration::from_millis(1));
    assert_eq!(world.cache.poll(), None);
    world.cache.handle_timeout(until);
    assert!(matches!(world.cache.poll(), Some(Output::Close { rendition: VIDEO, .. })));
    assert_eq!(world.cache.stats().feeds, 0);
    assert_eq!(world.cache.deadline(), None);
}

#[test]
fn a_viewer_that_comes_back_within_the_linger_finds_the_feed_open() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    world.part(VIDEO, 1_000);
    world.leave(VIDEO);
    assert_eq!(open(&world.want(VIDEO)), 0);
    assert_eq!(world.cache.deadline(), None);
    assert!(matches!(world.lookup(0, 0), Lookup::Here(_)));
}

#[test]
fn a_rendition_wanted_before_the_catalog_is_there_is_opened_when_it_comes() {
    let broadcast = Broadcast::new("demo");
    let mut world = World { cache: Cache::new(Limits::default()), broadcast, now: Instant(0) };
    let stream = world.broadcast.stream.clone();
    world.tell(Input::Known { stream, root: world.broadcast.root.public() });
    assert_eq!(open(&world.want(VIDEO)), 0);
    assert_eq!(open(&world.want(RenditionId(9))), 0);
    world.origin(None, world.broadcast.delegation());
    let outputs = world.origin(None, world.broadcast.catalog());
    let names: Vec<_> = outputs
        .iter()
        .filter_map(|output| if let Output::Open { name, .. } = output { Some(name.as_str()) } else { None })
        .collect();
    assert_eq!(names, ["video"], "what the catalog does not describe is not opened");
}

#[test]
fn a_piece_is_served_as_the_message_that_carries_it() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    let (record, pieces) = world.broadcast.part(VIDEO, 100_000);
    world.origin(Some(VIDEO), record.clone());
    assert!(matches!(world.lookup(0, 0), Lookup::Coming));
    assert!(matches!(world.lookup(0, 2), Lookup::Absent), "the part has two pieces");
    for piece in &pieces {
        world.origin(Some(VIDEO), piece.clone());
    }
    for (index, piece) in (0..).zip(&pieces) {
        let Lookup::Here(found) = world.lookup(0, index) else { panic!("piece {index}") };
        let Frame::Piece { data, .. } = piece else { panic!() };
        assert_eq!(found.message(), &piece.encode());
        assert_eq!(&found.data(), data);
        assert_eq!(found.bytes() as usize, data.len());
    }
    let part = world.cache.record(&world.broadcast.stream, VIDEO, None).unwrap();
    assert!(part.is_whole());
    assert_eq!(part.message(), &record.encode());
}

#[test]
fn a_piece_with_one_bit_flipped_is_never_seen() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    let (record, mut pieces) = world.broadcast.part(VIDEO, 1_000);
    world.origin(Some(VIDEO), record);
    let good = pieces[0].clone();
    if let Frame::Piece { data, .. } = &mut pieces[0] {
        let mut bytes = data.to_vec();
        bytes[500] ^= 1;
        *data = bytes.into();
    }
    let outputs = world.origin(Some(VIDEO), pieces[0].clone());
    assert!(matches!(outputs[..], [Output::Bad { feed: Some(VIDEO), why: Bad::Piece, .. }]), "{outputs:?}");
    assert!(matches!(world.lookup(0, 0), Lookup::Coming));
    assert_eq!(world.cache.stats().bad_pieces, 1);
    world.origin(Some(VIDEO), good);
    assert!(matches!(world.lookup(0, 0), Lookup::Here(_)));
}

#[test]
fn a_record_by_a_key_that_the_root_never_delegated_is_refused() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    let mut forger = world.broadcast.clone();
    forger.packager = SecretKey::from_seed(&[9; 32]);
    let (record, _) = forger.part(VIDEO, 1_000);
    let outputs = world.origin(Some(VIDEO), record);
    assert!(matches!(outputs[..], [Output::Bad { why: Bad::Refused(Refused::Signature(_)), .. }]));
    assert_eq!(world.number(None), None);
}

#[test]
fn a_record_of_another_rendition_than_the_feeds_is_refused() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    world.want(AUDIO);
    let (record, pieces) = world.broadcast.part(AUDIO, 1_000);
    for frame in [record, pieces[0].clone()] {
        let outputs = world.origin(Some(VIDEO), frame);
        assert!(matches!(outputs[..], [Output::Bad { why: Bad::Rendition, .. }]));
    }
}

#[test]
fn a_frame_that_only_viewers_send_is_refused() {
    let mut world = World::new(Limits::default());
    assert_eq!(world.origin(Some(VIDEO), Frame::Ping(1)), [], "a feed without news says that it lives");
    let outputs = world.origin(None, Frame::Pong(1));
    assert!(matches!(outputs[..], [Output::Bad { feed: None, why: Bad::Frame, .. }]));
}

#[test]
fn a_rolled_back_generation_is_refused_and_a_new_one_goes_on_after_a_hole() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    world.part(VIDEO, 1_000);
    let old = world.broadcast.delegation();
    let revision = world.cache.described(&world.broadcast.stream).unwrap().revision;
    world.broadcast.restart();
    world.origin(Some(VIDEO), world.broadcast.delegation());
    world.origin(Some(VIDEO), world.broadcast.catalog());
    world.part(VIDEO, 2_000);
    assert!(world.cache.described(&world.broadcast.stream).unwrap().revision > revision);
    assert_eq!(world.number(Some(1)), Some(101));
    let outputs = world.origin(Some(VIDEO), old);
    assert!(matches!(outputs[..], [Output::Bad { why: Bad::Refused(Refused::Generation { .. }), .. }]));
}

#[test]
fn without_a_number_a_viewer_starts_with_the_newest_segment() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    for _ in 0..PARTS + 3 {
        world.part(VIDEO, 1_000);
    }
    assert_eq!(world.number(None), Some(u64::from(PARTS)));
    assert_eq!(world.number(Some(3)), Some(3));
    assert_eq!(world.number(Some(u64::from(PARTS) + 3)), None);
}

#[test]
fn the_bound_over_all_streams_drops_the_oldest_parts() {
    let mut world = World::new(Limits { bytes_max: 0, ..Limits::default() });
    world.want(VIDEO);
    world.want(AUDIO);
    for _ in 0..40 {
        world.part(VIDEO, 1 << 20);
        world.part(AUDIO, 1 << 18);
        assert!(world.cache.stats().bytes <= BYTES_MIN);
    }
    assert!(world.cache.stats().evicted > 0);
    let (first, last) = (world.number(Some(0)).unwrap(), 39);
    assert!(first > 0);
    assert!(matches!(world.lookup(first - 1, 0), Lookup::Absent));
    assert!(matches!(world.lookup(last, 0), Lookup::Here(_)));
    // What is left is what fits: nothing was dropped too early, either.
    assert!(world.cache.stats().bytes > BYTES_MIN - (3 << 20));
}

#[test]
fn a_rendition_keeps_a_bounded_number_of_parts() {
    let mut world = World::new(Limits { parts_max: 5, ..Limits::default() });
    world.want(VIDEO);
    for _ in 0..9 {
        world.part(VIDEO, 100);
    }
    assert_eq!(world.number(Some(0)), Some(4));
    assert_eq!(world.cache.stats().parts, 5);
}

#[test]
fn a_feed_that_broke_goes_on_with_the_part_that_it_left_unfinished() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    let resume = |world: &World| world.cache.resume(&world.broadcast.stream, VIDEO);
    assert_eq!(resume(&world), None);
    world.part(VIDEO, 1_000);
    assert_eq!(resume(&world), Some(1));
    let (record, pieces) = world.broadcast.part(VIDEO, 100_000);
    world.origin(Some(VIDEO), record.clone());
    world.origin(Some(VIDEO), pieces[0].clone());
    assert_eq!(resume(&world), Some(1));
    // It comes again, whole: known and new pieces mix.
    world.origin(Some(VIDEO), record);
    for piece in pieces {
        assert!(world.origin(Some(VIDEO), piece).iter().all(|output| matches!(output, Output::Changed(_))));
    }
    assert_eq!(resume(&world), Some(2));
}

#[test]
fn what_the_feed_has_passed_by_is_absent_and_what_it_will_bring_is_coming() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    let (record, _) = world.broadcast.part(VIDEO, 1_000);
    world.origin(Some(VIDEO), record);
    world.part(VIDEO, 1_000);
    assert!(matches!(world.lookup(0, 0), Lookup::Absent), "part 1 has come, part 0 will not");
    assert!(matches!(world.lookup(2, 0), Lookup::Coming));
    assert!(matches!(world.lookup(3, 0), Lookup::Coming));
    assert!(matches!(world.lookup(4, 0), Lookup::Absent));
}

#[test]
fn a_closed_feed_leaves_no_stale_parts_and_opens_again_at_the_newest_segment() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    world.part(VIDEO, 1_000);
    world.leave(VIDEO);
    world.cache.handle_timeout(Instant(u64::MAX));
    assert!(matches!(world.cache.poll(), Some(Output::Close { .. })));
    assert_eq!(world.number(Some(0)), None);
    assert_eq!(world.cache.stats().bytes, 0);
    assert_eq!(open(&world.want(VIDEO)), 1);
    assert_eq!(world.cache.resume(&world.broadcast.stream, VIDEO), None);
    world.part(VIDEO, 1_000);
    assert_eq!(world.number(None), Some(1));
}

#[test]
fn a_record_of_a_closed_feed_that_comes_late_is_not_kept() {
    let mut world = World::new(Limits::default());
    let (record, pieces) = world.broadcast.part(VIDEO, 1_000);
    assert_eq!(world.origin(Some(VIDEO), record), []);
    assert_eq!(world.origin(Some(VIDEO), pieces[0].clone()), []);
    assert_eq!(world.cache.stats().bytes, 0);
}

#[test]
fn a_stream_made_anew_under_its_old_name_starts_from_nothing() {
    let mut world = World::new(Limits::default());
    world.want(VIDEO);
    world.part(VIDEO, 1_000);
    let stream = world.broadcast.stream.clone();
    assert_eq!(world.tell(Input::Known { stream: stream.clone(), root: world.broadcast.root.public() }), []);
    let other = SecretKey::from_seed(&[7; 32]).public();
    let outputs = world.tell(Input::Known { stream: stream.clone(), root: other });
    assert!(matches!(&outputs[..], [Output::Close { .. }, Output::Forgotten(name)] if *name == stream));
    assert!(world.cache.described(&stream).is_none());
    assert_eq!(world.cache.stats().bytes, 0);
}

#[test]
fn only_an_idle_stream_makes_room_for_another() {
    let mut world = World::new(Limits { streams_max: 1, ..Limits::default() });
    let other = Broadcast::new("other");
    let known = Input::Known { stream: other.stream.clone(), root: other.root.public() };
    world.tell(known);
    assert!(!world.cache.knows(&other.stream), "demo has a viewer");
    world.tell(Input::Exit(world.broadcast.stream.clone()));
    world.tell(Input::Known { stream: other.stream.clone(), root: other.root.public() });
    assert!(world.cache.knows(&other.stream));
    assert!(!world.cache.knows(&world.broadcast.stream));
}
