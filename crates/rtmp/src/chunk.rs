//! The RTMP chunk stream (RTMP 1.0 §5.3): messages cut into chunks and interleaved, read within bounds.

use bytes::{Buf, Bytes};

use crate::Limits;

/// Payload bytes in a chunk until a side says otherwise (§5.4.1).
pub const CHUNK_BYTES_INITIAL: usize = 128;

/// Largest chunk payload that makes a difference: a message has no more bytes (24-bit length).
const CHUNK_BYTES_MAX: usize = 0xff_ffff;

/// A timestamp field with this value says that 32 bits follow the header (§5.3.1.3).
const EXTENDED: u32 = 0xff_ffff;

/// Bytes of the message header by chunk type.
const HEADER_BYTES: [usize; 4] = [11, 7, 3, 0];

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message type (§5.4, §7.1).
    pub kind: u8,
    /// Milliseconds on the sender's 32-bit clock.
    pub timestamp: u32,
    /// Message stream it belongs to; 0 is the connection itself.
    pub stream: u32,
    /// Its payload, not shared with any read buffer.
    pub body: Bytes,
}

/// Why bytes are no chunk stream, or more of one than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More chunk streams than [`Limits::chunk_streams_max`].
    #[error("more than {0} chunk streams")]
    ChunkStreams(usize),
    /// A message longer than [`Limits::message_bytes_max`].
    #[error("a message of {0} bytes is longer than is allowed")]
    Long(usize),
    /// More unfinished bytes than [`Limits::unfinished_bytes_max`].
    #[error("more than {0} bytes of unfinished messages")]
    Unfinished(usize),
    /// A chunk that leans on a header its chunk stream never had.
    #[error("chunk stream {0} begins without a header")]
    Headless(u32),
    /// A new header before the message was complete.
    #[error("a message on chunk stream {0} is cut short by another")]
    Interrupted(u32),
    /// A chunk size of zero, or with the reserved bit set.
    #[error("chunk size {0} is not valid")]
    ChunkBytes(u32),
}

/// Puts messages together again.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    chunk_bytes: usize,
    streams: Vec<ChunkStream>,
    /// The chunk whose payload is being read: where its chunk stream is in `streams`, and bytes still to come.
    open: Option<(usize, usize)>,
    /// Capacity of all bodies in `streams`.
    unfinished_bytes: usize,
}

/// The header a chunk stream's next chunk leans on, and its message so far.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    /// What a type 3 chunk adds when it begins a message.
    step: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    unfinished: bool,
    body: Vec<u8>,
}

impl Reader {
    /// A reader at the start of a chunk stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_bytes: CHUNK_BYTES_INITIAL,
            streams: Vec::new(),
            open: None,
            unfinished_bytes: 0,
        }
    }

    /// Takes from `input` until a message is complete. `None` wants more; what is then left in `input` (never
    /// more than a header) must stand before the bytes of the next call.
    ///
    /// # Errors
    /// When the bytes are no chunk stream or pass a bound; the connection is then beyond repair.
    pub fn step(&mut self, input: &mut Bytes) -> Result<Option<Message>, Error> {
        loop {
            let Some((at, left)) =
                self.open.take().map_or_else(|| self.begin(input), |open| Ok(Some(open)))?
            else {
                return Ok(None);
            };
            let taken = left.min(input.len());
            self.append(at, input.get(..taken).unwrap_or_default())?;
            input.advance(taken);
            if taken < left {
                self.open = Some((at, left - taken));
                return Ok(None);
            }
            if let Some(message) = self.finished(at) {
                return Ok(Some(message));
            }
        }
    }

    /// Follows the peer's Set Chunk Size (§5.4.1).
    ///
    /// # Errors
    /// When the size is not valid.
    pub fn set_chunk_bytes(&mut self, bytes: u32) -> Result<(), Error> {
        if bytes == 0 || bytes > 0x7fff_ffff {
            return Err(Error::ChunkBytes(bytes));
        }
        self.chunk_bytes = usize::try_from(bytes).map_or(CHUNK_BYTES_MAX, |bytes| bytes.min(CHUNK_BYTES_MAX));
        Ok(())
    }

    /// Follows the peer's Abort (§5.4.2): forgets what chunk stream `id` began.
    pub fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            self.unfinished_bytes -= stream.body.capacity();
            stream.body = Vec::new();
            stream.unfinished = false;
        }
    }

    /// From now on these bounds hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes it holds: unfinished messages and the chunk streams' headers.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.unfinished_bytes + self.streams.capacity() * size_of::<ChunkStream>()
    }

    /// Reads a chunk's header. `None` when it is not all there; nothing is taken then.
    fn begin(&mut self, input: &mut Bytes) -> Result<Option<(usize, usize)>, Error> {
        let Some((form, id, basic_bytes)) = basic_header(input) else { return Ok(None) };
        let known = self.streams.iter().position(|stream| stream.id == id);
        let header_end = basic_bytes + HEADER_BYTES[form];
        let Some(header) = input.get(basic_bytes..header_end) else { return Ok(None) };
        let field = header.get(..3).map(u24);
        let extended_field = match (field, known.and_then(|at| self.streams.get(at))) {
            (Some(field), _) => field == EXTENDED,
            (None, Some(stream)) => stream.extended,
            (None, None) => return Err(Error::Headless(id)),
        };
        let extension = match input.get(header_end..header_end + 4) {
            _ if !extended_field => None,
            Some(&[a, b, c, d]) => Some(u32::from_be_bytes([a, b, c, d])),
            _ => return Ok(None),
        };

        let at = match known {
            Some(at) => at,
            // Type 1 opens a chunk stream too: librtmp's pings do. There is nothing for type 2 to lean on.
            None if form <= 1 => self.open_chunk_stream(id)?,
            None => return Err(Error::Headless(id)),
        };
        let stream = self.streams.get_mut(at).ok_or(Error::Headless(id))?;
        let mut taken = header_end;
        if let Some(field) = field {
            if stream.unfinished {
                return Err(Error::Interrupted(id));
            }
            stream.extended = extension.is_some();
            stream.step = extension.unwrap_or(field);
            taken += if extension.is_some() { 4 } else { 0 };
            if let Some(&[a, b, c, kind]) = header.get(3..7) {
                stream.length = usize::try_from(u24(&[a, b, c])).unwrap_or(CHUNK_BYTES_MAX);
                stream.kind = kind;
            }
            if let Some(&[a, b, c, d]) = header.get(7..11) {
                stream.stream = u32::from_le_bytes([a, b, c, d]);
                stream.timestamp = 0;
            }
        } else if extension == Some(stream.step) {
            // The specification repeats the extended timestamp in type 3 chunks; some encoders do not, and then
            // these four bytes are payload.
            taken += 4;
        }
        if !stream.unfinished {
            if stream.length > self.limits.message_bytes_max {
                return Err(Error::Long(stream.length));
            }
            // A type 0 header's absolute time is a step from 0, and a type 3 that begins a message repeats the
            // last step whatever it was (§5.3.1.2.4; ffmpeg relies on it).
            stream.timestamp = stream.timestamp.wrapping_add(stream.step);
            stream.unfinished = true;
        }
        let left = self.chunk_bytes.min(stream.length - stream.body.len());
        input.advance(taken);
        Ok(Some((at, left)))
    }

    fn open_chunk_stream(&mut self, id: u32) -> Result<usize, Error> {
        if self.streams.len() >= self.limits.chunk_streams_max {
            return Err(Error::ChunkStreams(self.limits.chunk_streams_max));
        }
        self.streams.push(ChunkStream {
            id,
            timestamp: 0,
            step: 0,
            extended: false,
            length: 0,
            kind: 0,
            stream: 0,
            unfinished: false,
            body: Vec::new(),
        });
        Ok(self.streams.len() - 1)
    }

    fn append(&mut self, at: usize, bytes: &[u8]) -> Result<(), Error> {
        let Some(stream) = self.streams.get_mut(at) else { return Ok(()) };
        let wanted = stream.body.len() + bytes.len();
        let held = stream.body.capacity();
        if wanted > held {
            let others = self.unfinished_bytes - held;
            let max = self.limits.unfinished_bytes_max;
            let grown = wanted.max(held * 2).max(self.limits.first_bytes).min(stream.length);
            let capacity = if others + grown <= max { grown } else { wanted };
            if others + capacity > max {
                return Err(Error::Unfinished(max));
            }
            stream.body.reserve_exact(capacity - stream.body.len());
            self.unfinished_bytes = others + stream.body.capacity();
        }
        stream.body.extend_from_slice(bytes);
        Ok(())
    }

    fn finished(&mut self, at: usize) -> Option<Message> {
        let stream = self.streams.get_mut(at)?;
        if stream.body.len() < stream.length {
            return None;
        }
        stream.unfinished = false;
        self.unfinished_bytes -= stream.body.capacity();
        Some(Message {
            kind: stream.kind,
            timestamp: stream.timestamp,
            stream: stream.stream,
            body: Bytes::from(std::mem::take(&mut stream.body)),
        })
    }
}

/// Appends `message` to `out` on chunk stream `id` (2 to 63) in chunks of `chunk_bytes` payload bytes.
pub fn write(message: &Message, id: u8, chunk_bytes: usize, out: &mut Vec<u8>) {
    debug_assert!((2..=63).contains(&id), "larger ids take a longer header, which nothing here needs");
    let id = id & 0x3f;
    let extended = message.timestamp >= EXTENDED;
    out.push(id);
    out.extend_from_slice(&message.timestamp.min(EXTENDED).to_be_bytes()[1..]);
    let length = u32::try_from(message.body.len()).unwrap_or(EXTENDED);
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.push(message.kind);
    out.extend_from_slice(&message.stream.to_le_bytes());
    for (at, payload) in message.body.chunks(chunk_bytes.max(1)).enumerate() {
        if at > 0 {
            out.push(0xc0 | id);
        }
        if extended {
            out.extend_from_slice(&message.timestamp.to_be_bytes());
        }
        out.extend_from_slice(payload);
    }
    if extended && message.body.is_empty() {
        out.extend_from_slice(&message.timestamp.to_be_bytes());
    }
}

/// The chunk type, chunk stream id and bytes of a basic header (§5.3.1.1).
fn basic_header(input: &[u8]) -> Option<(usize, u32, usize)> {
    let first = *input.first()?;
    let form = usize::from(first >> 6);
    match first & 0x3f {
        0 => Some((form, 64 + u32::from(*input.get(1)?), 2)),
        1 => Some((form, 64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?), 3)),
        id => Some((form, u32::from(id), 1)),
    }
}

fn u24(bytes: &[u8]) -> u32 {
    bytes.iter().take(3).fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(reader: &mut Reader, bytes: &[u8]) -> Result<Vec<Message>, Error> {
        let mut input = Bytes::copy_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(message) = reader.step(&mut input)? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn admitted() -> Reader {
        Reader::new(Limits::ADMITTED)
    }

    fn message(kind: u8, timestamp: u32, body: &[u8]) -> Message {
        Message { kind, timestamp, stream: 1, body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn the_specifications_audio_example_reads_as_it_says() {
        // §5.3.2.1: four audio messages of 32 bytes, 20 ms apart, as types 0, 2, 3, 3.
        let mut bytes = vec![0x03, 0, 0x03, 0xe8, 0, 0, 32, 8, 0x39, 0x30, 0, 0];
        bytes.extend([1; 32]);
        bytes.extend([0x83, 0, 0, 20]);
        bytes.extend([2; 32]);
        for fill in [3, 4] {
            bytes.push(0xc3);
            bytes.extend([fill; 32]);
        }
        let messages = read_all(&mut admitted(), &bytes).unwrap();
        assert_eq!(messages.iter().map(|m| m.timestamp).collect::<Vec<_>>(), [1000, 1020, 1040, 1060]);
        assert!(messages.iter().all(|m| m.kind == 8 && m.stream == 12345 && m.body.len() == 32));
        assert_eq!(messages[3].body[0], 4);
    }

    #[test]
    fn the_specifications_long_message_example_reads_as_it_says() {
        // §5.3.2.2: 307 bytes in three chunks of 128, 128 and 51.
        let mut bytes = vec![0x04, 0, 0x03, 0xe8, 0, 0x01, 0x33, 9, 0x3a, 0x30, 0, 0];
        bytes.extend([1; 128]);
        bytes.push(0xc4);
        bytes.extend([2; 128]);
        bytes.push(0xc4);
        bytes.extend([3; 51]);
        let messages = read_all(&mut admitted(), &bytes).unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].body, [[1; 128].as_slice(), &[2; 128], &[3; 51]].concat());
    }

    #[test]
    fn a_type_3_after_a_type_0_repeats_its_time_as_a_step() {
        let bytes = [0x04, 0, 0, 23, 0, 0, 1, 9, 1, 0, 0, 0, 7, 0xc4, 8, 0xc4, 9];
        let times: Vec<_> =
            read_all(&mut admitted(), &bytes).unwrap().iter().map(|m| (m.timestamp, m.body[0])).collect();
        assert_eq!(times, [(23, 7), (46, 8), (69, 9)]);
    }

    #[test]
    fn ids_of_one_two_and_three_bytes_are_apart() {
        let tail = [0, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0, 7];
        let bytes =
            [[0x3f].as_slice(), &tail, &[0, 0], &tail, &[1, 0, 1], &tail, &[1, 255, 255], &tail].concat();
        let mut reader = admitted();
        assert_eq!(read_all(&mut reader, &bytes).unwrap().len(), 4);
        assert_eq!(reader.streams.iter().map(|s| s.id).collect::<Vec<_>>(), [63, 64, 320, 65_599]);
    }

    #[test]
    fn messages_interleaved_on_two_chunk_streams_stay_apart() {
        let (mut video, mut sound, mut both) = (Vec::new(), Vec::new(), Vec::new());
        write(&message(9, 40, &[9; 300]), 6, 128, &mut video);
        write(&message(8, 41, &[8; 200]), 4, 128, &mut sound);
        both.extend(&video[..12 + 128]);
        both.extend(&sound[..12 + 128]);
        both.extend(&video[12 + 128..12 + 128 + 1 + 128]);
        both.extend(&sound[12 + 128..]);
        both.extend(&video[12 + 128 + 1 + 128..]);
        let messages = read_all(&mut admitted(), &both).unwrap();
        assert_eq!(messages, [message(8, 41, &[8; 200]), message(9, 40, &[9; 300])]);
    }

    #[test]
    fn extended_timestamps_read_with_and_without_repetition() {
        let long = message(9, 0x0123_4567, &[5; 300]);
        let mut repeated = Vec::new();
        write(&long, 6, 128, &mut repeated);
        assert_eq!(read_all(&mut admitted(), &repeated).unwrap(), std::slice::from_ref(&long));

        let mut bare = repeated[..16 + 128].to_vec();
        for rest in [128, 44] {
            bare.push(0xc6);
            bare.extend(vec![5; rest]);
        }
        assert_eq!(read_all(&mut admitted(), &bare).unwrap(), [long]);

        // A step of 2^32 − 1 goes one millisecond back.
        let back = [0x46, 0xff, 0xff, 0xff, 0, 0, 1, 9, 0xff, 0xff, 0xff, 0xff, 1];
        let mut reader = admitted();
        let first = [0x06, 0, 0, 10, 0, 0, 1, 9, 1, 0, 0, 0, 1];
        assert_eq!(read_all(&mut reader, &[first.as_slice(), &back].concat()).unwrap()[1].timestamp, 9);
    }

    #[test]
    fn every_cut_of_the_bytes_reads_the_same() {
        let mut bytes = Vec::new();
        write(&message(9, 0x0100_0000, &[1; 400]), 6, 128, &mut bytes);
        write(&message(8, 20, &[]), 4, 128, &mut bytes);
        write(&message(8, 0x0200_0000, &[]), 4, 128, &mut bytes);
        write(&message(8, 23, &[2; 129]), 4, 128, &mut bytes);
        let whole = read_all(&mut admitted(), &bytes).unwrap();
        assert_eq!(whole.len(), 4);
        let mut reader = admitted();
        let (mut rest, mut seen) = (Vec::new(), Vec::new());
        for byte in bytes {
            rest.push(byte);
            let mut input = Bytes::from(std::mem::take(&mut rest));
            while let Some(message) = reader.step(&mut input).unwrap() {
                seen.push(message);
            }
            rest = input.to_vec();
            assert!(rest.len() < 18);
        }
        assert_eq!(seen, whole);
        assert_eq!(reader.unfinished_bytes, 0);
    }

    #[test]
    fn bounds_close_whoever_passes_them() {
        let limits = Limits {
            chunk_streams_max: 3,
            message_bytes_max: 5000,
            unfinished_bytes_max: 6000,
            first_bytes: 1024,
        };
        let begin = |id: u8, length: u32| {
            let length = length.to_be_bytes();
            [&[id, 0, 0, 0], &length[1..], &[9, 1, 0, 0, 0], [7; 128].as_slice()].concat()
        };
        let mut reader = Reader::new(limits);
        assert_eq!(read_all(&mut reader, &begin(3, 5001)), Err(Error::Long(5001)));

        let mut reader = Reader::new(limits);
        for id in 3..6 {
            assert_eq!(read_all(&mut reader, &begin(id, 5000)), Ok(vec![]));
        }
        assert_eq!(read_all(&mut reader, &begin(6, 5000)), Err(Error::ChunkStreams(3)));

        let mut reader = Reader::new(limits);
        for id in 3..6 {
            read_all(&mut reader, &begin(id, 5000)).unwrap();
        }
        let more = [[0xc3].as_slice(), &[7; 128], &[0xc4], &[7; 128], &[0xc5], &[7; 128]].concat();
        let error = loop {
            match read_all(&mut reader, &more) {
                Ok(_) => assert!(reader.unfinished_bytes <= 6000),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::Unfinished(6000));
        assert!(reader.held_bytes() <= 6000 + 4 * size_of::<ChunkStream>());
        // Every byte that fits was taken before the bound said no.
        assert!(reader.streams.iter().map(|s| s.body.len()).sum::<usize>() > 5000);
    }

    #[test]
    fn a_big_message_costs_only_what_has_arrived() {
        let mut reader = admitted();
        read_all(
            &mut reader,
            &[[3, 0, 0, 0, 0x7f, 0xff, 0xff, 9, 1, 0, 0, 0].as_slice(), &[1; 128]].concat(),
        )
        .unwrap();
        assert_eq!(reader.unfinished_bytes, Limits::ADMITTED.first_bytes);
        reader.abort(3);
        assert_eq!(reader.unfinished_bytes, 0);
    }

    #[test]
    fn headers_that_lean_on_nothing_or_interrupt_are_refused() {
        assert_eq!(read_all(&mut admitted(), &[0xc3, 1]), Err(Error::Headless(3)));
        assert_eq!(read_all(&mut admitted(), &[0x83, 0, 0, 1]), Err(Error::Headless(3)));
        let begun = [[3, 0, 0, 0, 0, 1, 0, 9, 1, 0, 0, 0].as_slice(), &[1; 128], &[3], &[0; 11]].concat();
        assert_eq!(read_all(&mut admitted(), &begun), Err(Error::Interrupted(3)));
        assert_eq!(admitted().set_chunk_bytes(0), Err(Error::ChunkBytes(0)));
        assert_eq!(admitted().set_chunk_bytes(0x8000_0000), Err(Error::ChunkBytes(0x8000_0000)));
        assert_eq!(admitted().set_chunk_bytes(0x7fff_ffff), Ok(()));
    }

    #[test]
    fn a_librtmp_ping_may_open_its_chunk_stream_with_type_1() {
        let ping = [0x42, 0, 0, 0, 0, 0, 6, 4, 0, 6, 0, 0, 0, 1];
        assert_eq!(read_all(&mut admitted(), &ping).unwrap()[0].body[..2], [0, 6]);
    }
}
