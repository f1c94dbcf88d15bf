//! What stands inside chunks behind a kind and a length: parameters and error causes have the same form
//! (RFC 9260 §3.2.1, §3.3.10).

use std::iter::FusedIterator;

/// Kind and length.
pub(super) const PARAMETER_HEADER_BYTES: usize = 4;

/// A list of parameters or causes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parameters<'a>(&'a [u8]);

/// One that runs out of its chunk, or is shorter than its own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truncated;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    pub(super) kind: u16,
    /// With its header, without padding.
    pub(super) whole: &'a [u8],
}

impl<'a> Parameter<'a> {
    pub(super) fn value(&self) -> &'a [u8] {
        self.whole.get(PARAMETER_HEADER_BYTES..).unwrap_or_default()
    }
}

impl<'a> Parameters<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn read(&mut self) -> Option<Parameter<'a>> {
        let (&[k0, k1, l0, l1], _) = self.0.split_first_chunk::<PARAMETER_HEADER_BYTES>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let whole = self.0.get(..length).filter(|whole| whole.len() >= PARAMETER_HEADER_BYTES)?;
        // The last one's padding is the chunk's, and not counted by its length.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Parameter { kind: u16::from_be_bytes([k0, k1]), whole })
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<Parameter<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let parameter = self.read().ok_or(Truncated);
        if parameter.is_err() {
            self.0 = &[];
        }
        Some(parameter)
    }
}

impl FusedIterator for Parameters<'_> {}
