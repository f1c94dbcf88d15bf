//! HEVC: the `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3.1), and which frames lean on what came before a
//! decoder started.

use std::fmt::Write as _;

use mp4_atom::{Hvc1, HvcCArray, Hvcc};

use super::{CONFIG_BYTES_MAX, Described, Error, bits::Reader, hevc_sps, shape};

/// `nal_unit_type` (ITU-T H.265 Table 7-1): slices, among them those of trailing pictures and of leading pictures that
/// nobody can decode who starts at the picture before them; parameter sets; messages that stand before a picture.
const SLICES: std::ops::RangeInclusive<u8> = 0..=31;
const TRAILING: std::ops::RangeInclusive<u8> = 0..=5;
const SKIPPED_LEADING: std::ops::RangeInclusive<u8> = 8..=9;
const VIDEO_PARAMETERS: u8 = 32;
const SEQUENCE_PARAMETERS: u8 = 33;
const PICTURE_PARAMETERS: u8 = 34;
const PREFIX_SEI: u8 = 39;

/// `payloadType` of messages that no player reads: an encoder's own. x265 puts its settings there, two kilobytes.
const USER_DATA: std::ops::RangeInclusive<u8> = 4..=5;

/// Bytes of a record as it comes at most, such messages and all.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// What a record says, and the bytes of a NAL unit's length.
pub(super) fn parse(raw: &[u8]) -> Result<(Described, usize), Error> {
    if raw.len() > RECORD_BYTES_MAX {
        return Err(Error::Long(raw.len()));
    }
    let hvcc = record(raw)?;
    let sps = hvcc.arrays.iter().find(|array| array.nal_unit_type == SEQUENCE_PARAMETERS);
    let sps = sps.and_then(|array| array.nalus.first()).ok_or(Error::Absent("a sequence parameter set"))?;
    let mut shape = hevc_sps::parse(sps)?;
    if shape.frame_rate_milli.is_none() && hvcc.avg_frame_rate > 0 {
        shape.frame_rate_milli = shape::frame_rate_milli(u64::from(hvcc.avg_frame_rate), 256);
    }
    let length_bytes = usize::from(hvcc.length_size_minus_one) + 1;
    let codec = codec(&hvcc);
    let entry = Hvc1 { visual: shape.visual(), hvcc, pasp: shape.pasp(), ..Hvc1::default() };
    Ok((Described { codec, shape, entry: entry.into() }, length_bytes))
}

fn record(raw: &[u8]) -> Result<Hvcc, Error> {
    let mut reader = Reader::new(raw);
    let version = reader.byte()?;
    if version != 1 {
        return Err(Error::Value { what: "configurationVersion", got: version.into() });
    }
    let mut hvcc = Hvcc::new();
    let profile = reader.byte()?;
    hvcc.general_profile_space = profile >> 6;
    hvcc.general_tier_flag = profile & 0x20 != 0;
    hvcc.general_profile_idc = profile & 0x1f;
    for flags in &mut hvcc.general_profile_compatibility_flags {
        *flags = reader.byte()?;
    }
    for flags in &mut hvcc.general_constraint_indicator_flags {
        *flags = reader.byte()?;
    }
    hvcc.general_level_idc = reader.byte()?;
    hvcc.min_spatial_segmentation_idc = reader.half()? & 0x0fff;
    hvcc.parallelism_type = reader.byte()? & 3;
    hvcc.chroma_format_idc = reader.byte()? & 3;
    hvcc.bit_depth_luma_minus8 = reader.byte()? & 7;
    hvcc.bit_depth_chroma_minus8 = reader.byte()? & 7;
    hvcc.avg_frame_rate = reader.half()?;
    let layers = reader.byte()?;
    hvcc.constant_frame_rate = layers >> 6;
    hvcc.num_temporal_layers = layers >> 3 & 7;
    hvcc.temporal_id_nested = layers & 4 != 0;
    hvcc.length_size_minus_one = layers & 3;
    if hvcc.length_size_minus_one == 2 {
        return Err(Error::Value { what: "lengthSizeMinusOne", got: 2 });
    }
    parameters(&mut reader, &mut hvcc)?;
    Ok(hvcc)
}

fn parameters(reader: &mut Reader<'_>, hvcc: &mut Hvcc) -> Result<(), Error> {
    let mut bytes = 0;
    for _ in 0..reader.byte()? {
        let kind = reader.byte()? & 0x3f;
        let mut nalus = Vec::new();
        for _ in 0..reader.half()? {
            let unit = (0..reader.half()?).map(|_| reader.byte()).collect::<Result<Vec<_>, _>>()?;
            if is_for_players(kind, &unit) {
                bytes += unit.len();
                nalus.push(unit);
            }
        }
        if !nalus.is_empty() {
            // All of them stand here, as the sample entry `hvc1` promises (ISO/IEC 14496-15 §8.4.1).
            let completeness = kind != PREFIX_SEI;
            hvcc.arrays.push(HvcCArray { completeness, nal_unit_type: kind, nalus });
        }
    }
    if bytes > CONFIG_BYTES_MAX { Err(Error::Long(bytes)) } else { Ok(()) }
}

/// Parameter sets and what is told before pictures (of a mastering display, say); not what an encoder tells of itself.
fn is_for_players(kind: u8, unit: &[u8]) -> bool {
    match kind {
        VIDEO_PARAMETERS..=PICTURE_PARAMETERS => !unit.is_empty(),
        PREFIX_SEI => unit.get(2).is_some_and(|payload| !USER_DATA.contains(payload)),
        _ => false,
    }
}

/// The RFC 6381 text (ISO/IEC 14496-15 §E.3).
fn codec(hvcc: &Hvcc) -> String {
    let space = ["", "A", "B", "C"].get(usize::from(hvcc.general_profile_space)).copied().unwrap_or_default();
    let compatibility = u32::from_be_bytes(hvcc.general_profile_compatibility_flags).reverse_bits();
    let tier = if hvcc.general_tier_flag { 'H' } else { 'L' };
    let profile = hvcc.general_profile_idc;
    let mut codec = format!("hvc1.{space}{profile}.{compatibility:X}.{tier}{}", hvcc.general_level_idc);
    let flags = &hvcc.general_constraint_indicator_flags;
    let told = flags.iter().rposition(|&flags| flags != 0).map_or(0, |last| last + 1);
    for flags in flags.iter().take(told) {
        let _ = write!(codec, ".{flags:X}");
    }
    codec
}

/// How a picture stands to the keyframe before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is shown before it and may refer to pictures before it: a decoder that started there leaves it out.
    Skipped,
    /// It follows it; none after it is skipped.
    Trailing,
    /// Neither: the keyframe itself, or a leading picture that needs nothing else.
    Other,
}

/// A frame's place, by its first slice.
pub(crate) fn place(mut data: &[u8], length_bytes: usize) -> Place {
    while !data.is_empty() {
        let Some((length, rest)) = data.split_at_checked(length_bytes) else { break };
        let length = length.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let Some((unit, rest)) = rest.split_at_checked(length) else { break };
        match unit.first().map(|header| header >> 1 & 0x3f) {
            Some(kind) if SKIPPED_LEADING.contains(&kind) => return Place::Skipped,
            Some(kind) if TRAILING.contains(&kind) => return Place::Trailing,
            Some(kind) if SLICES.contains(&kind) => return Place::Other,
            _ => data = rest,
        }
    }
    Place::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x265 at 320×180, 30 frames a second, without the messages it puts behind.
    const RECORD: &str = "01 01 60000000 900000000000 3c f000 fc fd f8 f8 0000 0f 03
        20 0001 0018 40010c01ffff01600000030090000003000003003c959409
        21 0001 002b 42010101600000030090000003000003003ca00a080c1f3e595952930bc05a02000003000200000300 3c10
        22 0001 0006 4401c073c189";

    /// x265 at 1920×1080, 29.97 frames a second, ten bits, HDR10's colours.
    const RECORD_HDR: &str = "01 02 20000000 900000000000 78 f000 fc fd fa fa 0000 0f 03
        20 0001 0018 40010c01ffff022000000300900000030000030078959409
        21 0001 002e 420101022000000300900000030000030078a003c0801107cad965654a4c2f016a1220120800001f480003a98040
        22 0001 0006 4401c073c189";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
    }

    #[test]
    fn real_records_tell_size_rate_and_codec() {
        let (plain, lengths) = parse(&bytes(RECORD)).unwrap();
        assert_eq!((plain.shape.width, plain.shape.height, lengths), (320, 180, 4));
        assert_eq!(plain.shape.frame_rate_milli, Some(30_000));
        assert_eq!(plain.codec, "hvc1.1.6.L60.90");
        let (hdr, _) = parse(&bytes(RECORD_HDR)).unwrap();
        assert_eq!((hdr.shape.width, hdr.shape.height), (1920, 1080));
        assert_eq!(hdr.shape.frame_rate_milli, Some(29_970));
        assert_eq!(hdr.codec, "hvc1.2.4.L120.90");
    }

    #[test]
    fn the_codec_text_leaves_out_what_is_zero_and_counts_bits_from_behind() {
        let mut hvcc = Hvcc::new();
        hvcc.general_profile_space = 1;
        hvcc.general_tier_flag = true;
        hvcc.general_profile_idc = 4;
        hvcc.general_profile_compatibility_flags = [0x08, 0, 0, 0];
        hvcc.general_constraint_indicator_flags = [0x9d, 0, 0x08, 0, 0, 0];
        hvcc.general_level_idc = 153;
        assert_eq!(codec(&hvcc), "hvc1.A4.10.H153.9D.0.8");
        hvcc.general_constraint_indicator_flags = [0; 6];
        assert_eq!(codec(&hvcc), "hvc1.A4.10.H153");
    }

    #[test]
    fn an_encoders_settings_are_left_out_and_what_is_told_of_a_mastering_display_is_not() {
        let mut record = bytes(RECORD);
        record[22] = 5;
        let settings = [&[0x4e, 1, 5, 0xff][..], &[7; 6_000]].concat();
        let length = u16::try_from(settings.len()).unwrap().to_be_bytes();
        record.extend([&[PREFIX_SEI, 0, 1][..], &length, &settings].concat());
        record.extend([PREFIX_SEI, 0, 1, 0, 4, 0x4e, 1, 137, 0x18]);
        let hvcc = self::record(&record).unwrap();
        let kinds: Vec<_> =
            hvcc.arrays.iter().map(|array| (array.nal_unit_type, array.completeness)).collect();
        assert_eq!(kinds, [(32, true), (33, true), (34, true), (PREFIX_SEI, false)]);
        assert_eq!(hvcc.arrays[3].nalus, [[0x4e, 1, 137, 0x18]]);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_survived() {
        let record = bytes(RECORD);
        for len in 0..record.len() {
            assert!(parse(&record[..len]).is_err(), "{len}");
        }
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = parse(&flipped);
        }
        assert!(matches!(parse(&[1; RECORD_BYTES_MAX + 1]), Err(Error::Long(_))));
    }

    #[test]
    fn a_frame_knows_its_place() {
        use Place::{Other, Skipped, Trailing};
        let frame = |kind: u8| [0, 0, 0, 2, PREFIX_SEI << 1, 1, 0, 0, 0, 3, kind << 1, 1, 7];
        let places = [9, 8, 7, 6, 1, 21, 19].map(|kind| place(&frame(kind), 4));
        assert_eq!(places, [Skipped, Skipped, Other, Other, Trailing, Other, Other]);
        assert_eq!(place(&[0, 0, 0, 9, 2], 4), Other);
        assert_eq!(place(&[0, 2, 0x12, 1], 2), Skipped);
        assert_eq!(place(&[], 4), Other);
    }
}
