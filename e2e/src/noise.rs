//! Garbage: bytes that no honest program sends, the same in every run.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// Time for a program to close what it makes no sense of. What it has not closed by then is closed from here.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A repeatable series of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// The series of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % bound).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Up to as many bytes, at least one.
    pub fn bytes(&mut self, max: usize) -> Vec<u8> {
        let len = self.below(max) + 1;
        (0..len).map(|_| self.number().to_be_bytes()[0]).collect()
    }

    /// Up to as many printable characters.
    pub fn text(&mut self, max: usize) -> String {
        self.bytes(max).into_iter().map(|byte| char::from(b'!' + byte % 94)).collect()
    }

    /// `bytes` with a few of them changed, or cut short.
    pub fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= self.number().to_be_bytes()[0];
            }
        }
        if self.below(2) == 0 {
            bytes.truncate(self.below(bytes.len()) + 1);
        }
        bytes
    }
}

/// Sends `bytes` on a connection of their own, says that nothing more comes, and takes what is answered until the
/// other side closes.
///
/// # Errors
/// When nobody accepts the connection: the program is gone, or full.
pub fn throw(at: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect_timeout(&at, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    // Whoever closes in the middle of garbage is right to do so.
    let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _ = socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    Ok(answer)
}
