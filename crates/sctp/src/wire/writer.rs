//! Packets as we send them: each appended to a buffer that may hold others, chunk by chunk.
//!
//! How much fits into a packet is the caller's to know. A chunk that is longer than its length field can say is left
//! out, which is a bug of the caller's and found as one where assertions are on.

use super::{
    CHUNK_HEADER_BYTES, COMMON_HEADER_BYTES, DATA_HEADER_BYTES, Data, HEARTBEAT_INFO, I_DATA_HEADER_BYTES,
    InitFields, Outcome, REFLECTED, Sequence, checksum_of,
    data::SKIPPED_UNORDERED,
    init::{OVER_DTLS, parameter},
    kind,
    parameters::PARAMETER_HEADER_BYTES,
    reconfig::{OUTGOING_RESET, RESPONSE},
};

/// One packet in the making. Ends with [`Writer::finish`] or [`Writer::cancel`]; one that is dropped instead stays in
/// the buffer without checksum.
#[derive(Debug)]
#[must_use]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Begins a packet behind what `out` holds.
    #[inline]
    pub fn begin(out: &'a mut Vec<u8>, source_port: u16, destination_port: u16, tag: u32) -> Self {
        let start = out.len();
        let mut header = [0; COMMON_HEADER_BYTES];
        header[..2].copy_from_slice(&source_port.to_be_bytes());
        header[2..4].copy_from_slice(&destination_port.to_be_bytes());
        header[4..8].copy_from_slice(&tag.to_be_bytes());
        out.extend_from_slice(&header);
        Self { out, start }
    }

    /// Bytes of this packet so far; a multiple of 4.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// There is no chunk yet.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == COMMON_HEADER_BYTES
    }

    /// Ends the packet, with its CRC32c, or with zero in its place where the peer takes that (RFC 9653).
    #[inline]
    pub fn finish(self, checksum: bool) {
        if checksum
            && let Some(packet) = self.out.get_mut(self.start..)
            && let Some((header, chunks)) = packet.split_first_chunk_mut::<COMMON_HEADER_BYTES>()
        {
            let checksum = checksum_of(header, chunks);
            header[8..].copy_from_slice(&checksum);
        }
    }

    /// Takes the whole packet back.
    pub fn cancel(self) {
        self.out.truncate(self.start);
    }

    /// DATA or I-DATA, as its sequence says; its payload must not be empty.
    #[inline]
    pub fn data(&mut self, data: &Data<'_>) {
        debug_assert!(!data.payload.is_empty(), "a DATA chunk without payload ends the association");
        let bytes = data.header_bytes() + data.payload.len();
        let Ok(length) = u16::try_from(bytes) else {
            debug_assert!(false, "a chunk of {bytes} bytes");
            return;
        };
        // Once, padding included.
        self.out.reserve(bytes + 3);
        let mut header = [0; I_DATA_HEADER_BYTES];
        header[1] = data.flags();
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[4..8].copy_from_slice(&data.tsn.to_be_bytes());
        header[8..10].copy_from_slice(&data.stream.to_be_bytes());
        match data.sequence {
            Sequence::Ssn(ssn) => {
                header[0] = kind::DATA;
                header[10..12].copy_from_slice(&ssn.to_be_bytes());
                header[12..16].copy_from_slice(&data.ppi.to_be_bytes());
                self.out.extend_from_slice(&header[..DATA_HEADER_BYTES]);
            }
            Sequence::Mid { mid, fsn } => {
                header[0] = kind::I_DATA;
                header[12..16].copy_from_slice(&mid.to_be_bytes());
                let last = if data.begins { data.ppi } else { fsn };
                header[16..].copy_from_slice(&last.to_be_bytes());
                self.out.extend_from_slice(&header);
            }
        }
        self.out.extend_from_slice(data.payload);
        self.align();
    }

    /// INIT, or INIT ACK, which must have a cookie.
    pub fn init(&mut self, init: &InitFields<'_>, cookie: Option<&[u8]>, is_ack: bool) {
        let at = self.open(if is_ack { kind::INIT_ACK } else { kind::INIT }, 0);
        self.word(init.tag);
        self.word(init.window);
        self.half(init.outbound);
        self.half(init.inbound);
        self.word(init.tsn);
        if let Some(cookie) = cookie {
            self.parameter(parameter::STATE_COOKIE, cookie);
        }
        if init.supports_forward_tsn {
            self.parameter(parameter::FORWARD_TSN, &[]);
        }
        if init.zero_checksum {
            self.parameter(parameter::ZERO_CHECKSUM, &OVER_DTLS);
        }
        let extensions = [
            (init.supports_reset, kind::RECONFIG),
            (init.supports_forward_tsn, kind::FORWARD_TSN),
            (init.supports_interleaving, kind::I_DATA),
            (init.supports_interleaving, kind::I_FORWARD_TSN),
        ];
        if extensions.iter().any(|(is_spoken, _)| *is_spoken) {
            let list = self.open_parameter(parameter::SUPPORTED_EXTENSIONS);
            self.out.extend(extensions.iter().filter(|(is_spoken, _)| *is_spoken).map(|(_, kind)| kind));
            self.close_parameter(list);
        }
        for unrecognised in init.unrecognised.clone() {
            self.parameter(parameter::UNRECOGNISED, unrecognised);
        }
        self.close(at);
    }

    /// SACK. The blocks must ascend: first and last TSN of each, counted from `cumulative`.
    pub fn sack(
        &mut self,
        cumulative: u32,
        window: u32,
        gaps: impl IntoIterator<Item = (u16, u16)>,
        duplicates: &[u32],
    ) {
        let at = self.open(kind::SACK, 0);
        self.word(cumulative);
        self.word(window);
        let counts = self.out.len();
        self.word(0);
        let mut gap_count: u16 = 0;
        for (start, end) in gaps {
            self.half(start);
            self.half(end);
            gap_count = gap_count.saturating_add(1);
        }
        for tsn in duplicates {
            self.word(*tsn);
        }
        self.put(counts, gap_count.to_be_bytes());
        self.put(counts + 2, u16::try_from(duplicates.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.close(at);
    }

    /// HEARTBEAT with what its answer shall repeat.
    pub fn heartbeat(&mut self, content: &[u8]) {
        let at = self.open(kind::HEARTBEAT, 0);
        self.parameter(HEARTBEAT_INFO, content);
        self.close(at);
    }

    /// HEARTBEAT ACK with what the question carried.
    pub fn heartbeat_ack(&mut self, content: &[u8]) {
        let at = self.open(kind::HEARTBEAT_ACK, 0);
        self.parameter(HEARTBEAT_INFO, content);
        self.close(at);
    }

    /// ABORT for one of [`super::cause`].
    pub fn abort(&mut self, cause: u16, value: &[u8]) {
        self.causes(kind::ABORT, 0, cause, value);
    }

    /// ABORT under the tag of the packet that it answers: to a peer whose tag we do not know (RFC 9260 §8.4).
    pub fn abort_reflected(&mut self, cause: u16, value: &[u8]) {
        self.causes(kind::ABORT, REFLECTED, cause, value);
    }

    /// ERROR for one of [`super::cause`].
    pub fn error(&mut self, cause: u16, value: &[u8]) {
        self.causes(kind::ERROR, 0, cause, value);
    }

    /// SHUTDOWN with the last TSN up to which all has arrived.
    pub fn shutdown(&mut self, cumulative: u32) {
        let at = self.open(kind::SHUTDOWN, 0);
        self.word(cumulative);
        self.close(at);
    }

    /// SHUTDOWN ACK.
    pub fn shutdown_ack(&mut self) {
        let at = self.open(kind::SHUTDOWN_ACK, 0);
        self.close(at);
    }

    /// SHUTDOWN COMPLETE; reflected under the tag of the packet that it answers.
    pub fn shutdown_complete(&mut self, is_reflected: bool) {
        let at = self.open(kind::SHUTDOWN_COMPLETE, if is_reflected { REFLECTED } else { 0 });
        self.close(at);
    }

    /// COOKIE ECHO with the cookie as it came.
    pub fn cookie_echo(&mut self, cookie: &[u8]) {
        let at = self.open(kind::COOKIE_ECHO, 0);
        self.out.extend_from_slice(cookie);
        self.close(at);
    }

    /// COOKIE ACK.
    pub fn cookie_ack(&mut self) {
        let at = self.open(kind::COOKIE_ACK, 0);
        self.close(at);
    }

    /// FORWARD-TSN: all up to `cumulative` counts as received, and of these streams all ordered messages up to the
    /// number given.
    pub fn forward_tsn(&mut self, cumulative: u32, skipped: impl IntoIterator<Item = (u16, u16)>) {
        let at = self.open(kind::FORWARD_TSN, 0);
        self.word(cumulative);
        for (stream, ssn) in skipped {
            self.half(stream);
            self.half(ssn);
        }
        self.close(at);
    }

    /// I-FORWARD-TSN: the same for streams of I-DATA, as stream, whether unordered, and message.
    pub fn i_forward_tsn(&mut self, cumulative: u32, skipped: impl IntoIterator<Item = (u16, bool, u32)>) {
        let at = self.open(kind::I_FORWARD_TSN, 0);
        self.word(cumulative);
        for (stream, is_unordered, mid) in skipped {
            self.half(stream);
            self.half(if is_unordered { SKIPPED_UNORDERED } else { 0 });
            self.word(mid);
        }
        self.close(at);
    }

    /// RE-CONFIG that resets streams we send on ([`super::Reset::Outgoing`]); no stream means all.
    pub fn reset_request(
        &mut self,
        request: u32,
        response: u32,
        last_tsn: u32,
        streams: impl IntoIterator<Item = u16>,
    ) {
        let at = self.open(kind::RECONFIG, 0);
        let parameter = self.open_parameter(OUTGOING_RESET);
        self.word(request);
        self.word(response);
        self.word(last_tsn);
        for stream in streams {
            self.half(stream);
        }
        self.close_parameter(parameter);
        self.close(at);
    }

    /// RE-CONFIG that answers the peer's request `sequence`.
    pub fn reset_response(&mut self, sequence: u32, result: Outcome) {
        let at = self.open(kind::RECONFIG, 0);
        let parameter = self.open_parameter(RESPONSE);
        self.word(sequence);
        self.word(result.to_wire());
        self.close_parameter(parameter);
        self.close(at);
    }

    /// PAD of so many bytes, header included; at least 4, and a multiple of it where the packet's length matters.
    pub fn pad(&mut self, bytes: usize) {
        let at = self.open(kind::PAD, 0);
        self.out.resize(at + bytes.max(CHUNK_HEADER_BYTES), 0);
        self.close(at);
    }

    fn causes(&mut self, kind: u8, flags: u8, cause: u16, value: &[u8]) {
        let at = self.open(kind, flags);
        self.parameter(cause, value);
        self.close(at);
    }

    fn parameter(&mut self, kind: u16, value: &[u8]) {
        let at = self.open_parameter(kind);
        self.out.extend_from_slice(value);
        self.close_parameter(at);
    }

    /// Where the chunk begins, for [`Writer::close`].
    fn open(&mut self, kind: u8, flags: u8) -> usize {
        let at = self.out.len();
        self.out.extend_from_slice(&[kind, flags, 0, 0]);
        at
    }

    fn close(&mut self, at: usize) {
        let bytes = self.out.len() - at;
        let Ok(length) = u16::try_from(bytes) else {
            debug_assert!(false, "a chunk of {bytes} bytes");
            self.out.truncate(at);
            return;
        };
        self.put(at + 2, length.to_be_bytes());
        self.align();
    }

    /// Padding goes before a parameter and not behind it: the last one's is not counted by the chunk.
    fn open_parameter(&mut self, kind: u16) -> usize {
        self.align();
        let at = self.out.len();
        self.half(kind);
        self.half(0);
        debug_assert_eq!(self.out.len() - at, PARAMETER_HEADER_BYTES);
        at
    }

    /// One that is too long makes its chunk too long, too, which is then left out.
    fn close_parameter(&mut self, at: usize) {
        let length = u16::try_from(self.out.len() - at).unwrap_or(u16::MAX);
        self.put(at + 2, length.to_be_bytes());
    }

    fn half(&mut self, half: u16) {
        self.out.extend_from_slice(&half.to_be_bytes());
    }

    fn word(&mut self, word: u32) {
        self.out.extend_from_slice(&word.to_be_bytes());
    }

    fn put(&mut self, at: usize, bytes: [u8; 2]) {
        if let Some(place) = self.out.get_mut(at..at + 2) {
            place.copy_from_slice(&bytes);
        }
    }

    /// Counted from where the packet begins, not the buffer.
    #[inline]
    fn align(&mut self) {
        self.out.resize(self.start + self.len().next_multiple_of(4), 0);
    }
}
