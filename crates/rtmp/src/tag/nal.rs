//! NAL units as far as a keyframe is to be told from another (ITU-T H.264 §7.3.1, H.265 §7.3.1.2).

use super::Setup;

/// `nal_unit_type` of an IDR picture's slices in H.264.
const AVC_IDR: u8 = 5;

/// `nal_unit_type` of pictures that a decoder can start at, in HEVC: BLA (16 to 18), IDR (19, 20), CRA (21). What
/// precedes a CRA picture on screen and follows it in the stream may refer to what came before it; decoders that start
/// there leave it out.
const HEVC_RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=21;

/// Bytes in front of a NAL unit when no set-up tells: what everybody uses.
const LENGTH_BYTES_USUAL: usize = 4;

/// Bytes of a NAL unit's length, as an `AVCDecoderConfigurationRecord` says.
pub(super) fn avc_length_bytes(setup: Option<&Setup>) -> usize {
    match setup {
        Some(Setup::Avc(record)) => length_bytes(record.get(4)),
        _ => LENGTH_BYTES_USUAL,
    }
}

/// Bytes of a NAL unit's length, as an `HEVCDecoderConfigurationRecord` says.
pub(super) fn hevc_length_bytes(setup: Option<&Setup>) -> usize {
    match setup {
        Some(Setup::Hevc(record)) => length_bytes(record.get(21)),
        _ => LENGTH_BYTES_USUAL,
    }
}

/// Whether this looks like an `HEVCDecoderConfigurationRecord`: version 1, lengths of 1, 2 or 4 bytes, and parameter
/// sets behind.
pub(super) fn is_hevc_record(record: &[u8]) -> bool {
    record.len() > 23
        && record.first() == Some(&1)
        && record.get(21).is_some_and(|lengths| lengths & 3 != 2)
        && record.get(22).is_some_and(|&arrays| arrays > 0)
}

/// Whether an IDR slice is among H.264's units; `None` when the lengths do not add up.
pub(super) fn has_idr(data: &[u8], length_bytes: usize) -> Option<bool> {
    any(data, length_bytes, |header| header & 0x1f == AVC_IDR)
}

/// Whether a slice of a random access picture is among HEVC's units; `None` when the lengths do not add up.
pub(super) fn has_random_access(data: &[u8], length_bytes: usize) -> Option<bool> {
    any(data, length_bytes, |header| HEVC_RANDOM_ACCESS.contains(&(header >> 1 & 0x3f)))
}

fn length_bytes(field: Option<&u8>) -> usize {
    field.map_or(LENGTH_BYTES_USUAL, |lengths| usize::from(lengths & 3) + 1)
}

fn any(mut data: &[u8], length_bytes: usize, is: impl Fn(u8) -> bool) -> Option<bool> {
    while !data.is_empty() {
        let (length, rest) = data.split_at_checked(length_bytes)?;
        let length = length.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let (unit, rest) = rest.split_at_checked(length)?;
        if unit.first().is_some_and(|&header| is(header)) {
            return Some(true);
        }
        data = rest;
    }
    Some(false)
}
