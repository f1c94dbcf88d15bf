//! Bits of a configuration, most significant first, read and written.

use super::Error;

/// Reads bits.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// An unsigned number of up to 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or(Error::Short)?;
            value = (value << 1) | u32::from((byte >> (7 - self.at % 8)) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    /// Passes over bits that do not matter.
    pub(super) fn skip(&mut self, count: u32) -> Result<(), Error> {
        for _ in 0..count / 32 {
            self.bits(32)?;
        }
        self.bits(count % 32).map(|_| ())
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        Ok(low_byte(self.bits(8)?))
    }

    pub(super) fn half(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    pub(super) fn flag(&mut self) -> Result<bool, Error> {
        Ok(self.bits(1)? == 1)
    }

    /// `ue(v)`: an unsigned Exp-Golomb number (ITU-T H.264 §9.1).
    pub(super) fn golomb(&mut self) -> Result<u32, Error> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros == 32 {
                return Err(Error::Value { what: "an Exp-Golomb prefix", got: zeros });
            }
        }
        Ok((1_u32 << zeros) - 1 + self.bits(zeros)?)
    }

    /// `se(v)`: a signed Exp-Golomb number (ITU-T H.264 §9.1.1).
    pub(super) fn signed_golomb(&mut self) -> Result<i64, Error> {
        let code = i64::from(self.golomb()?);
        Ok(if code % 2 == 0 { -(code / 2) } else { (code + 1) / 2 })
    }
}

/// The lowest eight bits.
pub(super) fn low_byte(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

/// Takes out the bytes that keep start codes from appearing in a NAL unit (ITU-T H.264 §7.4.1, H.265 §7.4.2).
pub(super) fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    payload
}

/// Writes bits.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    at: usize,
}

impl Writer {
    /// The lowest `count` bits of `value`.
    pub(super) fn bits(&mut self, count: u32, value: u32) {
        for shift in (0..count).rev() {
            if self.at.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let (Some(last), 1) = (self.bytes.last_mut(), (value >> shift) & 1) {
                *last |= 0x80 >> (self.at % 8);
            }
            self.at += 1;
        }
    }

    /// What was written, filled up with zeros to a whole byte.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golomb_numbers_count_up() {
        // 1 | 010 | 011 | 00100 | 00101
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = Reader::new(&bytes);
        for want in 0..5 {
            assert_eq!(reader.golomb(), Ok(want));
        }
        let mut reader = Reader::new(&bytes);
        for want in [0, 1, -1, 2, -2] {
            assert_eq!(reader.signed_golomb(), Ok(want));
        }
    }

    #[test]
    fn a_prefix_without_end_is_refused() {
        assert!(Reader::new(&[0; 8]).golomb().is_err());
        assert_eq!(Reader::new(&[]).bits(1), Err(Error::Short));
        let widest = [0, 0, 0, 1, 255, 255, 255, 254];
        assert_eq!(Reader::new(&widest).golomb(), Ok(u32::MAX - 1));
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = Writer::default();
        writer.bits(3, 0b101);
        writer.bits(13, 0x1234 & 0x1fff);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.bits(3), reader.bits(13)), (Ok(0b101), Ok(0x1234)));
    }
}
