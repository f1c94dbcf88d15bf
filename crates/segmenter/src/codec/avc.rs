//! H.264: the `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1) and the sequence parameter set in it
//! (ITU-T H.264 §7.3.2.1.1, §E.1.1).

use mp4_atom::{Avc1, Avcc, AvccExt};

use super::{
    Described, Error,
    bits::{Reader, low_byte, unescape},
    bounded,
    shape::{self, Aspect, SIDE_PIXELS_MAX, Shape},
};

/// Profiles whose parameter sets and records carry the chroma format and bit depths.
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// What a record says.
pub(super) fn parse(raw: &[u8]) -> Result<Described, Error> {
    let avcc = record(bounded(raw)?)?;
    let sps = avcc.sequence_parameter_sets.first().ok_or(Error::Short)?;
    let shape = sequence_parameters(sps)?;
    let codec = format!(
        "avc1.{:02X}{:02X}{:02X}",
        avcc.avc_profile_indication, avcc.profile_compatibility, avcc.avc_level_indication
    );
    let entry = Avc1 { visual: shape.visual(), avcc, pasp: shape.pasp(), ..Avc1::default() };
    Ok(Described { codec, shape, entry: entry.into() })
}

fn record(raw: &[u8]) -> Result<Avcc, Error> {
    let mut reader = Reader::new(raw);
    let version = reader.bits(8)?;
    if version != 1 {
        return Err(Error::Value { what: "configurationVersion", got: version });
    }
    let profile = reader.bits(8)?;
    let [compatibility, level] = [reader.bits(8)?, reader.bits(8)?];
    let length_size = (reader.bits(8)? & 3) + 1;
    if length_size == 3 {
        return Err(Error::Value { what: "lengthSizeMinusOne", got: 2 });
    }
    let count = reader.bits(8)? & 0x1f;
    let sps = parameter_sets(&mut reader, count)?;
    let count = reader.bits(8)?;
    let pps = parameter_sets(&mut reader, count)?;
    // Many encoders leave it out, or end with something else: then it is as good as absent.
    let ext = if HIGH_PROFILES.contains(&profile) { extension(&mut reader).ok() } else { None };
    Ok(Avcc {
        configuration_version: 1,
        avc_profile_indication: low_byte(profile),
        profile_compatibility: low_byte(compatibility),
        avc_level_indication: low_byte(level),
        length_size: low_byte(length_size),
        sequence_parameter_sets: sps,
        picture_parameter_sets: pps,
        ext,
    })
}

fn parameter_sets(reader: &mut Reader<'_>, count: u32) -> Result<Vec<Vec<u8>>, Error> {
    (0..count)
        .map(|_| {
            let length = reader.bits(16)?;
            (0..length).map(|_| Ok(low_byte(reader.bits(8)?))).collect()
        })
        .collect()
}

fn extension(reader: &mut Reader<'_>) -> Result<AvccExt, Error> {
    let chroma_format = low_byte(reader.bits(8)? & 3);
    let [luma, chroma] = [reader.bits(8)? & 7, reader.bits(8)? & 7];
    let count = reader.bits(8)?;
    Ok(AvccExt {
        chroma_format,
        bit_depth_luma: low_byte(luma + 8),
        bit_depth_chroma: low_byte(chroma + 8),
        sequence_parameter_sets_ext: parameter_sets(reader, count)?,
    })
}

fn sequence_parameters(nal: &[u8]) -> Result<Shape, Error> {
    let payload = unescape(nal);
    let mut reader = Reader::new(&payload);
    let header = reader.bits(8)?;
    if header & 0x1f != 7 {
        return Err(Error::Value { what: "nal_unit_type of a sequence parameter set", got: header & 0x1f });
    }
    let profile = reader.bits(8)?;
    reader.bits(16)?; // constraints, level
    reader.golomb()?; // seq_parameter_set_id
    let mut chroma = 1;
    if HIGH_PROFILES.contains(&profile) {
        chroma = reader.golomb()?;
        if chroma > 3 {
            return Err(Error::Value { what: "chroma_format_idc", got: chroma });
        }
        if chroma == 3 && reader.flag()? {
            chroma = 0; // separate planes crop as monochrome does
        }
        reader.golomb()?; // bit_depth_luma_minus8
        reader.golomb()?; // bit_depth_chroma_minus8
        reader.flag()?; // qpprime_y_zero_transform_bypass_flag
        if reader.flag()? {
            scaling_matrix(&mut reader, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    reader.golomb()?; // log2_max_frame_num_minus4
    picture_order(&mut reader)?;
    reader.golomb()?; // max_num_ref_frames
    reader.flag()?; // gaps_in_frame_num_value_allowed_flag
    let columns = reader.golomb()?;
    let rows = reader.golomb()?;
    let frames_only = reader.flag()?;
    if !frames_only {
        reader.flag()?; // mb_adaptive_frame_field_flag
    }
    reader.flag()?; // direct_8x8_inference_flag
    let mut crop = [0; 4];
    if reader.flag()? {
        for side in &mut crop {
            *side = reader.golomb()?;
        }
    }
    let lines = if frames_only { 1 } else { 2 };
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2 * lines),
        2 => (2, lines),
        _ => (1, lines),
    };
    let width = side("width", columns, 1, unit_x, [crop[0], crop[1]])?;
    let height = side("height", rows, lines, unit_y, [crop[2], crop[3]])?;
    // What follows is for display only: when it does not read, the picture is still known.
    let (aspect, frame_rate_milli) =
        if reader.flag()? { usability(&mut reader).unwrap_or_default() } else { (None, None) };
    Ok(Shape { width, height, aspect, frame_rate_milli })
}

fn scaling_matrix(reader: &mut Reader<'_>, lists: usize) -> Result<(), Error> {
    for list in 0..lists {
        if !reader.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i64, 8_i64);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + reader.signed_golomb()? + 256).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Ok(())
}

fn picture_order(reader: &mut Reader<'_>) -> Result<(), Error> {
    match reader.golomb()? {
        0 => {
            reader.golomb()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            reader.flag()?; // delta_pic_order_always_zero_flag
            reader.golomb()?; // offset_for_non_ref_pic
            reader.golomb()?; // offset_for_top_to_bottom_field
            let cycle = reader.golomb()?;
            if cycle > 255 {
                return Err(Error::Value { what: "num_ref_frames_in_pic_order_cnt_cycle", got: cycle });
            }
            for _ in 0..cycle {
                reader.golomb()?;
            }
        }
        2 => {}
        other => return Err(Error::Value { what: "pic_order_cnt_type", got: other }),
    }
    Ok(())
}

/// Pixels on a side: macroblocks (one more than `blocks_less_one`, of `lines` times 16) less what is cropped.
fn side(
    what: &'static str,
    blocks_less_one: u32,
    lines: u32,
    unit: u32,
    crop: [u32; 2],
) -> Result<u16, Error> {
    let wrong = Error::Value { what, got: blocks_less_one };
    if blocks_less_one >= SIDE_PIXELS_MAX / 16 {
        return Err(wrong);
    }
    let coded = (blocks_less_one + 1) * 16 * lines;
    let cropped = crop[0].checked_add(crop[1]).and_then(|sum| sum.checked_mul(unit)).ok_or(wrong)?;
    let left = coded.checked_sub(cropped).filter(|&pixels| pixels > 0).ok_or(wrong)?;
    u16::try_from(left).map_err(|_| wrong)
}

type Usability = (Option<Aspect>, Option<u32>);

/// The start of the video usability information: sample aspect ratio and frame rate.
fn usability(reader: &mut Reader<'_>) -> Result<Usability, Error> {
    let aspect = shape::aspect(reader)?;
    shape::signal(reader)?;
    let mut frame_rate = None;
    if reader.flag()? {
        // A tick is a field's time.
        let units = u64::from(reader.bits(32)?) * 2;
        frame_rate = shape::frame_rate_milli(u64::from(reader.bits(32)?), units);
    }
    Ok((aspect, frame_rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::CONFIG_BYTES_MAX;

    /// x264 at 1280×720, 30 frames a second, High profile (what `ffmpeg -c:v libx264` writes).
    const SPS_720P30: [u8; 28] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80, 0x00,
        0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e, 0x07, 0x8c, 0x18, 0xcb,
    ];

    fn record_of(sps: &[u8]) -> Vec<u8> {
        let mut record = vec![1, sps[1], sps[2], sps[3], 0xff, 0xe1, 0];
        record.push(u8::try_from(sps.len()).unwrap());
        record.extend_from_slice(sps);
        record.extend_from_slice(&[1, 0, 4, 0x68, 0xeb, 0xe3, 0xcb]);
        record
    }

    #[test]
    fn a_real_record_tells_size_rate_and_codec() {
        let Described { codec, shape, .. } = parse(&record_of(&SPS_720P30)).unwrap();
        assert_eq!((shape.width, shape.height, shape.aspect), (1280, 720, None));
        assert_eq!(shape.frame_rate_milli, Some(30_000));
        assert_eq!(codec, "avc1.64001F");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_survived() {
        let record = record_of(&SPS_720P30);
        for len in 0..record.len() {
            let cut = parse(&record[..len]);
            assert!(cut.is_err(), "{len}");
        }
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = parse(&flipped);
        }
    }

    #[test]
    fn a_record_over_the_bound_is_refused() {
        assert!(matches!(parse(&[1; CONFIG_BYTES_MAX + 1]), Err(Error::Long(_))));
    }
}
