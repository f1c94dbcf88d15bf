//! CMAF boxes (ISO/IEC 23000-19, 14496-12): init segments, and parts of one `moof` and one `mdat`.

use bytes::Bytes;
use mp4_atom::{
    Codec, Dinf, Dref, Edts, Elst, ElstEntry, Encode, Error, FixedPoint, FourCC, Ftyp, Hdlr, Header, Matrix,
    Mdhd, Mdia, Mfhd, Minf, Moof, Moov, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak,
    Trex, Trun, TrunEntry, Url, Vmhd,
};

use crate::{codec::Shape, cut::Slice, sample::TrackKind};

/// Ticks a second of video: divides RTMP's milliseconds and every usual frame rate.
pub(crate) const VIDEO_TIMESCALE: u32 = 90_000;

/// Ticks in one of RTMP's milliseconds.
pub(crate) const VIDEO_TICKS_PER_MS: u32 = VIDEO_TIMESCALE / 1_000;

/// `sample_depends_on = 2`: a keyframe (ISO/IEC 14496-12 §8.8.3.1).
const SYNC_FLAGS: u32 = 0x0200_0000;

/// `sample_depends_on = 1`, `sample_is_non_sync_sample`.
const NON_SYNC_FLAGS: u32 = 0x0101_0000;

/// Bytes of an `mdat` header.
const MDAT_HEADER_BYTES: usize = 8;

/// The init segment of a video track with this sample entry. An edit list takes `shift` ticks from every presentation.
pub(crate) fn video_init(entry: &Codec, shape: &Shape, shift: u32) -> Result<Bytes, Error> {
    // On screen a pixel is as wide as its aspect says.
    let width = shape.width;
    let shown = shape.aspect.map_or(u32::from(width), |(wide, high)| {
        u32::try_from(u64::from(width) * u64::from(wide) / u64::from(high)).unwrap_or(u32::MAX)
    });
    let tkhd = Tkhd {
        width: u16::try_from(shown).unwrap_or(u16::MAX).into(),
        height: shape.height.into(),
        ..header(TrackKind::Video)
    };
    let minf = Minf { vmhd: Some(Vmhd::default()), ..media(entry.clone()) };
    let edit = ElstEntry {
        segment_duration: 0, // all there is
        media_time: Some(u64::from(shift)),
        media_rate: FixedPoint::new(1, 0),
    };
    let edts = (shift > 0).then(|| Edts { elst: Some(Elst { entries: vec![edit] }) });
    init(TrackKind::Video, VIDEO_TIMESCALE, tkhd, edts, minf)
}

/// The init segment of an audio track with this sample entry.
pub(crate) fn audio_init(entry: Codec, sample_rate: u32) -> Result<Bytes, Error> {
    let tkhd = Tkhd { volume: FixedPoint::new(1, 0), ..header(TrackKind::Audio) };
    let minf = Minf { smhd: Some(Smhd::default()), ..media(entry) };
    init(TrackKind::Audio, sample_rate, tkhd, None, minf)
}

/// A part. `sequence` counts the rendition's parts.
pub(crate) fn part(kind: TrackKind, sequence: u32, slice: &Slice) -> Result<Bytes, Error> {
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: vec![Traf {
            tfhd: Tfhd { track_id: track_id(kind), default_base_is_moof: true, ..Tfhd::default() },
            tfdt: Some(Tfdt { base_media_decode_time: slice.start }),
            trun: vec![Trun { data_offset: Some(0), samples: entries(kind, slice)?.into() }],
            ..Traf::default()
        }],
    };
    let mut boxes = Vec::new();
    moof.encode(&mut boxes)?;
    let moof_bytes = boxes.len();
    let offset = i32::try_from(moof_bytes + MDAT_HEADER_BYTES).map_err(|_| Error::InvalidSize)?;
    if let Some(trun) = moof.traf.first_mut().and_then(|traf| traf.trun.first_mut()) {
        trun.data_offset = Some(offset);
    }
    let payload: usize = slice.frames.iter().map(|frame| frame.data.len()).sum();
    // To the byte: parts are kept for as long as the window is, and what is set aside with them, too.
    let mut boxes = Vec::with_capacity(moof_bytes + MDAT_HEADER_BYTES + payload);
    moof.encode(&mut boxes)?;
    Header { kind: FourCC::new(b"mdat"), size: Some(payload) }.encode(&mut boxes)?;
    for frame in &slice.frames {
        boxes.extend_from_slice(&frame.data);
    }
    Ok(boxes.into())
}

fn entries(kind: TrackKind, slice: &Slice) -> Result<Vec<TrunEntry>, Error> {
    let entry = |frame: &crate::cut::Frame| {
        Ok(TrunEntry {
            duration: Some(frame.duration),
            size: Some(u32::try_from(frame.data.len()).map_err(|_| Error::InvalidSize)?),
            flags: Some(if frame.keyframe { SYNC_FLAGS } else { NON_SYNC_FLAGS }),
            cts: (kind == TrackKind::Video).then_some(i64::from(frame.composition)),
        })
    };
    slice.frames.iter().map(entry).collect()
}

const fn track_id(kind: TrackKind) -> u32 {
    match kind {
        TrackKind::Video => 1,
        TrackKind::Audio => 2,
    }
}

fn header(kind: TrackKind) -> Tkhd {
    Tkhd {
        track_id: track_id(kind),
        enabled: true,
        in_movie: true,
        matrix: Matrix::default(),
        ..Tkhd::default()
    }
}

fn media(entry: Codec) -> Minf {
    Minf {
        dinf: Dinf { dref: Dref { entries: vec![Url::default().into()] } },
        stbl: Stbl { stsd: Stsd { codecs: vec![entry] }, stco: Some(Stco::default()), ..Stbl::default() },
        ..Minf::default()
    }
}

fn init(kind: TrackKind, timescale: u32, tkhd: Tkhd, edts: Option<Edts>, minf: Minf) -> Result<Bytes, Error> {
    let (handler, name) = match kind {
        TrackKind::Video => (FourCC::new(b"vide"), "video"),
        TrackKind::Audio => (FourCC::new(b"soun"), "audio"),
    };
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: [b"iso6", b"mp41", b"cmfc"].map(FourCC::new).to_vec(),
    };
    let moov = Moov {
        mvhd: Mvhd {
            timescale,
            rate: FixedPoint::new(1, 0),
            volume: FixedPoint::new(1, 0),
            next_track_id: track_id(kind) + 1,
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex {
                track_id: track_id(kind),
                default_sample_description_index: 1,
                ..Trex::default()
            }],
        }),
        trak: vec![Trak {
            tkhd,
            edts,
            mdia: Mdia {
                mdhd: Mdhd { timescale, language: "und".into(), ..Mdhd::default() },
                hdlr: Hdlr { handler, name: name.into() },
                minf,
            },
            ..Trak::default()
        }],
        ..Moov::default()
    };
    let mut boxes = Vec::new();
    ftyp.encode(&mut boxes)?;
    moov.encode(&mut boxes)?;
    Ok(boxes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::Frame;

    #[test]
    fn a_part_takes_the_memory_that_it_needs() {
        let data = Bytes::from(vec![7; 10_000]);
        let frame = |start| Frame {
            start,
            duration: 3_000,
            composition: 0,
            keyframe: start == 0,
            data: data.clone(),
        };
        let frames = (0..8).map(|index| frame(index * 3_000)).collect();
        let slice = Slice { segment: 1, part: 0, start: 0, duration: 24_000, frames };
        let part = part(TrackKind::Video, 1, &slice).unwrap();
        let bytes = part.len();
        assert_eq!(Vec::from(part).capacity(), bytes);
    }
}
