//! A made-up publisher for tests: tracks and parts as the segmenter gives them, without encoders.

use bytes::Bytes;
use millstream_model::{MediaTime, PublicKey, RenditionId, StreamId, WallTime};
use millstream_segmenter::{AUDIO, Media, Part, Track, VIDEO};
use millstream_wire::{
    chain::Chain,
    media::{Catalog, Delegation, Record},
    sign::{Context, SecretKey, Signed, Signer as _},
};

use crate::{gate::Permission, sequence::Numbers, signer::Signer};

/// 2026-11-22T08:17:00Z.
pub(crate) const NOW: WallTime = WallTime(1_795_335_420_000);

pub(crate) fn root_key() -> PublicKey {
    root().public()
}

pub(crate) fn root() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

pub(crate) fn packager() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

pub(crate) fn tracker() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

pub(crate) fn stream() -> StreamId {
    StreamId::new("demo").unwrap()
}

pub(crate) fn permission(generation: u32) -> Permission {
    let delegation = Delegation {
        stream: stream(),
        generation,
        packager: packager().public(),
        not_before: WallTime(0),
        expires: WallTime(u64::MAX / 2),
    };
    Permission {
        stream: stream(),
        delegation: Signed::new(delegation, Context::None, &root()),
        root: root().public(),
        tracker: None,
        public: true,
        above: generation.saturating_sub(1),
    }
}

/// What a receiver believes who knows the root.
pub(crate) fn chain() -> Chain {
    chain_of(root().public())
}

pub(crate) fn chain_of(root: PublicKey) -> Chain {
    Chain::new(stream(), root)
}

pub(crate) fn tracks() -> Vec<Track> {
    vec![
        Track {
            rendition: VIDEO,
            media: Media::Video { width: 320, height: 180, frame_rate_milli: 30_000 },
            codec: "avc1.64000c".into(),
            timescale: 90_000,
            target_duration_ms: 4_000,
            part_target_ms: 250,
            init: Bytes::from_static(b"video init"),
        },
        Track {
            rendition: AUDIO,
            media: Media::Audio { channels: 2, sample_rate: 48_000 },
            codec: "mp4a.40.2".into(),
            timescale: 48_000,
            target_duration_ms: 4_000,
            part_target_ms: 250,
            init: Bytes::from_static(b"audio init"),
        },
    ]
}

/// Makes one rendition's parts of 250 ms.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    rendition: RenditionId,
    timescale: u32,
    /// Parts in a segment.
    pub(crate) per_segment: u16,
    /// Bytes in a part.
    pub(crate) bytes: usize,
    pub(crate) discontinuity: u32,
    segment: u64,
    part: u16,
    ticks: u64,
    is_keyed: bool,
}

impl Parts {
    pub(crate) fn video() -> Self {
        Self::of(VIDEO, 90_000)
    }

    pub(crate) fn audio() -> Self {
        Self::of(AUDIO, 48_000)
    }

    fn of(rendition: RenditionId, timescale: u32) -> Self {
        Self {
            rendition,
            timescale,
            per_segment: 8,
            bytes: 1_000,
            discontinuity: 0,
            segment: 0,
            part: 0,
            ticks: 0,
            is_keyed: true,
        }
    }

    /// Whether video's segments from now on begin with a keyframe.
    pub(crate) fn begins_with_keyframe(&mut self, is_keyed: bool) {
        self.is_keyed = is_keyed;
    }

    /// The next begins a segment, wherever the last one was.
    pub(crate) fn cut(&mut self) {
        if self.part > 0 {
            self.segment += 1;
            self.part = 0;
        }
    }

    pub(crate) fn next(&mut self) -> Part {
        let size = self.bytes;
        self.next_of(&mut |fill| Bytes::from(vec![fill; size]))
    }

    pub(crate) fn next_of(&mut self, data: &mut dyn FnMut(u8) -> Bytes) -> Part {
        if self.part == self.per_segment {
            self.cut();
        }
        let ticks = self.timescale / 4;
        let fill = u8::try_from(self.ticks / u64::from(ticks) % 251).unwrap();
        let part = Part {
            rendition: self.rendition,
            segment: self.segment,
            part: self.part,
            first: self.part == 0,
            independent: (self.part == 0 && self.is_keyed) || self.rendition == AUDIO,
            discontinuity: self.discontinuity,
            media_time: MediaTime(self.ticks),
            duration: ticks,
            program_date_time: NOW.plus_millis(self.ticks * 1_000 / u64::from(self.timescale)),
            data: data(fill),
        };
        self.part += 1;
        self.ticks += u64::from(ticks);
        part
    }
}

/// A signer with a delegation of generation 1, from zero.
pub(crate) fn signer() -> Signer {
    Signer::new(stream(), packager(), 1, Numbers::default())
}

/// Everything signed, in order, as a receiver gets it.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    Delegation(Signed<Delegation>),
    Catalog(Signed<Catalog>),
    Record(Signed<Record>),
}

/// Gives everything to a chain; nothing may be refused.
#[track_caller]
pub(crate) fn believe<'a>(chain: &mut Chain, objects: impl IntoIterator<Item = &'a Object>) {
    for object in objects {
        let taken = match object {
            Object::Delegation(signed) => chain.accept_delegation(signed, NOW),
            Object::Catalog(signed) => chain.accept_catalog(signed),
            Object::Record(signed) => chain.accept_record(signed),
        };
        taken.unwrap_or_else(|refused| panic!("{refused}: {object:?}"));
    }
}
