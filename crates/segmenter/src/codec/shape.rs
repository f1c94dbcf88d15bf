//! What every video codec says of its pictures: their size, the shape of a pixel, how many a second.

use mp4_atom::{Pasp, Visual};

use super::{Error, bits::Reader};

/// Pixels on a side at most: the largest that H.264's level 6.2 allows, twice as much as HEVC's and AV1's.
pub(super) const SIDE_PIXELS_MAX: u32 = 16_888;

/// Frames a second at most; a rate beyond is not believed.
const FRAME_RATE_MAX: u64 = 1_000;

/// How wide and high a pixel is.
pub(crate) type Aspect = (u32, u32);

/// Sample aspect ratios by `aspect_ratio_idc` (ITU-T H.264 Table E-1, H.265 Table E.1), from 1 on.
const ASPECTS: [Aspect; 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

/// What a configuration says of its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Pixels, after cropping.
    pub(crate) width: u16,
    /// Pixels, after cropping.
    pub(crate) height: u16,
    /// `None` where pixels are square.
    pub(crate) aspect: Option<Aspect>,
    /// What the encoder says of its frames per 1,000 seconds; a hint, since it says so of variable rates too.
    pub(crate) frame_rate_milli: Option<u32>,
}

impl Shape {
    /// The beginning of a sample entry.
    pub(super) fn visual(&self) -> Visual {
        Visual { data_reference_index: 1, width: self.width, height: self.height, ..Visual::default() }
    }

    pub(super) fn pasp(&self) -> Option<Pasp> {
        self.aspect.map(|(h_spacing, v_spacing)| Pasp { h_spacing, v_spacing })
    }
}

/// The shape of a pixel, as the usability information of H.264 and HEVC begins.
pub(super) fn aspect(reader: &mut Reader<'_>) -> Result<Option<Aspect>, Error> {
    if !reader.flag()? {
        return Ok(None);
    }
    let aspect = match reader.bits(8)? {
        255 => Some((reader.bits(16)?, reader.bits(16)?)),
        index => usize::try_from(index).ok().and_then(|i| ASPECTS.get(i.checked_sub(1)?)).copied(),
    };
    Ok(aspect.filter(|&(wide, high)| wide > 0 && high > 0 && wide != high))
}

/// Passes over what the usability information of H.264 and HEVC says next: overscan, colours, where chroma lies.
pub(super) fn signal(reader: &mut Reader<'_>) -> Result<(), Error> {
    if reader.flag()? {
        reader.flag()?; // overscan_appropriate_flag
    }
    if reader.flag()? {
        reader.bits(4)?; // video_format, video_full_range_flag
        if reader.flag()? {
            reader.bits(24)?; // colour description
        }
    }
    if reader.flag()? {
        reader.golomb()?; // chroma_sample_loc_type_top_field
        reader.golomb()?; // chroma_sample_loc_type_bottom_field
    }
    Ok(())
}

/// Frames per 1,000 seconds, of `scale` ticks a second and `units` ticks a frame.
pub(super) fn frame_rate_milli(scale: u64, units: u64) -> Option<u32> {
    if units == 0 || scale / units > FRAME_RATE_MAX {
        return None;
    }
    u32::try_from((scale * 1_000 + units / 2) / units).ok().filter(|&rate| rate > 0)
}

/// A side of so many pixels, if it can be.
pub(super) fn side(what: &'static str, pixels: u32) -> Result<u16, Error> {
    match u16::try_from(pixels) {
        Ok(side) if (1..=SIDE_PIXELS_MAX).contains(&pixels) => Ok(side),
        _ => Err(Error::Value { what, got: pixels }),
    }
}
