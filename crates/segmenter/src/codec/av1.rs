//! AV1: the `AV1CodecConfigurationRecord` (AV1 in ISOBMFF v1.2 §2.3), and temporal units as samples hold them (§2.4).

use bytes::Bytes;
use mp4_atom::{Av01, Av1c};

use super::{Described, Error, av1_sequence::Sequence, bounded};

/// `obu_type` (AV1 bitstream §6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;

/// Bytes of `leb128()` at most (AV1 bitstream §4.10.5).
const LEB128_BYTES_MAX: usize = 8;

/// What the samples of a track need to become samples of a file.
#[derive(Debug, Clone)]
pub(crate) struct Units {
    /// The configuration's sequence header, as an OBU.
    header: Vec<u8>,
}

/// What a record says.
pub(super) fn parse(raw: &[u8]) -> Result<(Described, Units), Error> {
    let Some((&[version, _, _, _], mut rest)) = bounded(raw)?.split_first_chunk() else {
        return Err(Error::Short);
    };
    if version != 0x81 {
        return Err(Error::Value { what: "marker and version", got: version.into() });
    }
    let mut header = None;
    while let (None, Some((obu, behind))) = (header, Obu::read(rest)) {
        header = (obu.kind == SEQUENCE_HEADER).then_some(obu.payload);
        rest = behind;
    }
    let payload = header.ok_or(Error::Absent("a sequence header in configOBUs"))?;
    let sequence = Sequence::parse(payload)?;
    // The box is made of the header alone, so that the two agree; no other OBU needs to stand in it.
    let header = sequence_header(payload);
    let av1c = Av1c {
        seq_profile: sequence.profile,
        seq_level_idx_0: sequence.level,
        seq_tier_0: sequence.tier,
        high_bitdepth: sequence.bit_depth > 8,
        twelve_bit: sequence.bit_depth > 10,
        monochrome: sequence.monochrome,
        chroma_subsampling_x: sequence.subsampling.0,
        chroma_subsampling_y: sequence.subsampling.1,
        chroma_sample_position: sequence.chroma_position,
        initial_presentation_delay: None,
        config_obus: header.clone(),
    };
    let entry = Av01 { visual: sequence.shape.visual(), av1c, ..Av01::default() };
    let described = Described { codec: sequence.codec(), shape: sequence.shape, entry: entry.into() };
    Ok((described, Units { header }))
}

/// An OBU in the low-overhead format (AV1 bitstream §5.2).
struct Obu<'a> {
    kind: u8,
    payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// The first OBU and what is behind it; `None` where there is no whole one.
    fn read(data: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&header, mut rest) = data.split_first()?;
        if header & 0x80 != 0 {
            return None; // obu_forbidden_bit
        }
        if header & 0x04 != 0 {
            rest = rest.get(1..)?; // layers
        }
        // The last one may leave its size out: it is what is left.
        let mut size = rest.len();
        if header & 0x02 != 0 {
            (size, rest) = leb128(rest)?;
        }
        let (payload, behind) = rest.split_at_checked(size)?;
        Some((Self { kind: header >> 3 & 0x0f, payload }, behind))
    }
}

fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value: u64 = 0;
    for (at, &byte) in data.iter().enumerate().take(LEB128_BYTES_MAX) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, data.get(at + 1..)?));
        }
    }
    None
}

fn sequence_header(payload: &[u8]) -> Vec<u8> {
    let mut obu = vec![SEQUENCE_HEADER << 3 | 0x02];
    let mut left = payload.len();
    loop {
        let low = u8::try_from(left & 0x7f).unwrap_or(0);
        left >>= 7;
        obu.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    obu.extend_from_slice(payload);
    obu
}

impl Units {
    /// A temporal unit as a sample: without temporal delimiters, and with a sequence header where a decoder can start.
    /// Says whether one can: its first frame is a key frame that is shown (AV1 in ISOBMFF §2.4). `None` when the unit
    /// cannot be read, or has no frame.
    pub(crate) fn sample(&self, data: &Bytes) -> Option<(Bytes, bool)> {
        let mut rest = &data[..];
        let mut delimiters = Vec::new();
        let mut has_header = false;
        let mut starts = None;
        while !rest.is_empty() {
            let begin = data.len() - rest.len();
            let (obu, behind) = Obu::read(rest)?;
            rest = behind;
            match obu.kind {
                TEMPORAL_DELIMITER => delimiters.push(begin..data.len() - rest.len()),
                SEQUENCE_HEADER => has_header |= starts.is_none(),
                // show_existing_frame 0, frame_type 0 (a key frame), show_frame 1
                FRAME_HEADER | FRAME if starts.is_none() => starts = Some(obu.payload.first()? >> 4 == 1),
                _ => {}
            }
        }
        let starts = starts?;
        let sample = match delimiters.as_slice() {
            [] => data.clone(),
            [first] if first.start == 0 => data.slice(first.end..),
            _ => without(data, &delimiters),
        };
        if starts && !has_header {
            return Some(([&self.header, &sample[..]].concat().into(), true));
        }
        Some((sample, starts))
    }
}

fn without(data: &[u8], gaps: &[std::ops::Range<usize>]) -> Bytes {
    let mut kept = Vec::with_capacity(data.len());
    let mut from = 0;
    for gap in gaps {
        kept.extend_from_slice(data.get(from..gap.start).unwrap_or_default());
        from = gap.end;
    }
    kept.extend_from_slice(data.get(from..).unwrap_or_default());
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SVT-AV1 at 320×180, as ffmpeg writes it.
    const RECORD: [u8; 17] = [0x81, 0, 12, 0, 10, 11, 0, 0, 0, 4, 0x3c, 0xfe, 0xcc, 2, 0xf8, 0, 0x40];

    /// libaom at 1280×720, ten bits, HDR10's colours.
    const RECORD_HDR: [u8; 20] =
        [0x81, 5, 0x4c, 0, 10, 14, 0, 0, 0, 0x2d, 0x4c, 0xff, 0xb3, 0xcd, 0xaf, 0x95, 9, 16, 9, 4];

    const KEY: [u8; 4] = [0x32, 2, 0x14, 0];
    const INTER: [u8; 4] = [0x32, 2, 0x30, 0];
    const DELIMITER: [u8; 2] = [0x12, 0];

    fn sample(parts: &[&[u8]]) -> Option<(Vec<u8>, bool)> {
        let (_, units) = parse(&RECORD).unwrap();
        let (sample, starts) = units.sample(&Bytes::from(parts.concat()))?;
        Some((sample.to_vec(), starts))
    }

    #[test]
    fn real_records_tell_size_and_codec() {
        let (plain, _) = parse(&RECORD).unwrap();
        assert_eq!((plain.shape.width, plain.shape.height), (320, 180));
        assert_eq!(plain.codec, "av01.0.00M.08");
        let (hdr, _) = parse(&RECORD_HDR).unwrap();
        assert_eq!((hdr.shape.width, hdr.shape.height), (1280, 720));
        assert_eq!(hdr.codec, "av01.0.05M.10.0.110.09.16.09.0");
        let mp4_atom::Codec::Av01(entry) = hdr.entry else { panic!("av01") };
        assert_eq!(entry.av1c.config_obus, RECORD_HDR[4..]);
        assert!(entry.av1c.high_bitdepth && !entry.av1c.twelve_bit);
    }

    #[test]
    fn a_record_without_a_sequence_header_is_refused_by_name() {
        let Err(error) = parse(&RECORD[..4]) else { panic!("it is refused") };
        assert_eq!(error.to_string(), "a sequence header in configOBUs is missing");
    }

    #[test]
    fn a_box_holds_the_sequence_header_alone() {
        // Metadata and padding, which a record may have.
        let record = [&RECORD[..], &[0x2a, 2, 1, 0], &[0x7a, 1, 0x80]].concat();
        let mp4_atom::Codec::Av01(entry) = parse(&record).unwrap().0.entry else { panic!("av01") };
        assert_eq!(entry.av1c.config_obus, RECORD[4..]);
    }

    #[test]
    fn temporal_delimiters_leave() {
        let header = &RECORD[4..];
        let whole = [header, &KEY].concat();
        assert_eq!(sample(&[&DELIMITER, header, &KEY]), Some((whole.clone(), true)));
        assert_eq!(sample(&[header, &DELIMITER, &KEY, &DELIMITER]), Some((whole, true)));
        assert_eq!(sample(&[&DELIMITER, &INTER]), Some((INTER.to_vec(), false)));
        assert_eq!(sample(&[&DELIMITER]), None, "no frame is left");
    }

    #[test]
    fn a_key_frame_without_a_sequence_header_is_given_the_records() {
        let whole = [&RECORD[4..], &KEY].concat();
        assert_eq!(sample(&[&DELIMITER, &KEY]), Some((whole.clone(), true)));
        assert_eq!(sample(&[&KEY]), Some((whole, true)));
    }

    #[test]
    fn a_decoder_starts_at_shown_key_frames_alone() {
        let starts = |bits: u8| sample(&[&[0x32, 1, bits << 4]]).unwrap().1;
        // show_existing_frame, frame_type (two bits), show_frame
        let all: Vec<u8> = (0..16).filter(|&bits| starts(bits)).collect();
        assert_eq!(all, [0b0001]);
        assert!(!sample(&[&INTER, &KEY]).unwrap().1, "the first frame decides");
    }

    #[test]
    fn the_last_obu_may_leave_its_size_out_and_any_may_have_layers() {
        assert_eq!(sample(&[&DELIMITER, &[0x30, 0x30, 7]]), Some((vec![0x30, 0x30, 7], false)));
        assert_eq!(sample(&[&[0x36, 0x08, 1, 0x30]]), Some((vec![0x36, 0x08, 1, 0x30], false)));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_survived() {
        for record in [&RECORD[..], &RECORD_HDR] {
            for len in 0..record.len() {
                assert!(parse(&record[..len]).is_err(), "{len}");
            }
            for bit in 0..record.len() * 8 {
                let mut flipped = record.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let _ = parse(&flipped);
            }
        }
        let unit = [&DELIMITER[..], &RECORD[4..], &KEY, &INTER].concat();
        for len in 0..unit.len() {
            sample(&[&unit[..len]]);
        }
        assert_eq!(sample(&[&[0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]), None);
        assert_eq!(sample(&[&[0xb2, 1, 0x10]]), None);
    }

    #[test]
    fn long_headers_keep_their_size() {
        let obu = sequence_header(&[7; 300]);
        assert_eq!(&obu[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(Obu::read(&obu).unwrap().0.payload.len(), 300);
    }
}
