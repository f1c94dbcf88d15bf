//! A broadcaster in a few lines: signs a stream of made-up media, as a packager would.

use bytes::Bytes;
use millstream_model::{BitRate, Hash, MediaTime, RenditionId, StreamId, WallTime};
use millstream_wire::{
    frame::Frame,
    media::{Catalog, Delegation, Media, Record, Rendition, hash_pieces},
    sign::{Context, SecretKey, Signed, Signer as _},
};

pub(crate) const WALL: WallTime = WallTime(1_790_000_000_000);
pub(crate) const VIDEO: RenditionId = RenditionId(0);
pub(crate) const AUDIO: RenditionId = RenditionId(1);

/// Parts per segment.
pub(crate) const PARTS: u16 = 8;

#[derive(Clone)]
pub(crate) struct Broadcast {
    pub(crate) stream: StreamId,
    pub(crate) root: SecretKey,
    pub(crate) packager: SecretKey,
    pub(crate) generation: u32,
    pub(crate) version: u32,
    next: [(u64, u64, u16, Hash); 2],
}

impl Broadcast {
    pub(crate) fn new(stream: &str) -> Self {
        Self {
            stream: StreamId::new(stream).expect("a slug"),
            root: SecretKey::from_seed(&[1; 32]),
            packager: SecretKey::from_seed(&[2; 32]),
            generation: 1,
            version: 1,
            next: [(0, 0, 0, Record::NO_PREVIOUS); 2],
        }
    }

    pub(crate) fn delegation(&self) -> Frame {
        let delegation = Delegation {
            stream: self.stream.clone(),
            generation: self.generation,
            packager: self.packager.public(),
            not_before: WallTime(0),
            expires: WallTime(u64::MAX / 2),
        };
        Frame::Delegation(Signed::new(delegation, Context::None, &self.root))
    }

    pub(crate) fn catalog(&self) -> Frame {
        let rendition = |id: RenditionId, name: &str, media, codecs: &str| Rendition {
            id,
            name: name.into(),
            group: name.into(),
            media,
            codecs: codecs.into(),
            bandwidth: BitRate(3_000_000),
            timescale: 90_000,
            target_duration_ms: 4_000,
            part_target_ms: 250,
            init: Bytes::from_static(b"init"),
        };
        let video = Media::Video { width: 1280, height: 720, frame_rate_milli: 30_000 };
        let audio = Media::Audio { channels: 2, sample_rate: 48_000 };
        let catalog = Catalog {
            generation: self.generation,
            version: self.version,
            created: WALL,
            ended: false,
            renditions: vec![
                rendition(VIDEO, "video", video, "avc1.64001f"),
                rendition(AUDIO, "audio", audio, "mp4a.40.2"),
            ],
        };
        Frame::Catalog(Signed::new(catalog, Context::Stream(&self.stream), &self.packager))
    }

    /// The next part: its record, and the frames of its pieces.
    pub(crate) fn part(&mut self, rendition: RenditionId, size: u32) -> (Frame, Vec<Frame>) {
        let (number, segment, part, previous) = self.next[usize::from(rendition.0)];
        let bytes: Vec<u8> = (0..size).map(|i| (i.wrapping_mul(31) ^ number as u32) as u8).collect();
        let record = Record {
            generation: self.generation,
            catalog: self.version,
            rendition,
            number,
            segment,
            part,
            media_time: MediaTime(number * 22_500),
            duration: 22_500,
            program_date_time: WALL.plus_millis(number * 250),
            discontinuity: 0,
            independent: part == 0,
            first: part == 0,
            size,
            pieces: hash_pieces(&bytes),
            previous,
        };
        let signed = Signed::new(record, Context::Stream(&self.stream), &self.packager);
        let after = if part + 1 == PARTS { (segment + 1, 0) } else { (segment, part + 1) };
        self.next[usize::from(rendition.0)] = (number + 1, after.0, after.1, signed.digest());
        let pieces = Bytes::from(bytes);
        let pieces = (0..signed.unverified().pieces.len())
            .map(|index| {
                let start = index * 65_536;
                let data = pieces.slice(start..pieces.len().min(start + 65_536));
                Frame::Piece { rendition, number, index: index as u32, data }
            })
            .collect();
        (Frame::Record(signed), pieces)
    }

    /// A packager that starts again: next generation, records begin a segment after a hole.
    pub(crate) fn restart(&mut self) {
        self.generation += 1;
        self.packager = SecretKey::from_seed(&[2 + self.generation as u8; 32]);
        for (number, segment, part, previous) in &mut self.next {
            *number += 100;
            *segment += 10;
            *part = 0;
            *previous = Record::NO_PREVIOUS;
        }
    }
}
