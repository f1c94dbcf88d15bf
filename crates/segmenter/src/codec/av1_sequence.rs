//! AV1's sequence header (AV1 bitstream §5.5): profile, size, colours and the text that names them.

use std::fmt::Write as _;

use super::{
    Error,
    bits::{Reader, low_byte},
    shape::{self, Shape},
};

/// `color_primaries`, `transfer_characteristics` and `matrix_coefficients` of red, green and blue in full (sRGB).
const RED_GREEN_BLUE: [u8; 3] = [1, 13, 0];

/// What is taken for granted where a text says nothing: BT.709.
const COLOURS_USUAL: [u8; 3] = [1; 3];

/// What a sequence header says.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) profile: u8,
    pub(super) level: u8,
    /// The high tier.
    pub(super) tier: bool,
    pub(super) bit_depth: u8,
    pub(super) monochrome: bool,
    pub(super) subsampling: (bool, bool),
    pub(super) chroma_position: u8,
    pub(super) shape: Shape,
    /// Primaries, transfer, matrix; `None` where nothing is said.
    colours: Option<[u8; 3]>,
    full_range: bool,
}

impl Sequence {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let profile = low_byte(reader.bits(3)?);
        if profile > 2 {
            return Err(Error::Value { what: "seq_profile", got: profile.into() });
        }
        reader.flag()?; // still_picture
        if reader.flag()? {
            return Err(Error::Value { what: "reduced_still_picture_header", got: 1 });
        }
        let (frame_rate_milli, delay_bits) = timing(&mut reader)?;
        let (level, tier) = operating_points(&mut reader, delay_bits)?;
        let [columns, rows] = [reader.bits(4)? + 1, reader.bits(4)? + 1];
        let width = shape::side("max_frame_width_minus_1", reader.bits(columns)? + 1)?;
        let height = shape::side("max_frame_height_minus_1", reader.bits(rows)? + 1)?;
        tools(&mut reader)?;
        let mut sequence = Self {
            profile,
            level,
            tier,
            bit_depth: 8,
            monochrome: false,
            subsampling: (true, true),
            chroma_position: 0,
            shape: Shape { width, height, aspect: None, frame_rate_milli },
            colours: None,
            full_range: false,
        };
        sequence.colour(&mut reader)?;
        Ok(sequence)
    }

    /// `color_config()` (§5.5.2).
    fn colour(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        if reader.flag()? {
            self.bit_depth = if self.profile == 2 && reader.flag()? { 12 } else { 10 };
        }
        self.monochrome = self.profile != 1 && reader.flag()?;
        if reader.flag()? {
            self.colours = Some([reader.byte()?, reader.byte()?, reader.byte()?]);
        }
        if self.monochrome {
            self.full_range = reader.flag()?;
            return Ok(());
        }
        if self.colours == Some(RED_GREEN_BLUE) {
            (self.full_range, self.subsampling) = (true, (false, false));
            return Ok(());
        }
        self.full_range = reader.flag()?;
        self.subsampling = match (self.profile, self.bit_depth) {
            (0, _) => (true, true),
            (1, _) => (false, false),
            (_, 12) => {
                let wide = reader.flag()?;
                (wide, wide && reader.flag()?)
            }
            _ => (true, false),
        };
        if self.subsampling == (true, true) {
            self.chroma_position = low_byte(reader.bits(2)?);
        }
        Ok(())
    }

    /// The RFC 6381 text (AV1 in ISOBMFF §5), short where all that may be left out is as if it were.
    pub(super) fn codec(&self) -> String {
        let tier = if self.tier { 'H' } else { 'M' };
        let mut codec = format!("av01.{}.{:02}{tier}.{:02}", self.profile, self.level, self.bit_depth);
        // What is left open (2) is mostly what is taken for granted.
        let colours = self.colours.unwrap_or(COLOURS_USUAL).map(|value| if value == 2 { 1 } else { value });
        let [wide, high] = [self.subsampling.0, self.subsampling.1].map(u8::from);
        let usual = !self.monochrome && (wide, high) == (1, 1) && !self.full_range;
        if !usual || colours != COLOURS_USUAL {
            let [primaries, transfer, matrix] = colours;
            let (monochrome, position) = (u8::from(self.monochrome), self.chroma_position);
            let _ = write!(
                codec,
                ".{monochrome}.{wide}{high}{position}.{primaries:02}.{transfer:02}.{matrix:02}.{}",
                u8::from(self.full_range)
            );
        }
        codec
    }
}

/// The frame rate, where frames are equally long, and the bits of a decoder model's delays, where there is one.
fn timing(reader: &mut Reader<'_>) -> Result<(Option<u32>, Option<u32>), Error> {
    if !reader.flag()? {
        return Ok((None, None));
    }
    let units = u64::from(reader.bits(32)?);
    let scale = u64::from(reader.bits(32)?);
    let mut rate = None;
    if reader.flag()? {
        // `uvlc()` is an Exp-Golomb number.
        let ticks = u64::from(reader.golomb()?) + 1;
        rate = shape::frame_rate_milli(scale, units.saturating_mul(ticks));
    }
    let mut delay_bits = None;
    if reader.flag()? {
        delay_bits = Some(reader.bits(5)? + 1);
        reader.skip(32 + 5 + 5)?;
    }
    Ok((rate, delay_bits))
}

/// Level and tier of the first operating point.
fn operating_points(reader: &mut Reader<'_>, delay_bits: Option<u32>) -> Result<(u8, bool), Error> {
    let has_display_delay = reader.flag()?;
    let mut first = None;
    for _ in 0..=reader.bits(5)? {
        reader.bits(12)?; // operating_point_idc
        let level = low_byte(reader.bits(5)?);
        let tier = level > 7 && reader.flag()?;
        if let Some(bits) = delay_bits
            && reader.flag()?
        {
            reader.skip(2 * bits + 1)?;
        }
        if has_display_delay && reader.flag()? {
            reader.bits(4)?;
        }
        first.get_or_insert((level, tier));
    }
    first.ok_or(Error::Short)
}

/// From the frame's size to its colours.
fn tools(reader: &mut Reader<'_>) -> Result<(), Error> {
    if reader.flag()? {
        reader.bits(4 + 3)?; // lengths of frame ids
    }
    reader.bits(3)?; // superblocks, filters
    reader.bits(4)?; // compound modes, warped motion, dual filter
    let order_hint = reader.flag()?;
    if order_hint {
        reader.bits(2)?;
    }
    let screen_content = reader.flag()? || reader.flag()?; // left open, or said
    // seq_choose_integer_mv, and seq_force_integer_mv where that is not left open
    if screen_content && !reader.flag()? {
        reader.flag()?;
    }
    if order_hint {
        reader.bits(3)?;
    }
    reader.bits(3)?; // superresolution, cdef, restoration
    Ok(())
}
