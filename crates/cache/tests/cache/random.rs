//! Whatever comes in whatever order: the bound holds, the books agree, and nothing unverified is visible.
use std::collections::HashMap;

use millstream_cache::{BYTES_MIN, Cache, Input, Limits, Lookup, Output};
use millstream_model::{Instant, RenditionId};
use millstream_wire::{frame::Frame, sign::Signer as _};
use proptest::prelude::*;

use crate::broadcast::{AUDIO, Broadcast, VIDEO, WALL};

#[derive(Debug, Clone)]
enum Step {
    Enter,
    Exit,
    Want(bool),
    Leave(bool),
    Part {
        audio: bool,
        size: u32,
    },
    /// Sends one of the frames made so far, maybe with a bit flipped, maybe by the wrong feed.
    Frame {
        which: prop::sample::Index,
        flip: Option<prop::sample::Index>,
        wrong: bool,
    },
    Restart,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Enter),
        1 => Just(Step::Exit),
        2 => any::<bool>().prop_map(Step::Want),
        1 => any::<bool>().prop_map(Step::Leave),
        6 => (any::<bool>(), prop_oneof![8 => 1u32..2_000, 4 => 60_000u32..200_000, 1 => Just(4 << 20)])
            .prop_map(|(audio, size)| Step::Part { audio, size }),
        12 => (any::<prop::sample::Index>(), prop::option::weighted(0.2, any::<prop::sample::Index>()), prop::bool::weighted(0.05))
            .prop_map(|(which, flip, wrong)| Step::Frame { which, flip, wrong }),
        1 => Just(Step::Restart),
        1 => (0u64..30_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

fn rendition(audio: bool) -> RenditionId {
    if audio { AUDIO } else { VIDEO }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_bound_holds_and_only_what_was_signed_is_visible(steps in steps()) {
        let mut broadcast = Broadcast::new("demo");
        let stream = broadcast.stream.clone();
        let mut cache = Cache::new(Limits { bytes_max: 0, parts_max: 12, ..Limits::default() });
        let mut now = Instant(0);
        let mut frames = vec![broadcast.delegation(), broadcast.catalog()];
        let mut signed = HashMap::new();
        let mut feeds = std::collections::HashSet::new();
        let mut inputs = vec![Input::Known { stream: stream.clone(), root: broadcast.root.public() }];
        for step in steps {
            match step {
                Step::Enter => inputs.push(Input::Enter(stream.clone())),
                Step::Exit => inputs.push(Input::Exit(stream.clone())),
                Step::Want(audio) => inputs.push(Input::Want { stream: stream.clone(), rendition: rendition(audio) }),
                Step::Leave(audio) => inputs.push(Input::Leave { stream: stream.clone(), rendition: rendition(audio) }),
                Step::Part { audio, size } => {
                    let (record, pieces) = broadcast.part(rendition(audio), size);
                    for piece in std::iter::once(record).chain(pieces) {
                        if let Frame::Piece { rendition, number, index, data } = &piece {
                            signed.insert((*rendition, *number, *index), data.clone());
                        }
                        let feed = Some(rendition(audio));
                        frames.push(piece.clone());
                        inputs.push(Input::Frame { stream: stream.clone(), feed, frame: Box::new(piece) });
                    }
                }
                Step::Frame { which, flip, wrong } => {
                    let mut frame = which.get(&frames).clone();
                    let feed = match &frame {
                        Frame::Record(record) => Some(record.unverified().rendition),
                        Frame::Piece { rendition, .. } => Some(*rendition),
                        _ => None,
                    };
                    if let Some(flip) = flip {
                        let mut bytes = frame.encode().to_vec();
                        let at = flip.index(bytes.len());
                        bytes[at] ^= 1 << (at % 8);
                        match Frame::decode(bytes.into()) {
                            Ok(Some(other)) => frame = other,
                            Ok(None) | Err(_) => continue,
                        }
                    }
                    let feed = if wrong { Some(RenditionId(7)) } else { feed };
                    inputs.push(Input::Frame { stream: stream.clone(), feed, frame: Box::new(frame) });
                }
                Step::Restart => {
                    broadcast.restart();
                    for frame in [broadcast.delegation(), broadcast.catalog()] {
                        frames.push(frame.clone());
                        inputs.push(Input::Frame { stream: stream.clone(), feed: None, frame: Box::new(frame) });
                    }
                }
                Step::Wait(millis) => {
                    now = now + std::time::Duration::from_millis(millis);
                    cache.handle_timeout(now);
                }
            }
            for input in inputs.drain(..) {
                cache.handle(input, now, WALL);
            }
            while let Some(output) = cache.poll() {
                // One flight: a feed is never opened twice nor closed when it is not open.
                match output {
                    Output::Open { rendition, .. } => prop_assert!(feeds.insert(rendition)),
                    Output::Close { rendition, .. } => prop_assert!(feeds.remove(&rendition)),
                    _ => {}
                }
            }
            let stats = cache.stats();
            prop_assert!(stats.bytes <= BYTES_MIN);
            prop_assert_eq!(stats.feeds, feeds.len() as u64);
            let mut parts = 0;
            let mut held = 0;
            for rendition in [VIDEO, AUDIO] {
                let mut from = Some(0);
                while let Some(part) = from.and_then(|from| cache.record(&stream, rendition, Some(from))) {
                    parts += 1;
                    held += part.message().len() as u64 * 2 - 1;
                    let number = part.record().number;
                    for index in 0..part.record().pieces.len() as u32 {
                        if let Lookup::Here(piece) = cache.piece(&stream, rendition, number, index) {
                            prop_assert_eq!(&piece.data(), &signed[&(rendition, number, index)]);
                            held += piece.message().len() as u64;
                        }
                    }
                    from = number.checked_add(1);
                }
            }
            prop_assert_eq!(stats.parts, parts);
            prop_assert_eq!(stats.bytes, held);
        }
    }
}
