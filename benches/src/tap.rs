//! A look at RTMP on its way from the publisher to the packager: when the last byte of each frame of video arrived.
//!
//! It passes every byte on first and reads along afterwards, so that the packager waits for nothing but one hop on
//! loopback.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes, BytesMut};
use millstream_rtmp::{
    HANDSHAKE_BYTES, Limits,
    chunk::{self, Reader},
};

/// Message types (RTMP §5.4, §7.1).
const SET_CHUNK_SIZE: u8 = 1;
const VIDEO: u8 = 9;

/// The second byte of an H.264 tag that holds a picture; others hold configurations.
const PICTURE: u8 = 1;

/// Slack for timestamps that were rounded to milliseconds, on both sides.
const ROUNDING_MS: f64 = 3.0;

/// A frame of video.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Its decode time on the publisher's clock.
    pub(crate) timestamp: u32,
    /// When its last byte was here.
    pub(crate) at: Instant,
}

/// A tap in front of a packager. The publisher pushes to [`Tap::address`].
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) address: SocketAddr,
    frames: Arc<Mutex<Vec<Seen>>>,
}

impl Tap {
    /// Listens for one publisher, whom it connects with `packager`. Its threads end with his connection.
    pub(crate) fn start(packager: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let frames = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&frames);
        thread::spawn(move || -> io::Result<()> {
            let (publisher, _) = listener.accept()?;
            let packager = TcpStream::connect(packager)?;
            publisher.set_nodelay(true)?;
            packager.set_nodelay(true)?;
            let (answers, publisher_too) = (packager.try_clone()?, publisher.try_clone()?);
            thread::spawn(move || pass_on(answers, publisher_too, |_, _| {}));
            let mut eye = Eye::default();
            let note = |bytes: &[u8], at: Instant| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(eye.see(bytes, at));
            };
            pass_on(publisher, packager, note)
        });
        Ok(Self { address, frames })
    }

    /// The frames so far.
    pub(crate) fn frames(&self) -> Vec<Seen> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// When the last frame before `end_ms` arrived, and the one after it; counted from the first frame.
pub(crate) fn arrivals(frames: &[Seen], end_ms: f64) -> Option<(Instant, Instant)> {
    let first = frames.first()?.timestamp;
    let inside = |frame: &Seen| f64::from(frame.timestamp.wrapping_sub(first)) + ROUNDING_MS < end_ms;
    let next = frames.iter().position(|frame| !inside(frame))?;
    Some((frames.get(next.checked_sub(1)?)?.at, frames.get(next)?.at))
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut(&[u8], Instant)) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        let (bytes, at) = (buffer.get(..length).unwrap_or_default(), Instant::now());
        if bytes.is_empty() {
            return to.shutdown(std::net::Shutdown::Write);
        }
        to.write_all(bytes)?;
        note(bytes, at);
    }
}

/// Reads a publisher's bytes.
struct Eye {
    /// C0, C1 and C2, which come before the first message.
    handshake_bytes: usize,
    reader: Reader,
    rest: Bytes,
}

impl Default for Eye {
    fn default() -> Self {
        let handshake_bytes = 1 + 2 * HANDSHAKE_BYTES;
        Self { handshake_bytes, reader: Reader::new(Limits::ADMITTED), rest: Bytes::new() }
    }
}

impl Eye {
    fn see(&mut self, bytes: &[u8], at: Instant) -> Vec<Seen> {
        let mut input = BytesMut::from(&*self.rest);
        input.extend_from_slice(bytes);
        let mut input = input.freeze();
        let skipped = self.handshake_bytes.min(input.len());
        input.advance(skipped);
        self.handshake_bytes -= skipped;
        let mut seen = Vec::new();
        // What cannot be read is not seen; the packager will say so too.
        while let Ok(Some(message)) = self.reader.step(&mut input) {
            seen.extend(self.frame(&message, at));
        }
        self.rest = input;
        seen
    }

    fn frame(&mut self, message: &chunk::Message, at: Instant) -> Option<Seen> {
        if message.kind == SET_CHUNK_SIZE
            && let Ok(size) = <[u8; 4]>::try_from(message.body.as_ref())
        {
            let _ = self.reader.set_chunk_bytes(u32::from_be_bytes(size));
        }
        let is_picture = message.kind == VIDEO && message.body.get(1) == Some(&PICTURE);
        is_picture.then_some(Seen { timestamp: message.timestamp, at })
    }
}

/// Milliseconds from one moment to a later one; below zero when it is earlier.
pub(crate) fn millis_between(from: Instant, to: Instant) -> f64 {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    to.checked_duration_since(from).map_or_else(|| -millis(from.duration_since(to)), millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_seen_however_their_bytes_are_cut() {
        let mut bytes = vec![3; 1 + 2 * HANDSHAKE_BYTES];
        let mut message = |kind, timestamp, body: Vec<u8>, chunk_bytes| {
            let message = chunk::Message { kind, timestamp, stream: 1, body: body.into() };
            chunk::write(&message, 4, chunk_bytes, &mut bytes);
        };
        message(SET_CHUNK_SIZE, 0, 4_096_u32.to_be_bytes().to_vec(), 128);
        message(VIDEO, 0, vec![0x17, 0, 0, 0, 0, 9], 4_096); // a configuration
        message(VIDEO, 40, [[0x17, 1].as_slice(), &[0; 9_000]].concat(), 4_096);
        message(8, 41, vec![0xaf, 1, 5], 4_096);
        message(VIDEO, 80, vec![0x27, 1, 0, 0, 0], 4_096);
        let mut eye = Eye::default();
        let at = Instant::now();
        let seen: Vec<u32> =
            bytes.chunks(7).flat_map(|some| eye.see(some, at)).map(|seen| seen.timestamp).collect();
        assert_eq!(seen, [40, 80]);
    }

    #[test]
    fn a_part_ends_with_the_last_frame_before_its_end() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        // 30 frames a second, rounded to milliseconds, from somewhere on the publisher's clock.
        let frames: Vec<Seen> = [0_u32, 33, 67, 100, 133]
            .into_iter()
            .map(|ms| Seen { timestamp: ms.wrapping_add(u32::MAX - 50), at: at(u64::from(ms)) })
            .collect();
        assert_eq!(arrivals(&frames, 100.0), Some((at(67), at(100))));
        assert_eq!(arrivals(&frames, 66.0), Some((at(33), at(67))));
        assert_eq!(arrivals(&frames, 500.0), None, "its last frame may be yet to come");
        assert!(millis_between(at(5), at(2)) < -2.9 && millis_between(at(2), at(5)) > 2.9);
    }
}
