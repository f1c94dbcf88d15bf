//! HEVC's sequence parameter set (ITU-T H.265 §7.3.2.2, §E.2.1), as far as the picture's size, shape and rate.

use super::{
    Error,
    bits::{Reader, unescape},
    shape::{self, Aspect, Shape},
};

/// `nal_unit_type` of a sequence parameter set.
const KIND: u32 = 33;

/// `sps_max_sub_layers_minus1` at most.
const SUB_LAYERS_MAX: u32 = 6;

/// `num_short_term_ref_pic_sets` and `num_long_term_ref_pics_sps` at most.
const SHORT_TERM_SETS_MAX: u32 = 64;
const LONG_TERM_MAX: u32 = 32;

/// Pictures that a set refers to at most (`sps_max_dec_pic_buffering_minus1`).
const REFERENCES_MAX: u32 = 16;

/// Bits of a picture's order count at most (`log2_max_pic_order_cnt_lsb_minus4` plus 4).
const ORDER_BITS_MAX: u32 = 16;

/// What a sequence parameter set says of the pictures.
pub(super) fn parse(nal: &[u8]) -> Result<Shape, Error> {
    let payload = unescape(nal);
    let mut reader = Reader::new(&payload);
    let kind = reader.bits(16)? >> 9 & 0x3f;
    if kind != KIND {
        return Err(Error::Value { what: "nal_unit_type of a sequence parameter set", got: kind });
    }
    reader.bits(4)?; // sps_video_parameter_set_id
    let sub_layers = reader.bits(3)?;
    if sub_layers > SUB_LAYERS_MAX {
        return Err(Error::Value { what: "sps_max_sub_layers_minus1", got: sub_layers });
    }
    reader.flag()?; // sps_temporal_id_nesting_flag
    profile_tier_level(&mut reader, sub_layers)?;
    reader.golomb()?; // sps_seq_parameter_set_id
    let chroma = reader.golomb()?;
    if chroma > 3 {
        return Err(Error::Value { what: "chroma_format_idc", got: chroma });
    }
    if chroma == 3 {
        reader.flag()?; // separate_colour_plane_flag
    }
    let (columns, rows) = (reader.golomb()?, reader.golomb()?);
    let mut crop = [0; 4];
    if reader.flag()? {
        for side in &mut crop {
            *side = reader.golomb()?;
        }
    }
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let width = side("pic_width_in_luma_samples", columns, unit_x, [crop[0], crop[1]])?;
    let height = side("pic_height_in_luma_samples", rows, unit_y, [crop[2], crop[3]])?;
    // What follows is for display only: when it does not read, the picture is still known.
    let (aspect, frame_rate_milli) = usability_behind_tools(&mut reader, sub_layers).unwrap_or_default();
    Ok(Shape { width, height, aspect, frame_rate_milli })
}

/// Pixels on a side less what is cropped, in units of `unit`.
fn side(what: &'static str, pixels: u32, unit: u32, crop: [u32; 2]) -> Result<u16, Error> {
    let cropped = crop[0].checked_add(crop[1]).and_then(|sum| sum.checked_mul(unit));
    let left = cropped.and_then(|cropped| pixels.checked_sub(cropped));
    shape::side(what, left.ok_or(Error::Value { what, got: pixels })?)
}

fn profile_tier_level(reader: &mut Reader<'_>, sub_layers: u32) -> Result<(), Error> {
    reader.skip(88 + 8)?; // general profile and level
    let present =
        (0..sub_layers).map(|_| Ok((reader.flag()?, reader.flag()?))).collect::<Result<Vec<_>, Error>>()?;
    if sub_layers > 0 {
        reader.skip(2 * (8 - sub_layers))?; // reserved_zero_2bits
    }
    for (profile, level) in present {
        reader.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Ok(())
}

type Usability = (Option<Aspect>, Option<u32>);

/// The usability information; the coding tools before it are only passed over.
fn usability_behind_tools(reader: &mut Reader<'_>, sub_layers: u32) -> Result<Usability, Error> {
    reader.golomb()?; // bit_depth_luma_minus8
    reader.golomb()?; // bit_depth_chroma_minus8
    let order_bits = reader.golomb()?.saturating_add(4);
    let each = reader.flag()?; // sps_sub_layer_ordering_info_present_flag
    for _ in 0..if each { sub_layers + 1 } else { 1 } {
        for _ in 0..3 {
            reader.golomb()?; // sps_max_dec_pic_buffering_minus1, …
        }
    }
    for _ in 0..6 {
        reader.golomb()?; // sizes and depths of coding blocks
    }
    if reader.flag()? && reader.flag()? {
        scaling_lists(reader)?;
    }
    reader.bits(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if reader.flag()? {
        reader.bits(8)?; // pcm_sample_bit_depth_luma_minus1, …
        reader.golomb()?;
        reader.golomb()?;
        reader.flag()?;
    }
    short_term_sets(reader)?;
    if reader.flag()? {
        let count = reader.golomb()?;
        if count > LONG_TERM_MAX || order_bits > ORDER_BITS_MAX {
            return Err(Error::Value { what: "num_long_term_ref_pics_sps", got: count });
        }
        reader.skip(count * (order_bits + 1))?;
    }
    reader.bits(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    if reader.flag()? { usability(reader) } else { Ok(Usability::default()) }
}

fn scaling_lists(reader: &mut Reader<'_>) -> Result<(), Error> {
    for size in 0..4 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !reader.flag()? {
                reader.golomb()?; // scaling_list_pred_matrix_id_delta
                continue;
            }
            if size > 1 {
                reader.signed_golomb()?; // scaling_list_dc_coef_minus8
            }
            for _ in 0..if size == 0 { 16 } else { 64 } {
                reader.signed_golomb()?;
            }
        }
    }
    Ok(())
}

/// Every `st_ref_pic_set` (§7.3.7): each may be told as a change of the one before it.
fn short_term_sets(reader: &mut Reader<'_>) -> Result<(), Error> {
    let count = reader.golomb()?;
    if count > SHORT_TERM_SETS_MAX {
        return Err(Error::Value { what: "num_short_term_ref_pic_sets", got: count });
    }
    let mut pictures: u32 = 0;
    for set in 0..count {
        let told_as_change = set > 0 && reader.flag()?;
        if told_as_change {
            reader.flag()?; // delta_rps_sign
            reader.golomb()?; // abs_delta_rps_minus1
            let mut kept = 0;
            for _ in 0..=pictures {
                // used_by_curr_pic_flag, use_delta_flag
                kept += u32::from(reader.flag()? || reader.flag()?);
            }
            pictures = kept;
        } else {
            pictures = reader.golomb()?.saturating_add(reader.golomb()?);
        }
        if pictures > REFERENCES_MAX {
            return Err(Error::Value { what: "NumDeltaPocs", got: pictures });
        }
        for _ in 0..if told_as_change { 0 } else { pictures } {
            reader.golomb()?; // delta_poc_minus1
            reader.flag()?; // used_by_curr_pic_flag
        }
    }
    Ok(())
}

fn usability(reader: &mut Reader<'_>) -> Result<Usability, Error> {
    let aspect = shape::aspect(reader)?;
    shape::signal(reader)?;
    reader.bits(3)?; // neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
    if reader.flag()? {
        for _ in 0..4 {
            reader.golomb()?; // default display window
        }
    }
    let mut frame_rate = None;
    if reader.flag()? {
        let units = u64::from(reader.bits(32)?);
        frame_rate = shape::frame_rate_milli(u64::from(reader.bits(32)?), units);
    }
    Ok((aspect, frame_rate))
}
