//! The handshake (RTMP 1.0 §5.2), the simple one. Clients that offer the digest variant (ffmpeg, OBS, Flash) see
//! version 0 in S1 and go on without it.

use bytes::{Buf, Bytes};

/// Bytes in each of C1, C2, S1 and S2.
pub const HANDSHAKE_BYTES: usize = 1536;

/// The only version that is spoken; 6 and above are the encrypted RTMPE, which nothing uses any more.
const VERSION: u8 = 3;

/// How far a handshake has come.
#[derive(Debug)]
pub(crate) enum Handshake {
    /// Waits for C0 and C1; holds what has come of C1.
    First { version_seen: bool, c1: Vec<u8>, seed: u64 },
    /// Has answered, waits for the rest of C2, whose content proves nothing and is skipped.
    Second { left: usize },
}

/// What a step led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wants more bytes.
    More,
    /// Both sides have shaken hands.
    Done,
    /// The first byte was not RTMP's.
    NotRtmp(u8),
}

impl Handshake {
    /// `seed` makes the filler in S1; its only purpose is to differ between connections.
    pub(crate) fn new(seed: u64) -> Self {
        Self::First { version_seen: false, c1: Vec::new(), seed }
    }

    /// Takes what it needs from `input`; appends what is to be sent to `out`.
    pub(crate) fn step(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> Step {
        if let Self::First { version_seen, c1, seed } = self {
            if !*version_seen {
                if !input.has_remaining() {
                    return Step::More;
                }
                let version = input.get_u8();
                if version != VERSION {
                    return Step::NotRtmp(version);
                }
                *version_seen = true;
                c1.reserve_exact(HANDSHAKE_BYTES);
            }
            let part = input.split_to(input.len().min(HANDSHAKE_BYTES - c1.len()));
            c1.extend_from_slice(&part);
            if c1.len() < HANDSHAKE_BYTES {
                return Step::More;
            }
            out.push(VERSION);
            // Time 0 and version 0: the latter says that there is no digest to check.
            out.extend_from_slice(&[0; 8]);
            fill(*seed, HANDSHAKE_BYTES - 8, out);
            out.extend_from_slice(c1);
            *self = Self::Second { left: HANDSHAKE_BYTES };
        }
        let Self::Second { left } = self else { return Step::More };
        let skipped = input.len().min(*left);
        input.advance(skipped);
        *left -= skipped;
        if *left == 0 { Step::Done } else { Step::More }
    }

    /// Bytes it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::First { c1, .. } => c1.capacity(),
            Self::Second { .. } => 0,
        }
    }
}

/// SplitMix64: filler, not secrecy.
fn fill(seed: u64, len: usize, out: &mut Vec<u8>) {
    let end = out.len() + len;
    let mut state = seed;
    while out.len() < end {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(word ^ (word >> 31)).to_be_bytes());
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_in_single_bytes_answers_once_and_echoes() {
        let mut handshake = Handshake::new(7);
        let c1: Vec<u8> = (0..HANDSHAKE_BYTES).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let sent = [&[3], c1.as_slice(), &[9; HANDSHAKE_BYTES]].concat();
        let mut out = Vec::new();
        for (at, byte) in sent.iter().enumerate() {
            let step = handshake.step(&mut Bytes::copy_from_slice(&[*byte]), &mut out);
            assert_eq!(step, if at + 1 == sent.len() { Step::Done } else { Step::More });
            assert!(handshake.held_bytes() <= HANDSHAKE_BYTES);
        }
        assert_eq!(out.len(), 1 + 2 * HANDSHAKE_BYTES);
        assert_eq!(out[..9], [3, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[1 + HANDSHAKE_BYTES..], c1);
    }

    #[test]
    fn what_follows_the_handshake_stays_in_the_input() {
        let mut input = Bytes::from([&[3], [0; 2 * HANDSHAKE_BYTES].as_slice(), b"next"].concat());
        assert_eq!(Handshake::new(0).step(&mut input, &mut Vec::new()), Step::Done);
        assert_eq!(&input[..], b"next");
    }

    #[test]
    fn other_protocols_are_told_apart_at_once() {
        let step = Handshake::new(0).step(&mut Bytes::from_static(b"GET / HTTP/1.1"), &mut Vec::new());
        assert_eq!(step, Step::NotRtmp(b'G'));
    }
}
