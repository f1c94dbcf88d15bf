//! Bytes read as a script: what happens next, with which numbers. Any bytes are a script; at their end all is zero.

/// What is left of a script.
#[derive(Debug, Clone)]
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// True as long as there is a next step.
    pub(crate) const fn goes_on(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    pub(crate) fn half(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn long(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True for one byte in sixteen: for what shall happen seldom.
    pub(crate) fn seldom(&mut self) -> bool {
        self.byte() & 15 == 15
    }

    /// A place in a list of `len`; 0 for an empty one.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        if len <= 256 { usize::from(self.byte()) % len.max(1) } else { usize::from(self.half()) % len }
    }

    /// Bytes behind their length, which is one byte.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.take(len)
    }

    /// The next `len` bytes, or as many as there are.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

/// `bytes` in pieces whose lengths follow from `seed`, most of them short. All of them, in order.
pub(crate) fn cuts(bytes: &[u8], seed: u8, longest: usize) -> Vec<&[u8]> {
    let mut state = u32::from(seed) | 0x100;
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, ..] = state.to_be_bytes();
        let len = if a & 3 == 0 { usize::from(b) * 16 + 1 } else { usize::from(b & 15) + 1 };
        let (piece, left) = rest.split_at(len.min(longest).min(rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces
}
