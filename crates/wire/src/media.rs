//! What a packager signs: who it is (delegation), what the stream is made of (catalog), and each part (record).

use alloc::{string::String, vec::Vec};

use bytes::Bytes;
use millstream_model::{
    BitRate, Hash, MediaTime, PART_BYTES_MAX, PublicKey, RenditionId, SLUG_BYTES_MAX, StreamId, WallTime,
    piece_count,
};

use crate::{
    codec::{Error, Reader, VARINT_MAX, Writer},
    sign::Body,
};

/// Renditions of one stream at most: a ladder of a dozen, and audio in a few languages.
pub const RENDITIONS_MAX: usize = 32;

/// Bytes of one init segment at most: `ftyp` and `moov` with long parameter sets stay far below.
pub const INIT_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a codecs text (RFC 6381) at most.
pub const CODECS_BYTES_MAX: usize = 64;

/// The root key's word that a packager may sign a stream.
///
/// Of several, the highest generation wins; within a generation the packager key never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The stream.
    pub stream: StreamId,
    /// Counts up with each delegation of the stream.
    pub generation: u32,
    /// Who may sign.
    pub packager: PublicKey,
    /// From when on.
    pub not_before: WallTime,
    /// Until when.
    pub expires: WallTime,
}

impl Body for Delegation {
    const TAG: &'static str = "millstream delegation v1";
    type Key = PublicKey;

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.stream.as_str().as_bytes());
        writer.u32(self.generation);
        writer.raw(self.packager.as_bytes());
        writer.u64(self.not_before.0);
        writer.u64(self.expires.0);
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        Ok(Self {
            stream: read_stream(reader)?,
            generation: reader.u32("generation")?,
            packager: PublicKey(reader.fixed("packager")?),
            not_before: WallTime(reader.u64("not before")?),
            expires: WallTime(reader.u64("expires")?),
        })
    }
}

pub(crate) fn read_stream(reader: &mut Reader) -> Result<StreamId, Error> {
    StreamId::new(&reader.text("stream", SLUG_BYTES_MAX)?).map_err(|_| Error::Text("stream"))
}

/// What a rendition carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// Pictures.
    Video {
        /// Width in pixels.
        width: u16,
        /// Height in pixels.
        height: u16,
        /// Frames per 1,000 seconds (29,970 for 29.97); 0 when not known.
        frame_rate_milli: u32,
    },
    /// Sound.
    Audio {
        /// Channels.
        channels: u8,
        /// Samples a second.
        sample_rate: u32,
    },
}

/// One encoding of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Its number in records and frames.
    pub id: RenditionId,
    /// Its name in URLs: a slug.
    pub name: String,
    /// Renditions of one group replace each other (a ladder; languages of one soundtrack do not): a slug.
    pub group: String,
    /// What it carries.
    pub media: Media,
    /// The codec, as in an RFC 6381 `codecs` parameter.
    pub codecs: String,
    /// Peak rate.
    pub bandwidth: BitRate,
    /// Ticks a second of its media times and durations.
    pub timescale: u32,
    /// What a segment's duration, rounded to seconds, never passes; whole seconds, in milliseconds.
    pub target_duration_ms: u32,
    /// What a part's duration never passes, in milliseconds.
    pub part_target_ms: u32,
    /// The init segment (`ftyp`, `moov`).
    pub init: Bytes,
}

impl Rendition {
    fn write(&self, writer: &mut Writer) {
        writer.u8(self.id.0);
        writer.bytes(self.name.as_bytes());
        writer.bytes(self.group.as_bytes());
        match self.media {
            Media::Video { width, height, frame_rate_milli } => {
                writer.u8(1);
                writer.u16(width);
                writer.u16(height);
                writer.u32(frame_rate_milli);
            }
            Media::Audio { channels, sample_rate } => {
                writer.u8(2);
                writer.u8(channels);
                writer.u32(sample_rate);
            }
        }
        writer.bytes(self.codecs.as_bytes());
        writer.u64(self.bandwidth.0);
        writer.u32(self.timescale);
        writer.u32(self.target_duration_ms);
        writer.u32(self.part_target_ms);
        writer.bytes(&self.init);
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        let id = RenditionId(reader.u8("rendition")?);
        let name = read_slug(reader, "rendition name")?;
        let group = read_slug(reader, "group")?;
        let media = match reader.u8("media")? {
            1 => Media::Video {
                width: reader.u16("width")?,
                height: reader.u16("height")?,
                frame_rate_milli: reader.u32("frame rate")?,
            },
            2 => Media::Audio { channels: reader.u8("channels")?, sample_rate: reader.u32("sample rate")? },
            other => return Err(Error::Value { what: "media", got: u64::from(other) }),
        };
        let codecs = reader.text("codecs", CODECS_BYTES_MAX)?;
        if codecs.is_empty() || !codecs.bytes().all(|b| b.is_ascii_alphanumeric() || b".,-_".contains(&b)) {
            // It stands inside quotes in a playlist.
            return Err(Error::Text("codecs"));
        }
        Ok(Self {
            id,
            name,
            group,
            media,
            codecs,
            bandwidth: BitRate(reader.u64("bandwidth")?),
            timescale: positive("timescale", reader.u32("timescale")?)?,
            target_duration_ms: positive("target duration", reader.u32("target duration")?)?,
            part_target_ms: positive("part target", reader.u32("part target")?)?,
            init: reader.bytes("init segment", INIT_BYTES_MAX)?,
        })
    }
}

fn read_slug(reader: &mut Reader, what: &'static str) -> Result<String, Error> {
    let text = reader.text(what, SLUG_BYTES_MAX)?;
    StreamId::new(&text).map_err(|_| Error::Text(what))?;
    Ok(text)
}

fn positive(what: &'static str, value: u32) -> Result<u32, Error> {
    if value == 0 { Err(Error::Value { what, got: 0 }) } else { Ok(value) }
}

/// The signed description of a stream. A higher version replaces a lower one of the same generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The delegation's generation.
    pub generation: u32,
    /// Counts up from 1 within a generation.
    pub version: u32,
    /// When it was made.
    pub created: WallTime,
    /// No record follows any more: the stream is over.
    pub ended: bool,
    /// The renditions, each id and name once, 1 to [`RENDITIONS_MAX`].
    pub renditions: Vec<Rendition>,
}

impl Catalog {
    /// The rendition with this number.
    #[must_use]
    pub fn rendition(&self, id: RenditionId) -> Option<&Rendition> {
        self.renditions.iter().find(|rendition| rendition.id == id)
    }

    /// The rendition with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Rendition> {
        self.renditions.iter().find(|rendition| rendition.name == name)
    }
}

impl Body for Catalog {
    const TAG: &'static str = "millstream catalog v1";
    type Key = PublicKey;

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.generation);
        writer.u32(self.version);
        writer.u64(self.created.0);
        writer.u8(u8::from(self.ended));
        writer.varint(self.renditions.len() as u64);
        for rendition in &self.renditions {
            rendition.write(writer);
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        let generation = reader.u32("generation")?;
        let version = positive("catalog version", reader.u32("catalog version")?)?;
        let created = WallTime(reader.u64("created")?);
        let ended = match reader.u8("ended")? {
            0 => false,
            1 => true,
            other => return Err(Error::Value { what: "ended", got: u64::from(other) }),
        };
        let count = reader.varint("renditions", RENDITIONS_MAX as u64)?;
        if count == 0 {
            return Err(Error::Value { what: "renditions", got: 0 });
        }
        let mut renditions: Vec<Rendition> = Vec::new();
        for _ in 0..count {
            let next = Rendition::read(reader)?;
            if renditions.iter().any(|other| other.id == next.id || other.name == next.name) {
                return Err(Error::Value { what: "a second rendition", got: u64::from(next.id.0) });
            }
            renditions.push(next);
        }
        Ok(Self { generation, version, created, ended, renditions })
    }
}

/// The signed description of one part.
///
/// Within a generation the records of a rendition are numbered without a hole and each names the digest of the one
/// before it, so that nobody can leave one out or put another in its place. Numbers go up over generations too;
/// the first record of a generation begins a segment and names [`Record::NO_PREVIOUS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The delegation's generation.
    pub generation: u32,
    /// The catalog version that describes the part's rendition.
    pub catalog: u32,
    /// The rendition.
    pub rendition: RenditionId,
    /// Counts the rendition's parts; what feeds, requests and URLs name a part by.
    pub number: u64,
    /// The media sequence number of the segment (RFC 8216bis §4.4.3.2).
    pub segment: u64,
    /// The part's index in its segment.
    pub part: u16,
    /// Decode time of its first sample.
    pub media_time: MediaTime,
    /// Decode duration, in ticks.
    pub duration: u32,
    /// Wall-clock time of its first sample.
    pub program_date_time: WallTime,
    /// How many discontinuities lie before it since the stream began; the same for all renditions.
    pub discontinuity: u32,
    /// A decoder can start here.
    pub independent: bool,
    /// A segment begins here (and the one before it ended).
    pub first: bool,
    /// Bytes.
    pub size: u32,
    /// SHA-256 of each 64 KiB piece.
    pub pieces: Vec<Hash>,
    /// Digest of the record before it.
    pub previous: Hash,
}

impl Record {
    /// What the first record of a generation names as the one before it.
    pub const NO_PREVIOUS: Hash = Hash([0; 32]);

    const INDEPENDENT: u8 = 1;
    const FIRST: u8 = 2;
}

impl Body for Record {
    const TAG: &'static str = "millstream record v1";
    type Key = PublicKey;

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.generation);
        writer.u32(self.catalog);
        writer.u8(self.rendition.0);
        writer.varint(self.number);
        writer.varint(self.segment);
        writer.u16(self.part);
        writer.varint(self.media_time.0);
        writer.u32(self.duration);
        writer.u64(self.program_date_time.0);
        writer.u32(self.discontinuity);
        let independent = if self.independent { Self::INDEPENDENT } else { 0 };
        let first = if self.first { Self::FIRST } else { 0 };
        writer.u8(independent | first);
        writer.u32(self.size);
        for piece in &self.pieces {
            writer.raw(piece.as_bytes());
        }
        writer.raw(self.previous.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        let generation = reader.u32("generation")?;
        let catalog = reader.u32("catalog version")?;
        let rendition = RenditionId(reader.u8("rendition")?);
        let number = reader.varint("number", VARINT_MAX)?;
        let segment = reader.varint("segment", VARINT_MAX)?;
        let part = reader.u16("part")?;
        let media_time = MediaTime(reader.varint("media time", VARINT_MAX)?);
        let duration = positive("duration", reader.u32("duration")?)?;
        let program_date_time = WallTime(reader.u64("program date time")?);
        let discontinuity = reader.u32("discontinuity")?;
        let flags = reader.u8("flags")?;
        if flags & !(Self::INDEPENDENT | Self::FIRST) != 0 {
            return Err(Error::Value { what: "flags", got: u64::from(flags) });
        }
        let first = flags & Self::FIRST != 0;
        if first != (part == 0) {
            return Err(Error::Value { what: "part index against the first flag", got: u64::from(part) });
        }
        let size = positive("size", reader.u32("size")?)?;
        if size > PART_BYTES_MAX {
            return Err(Error::Over { what: "size", got: u64::from(size), max: u64::from(PART_BYTES_MAX) });
        }
        let pieces =
            (0..piece_count(size)).map(|_| reader.fixed("piece hash").map(Hash)).collect::<Result<_, _>>()?;
        Ok(Self {
            generation,
            catalog,
            rendition,
            number,
            segment,
            part,
            media_time,
            duration,
            program_date_time,
            discontinuity,
            independent: flags & Self::INDEPENDENT != 0,
            first,
            size,
            pieces,
            previous: Hash(reader.fixed("previous")?),
        })
    }
}

/// Hashes of a part's pieces: what its record carries.
#[must_use]
pub fn hash_pieces(part: &[u8]) -> Vec<Hash> {
    part.chunks(millstream_model::PIECE_BYTES as usize).map(crate::sign::sha256).collect()
}
