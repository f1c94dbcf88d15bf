//! A look at SCTP packets from outside (RFC 9260 §3): the counts that flow control and statistics need, and a
//! refusal of what would make the engine spend memory or time without bound. Pure.
//!
//! The engine trusts an authenticated peer; we do not: anybody may connect. What is refused here, nobody honest
//! sends to two reliable channels.

/// Streams a peer may use: our two, and room for channels a page opens by itself, which are acknowledged and ignored.
pub(super) const STREAMS_MAX: u16 = 16;

const COMMON_HEADER_BYTES: usize = 12;
const CHUNK_HEADER_BYTES: usize = 4;

const DATA: u8 = 0;
const INIT: u8 = 1;
const SACK: u8 = 3;
const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

/// What a packet from the peer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Inbound {
    /// The tag of an INIT, which is then the only chunk.
    pub(super) init_tag: Option<u32>,
    /// DATA chunks.
    pub(super) data_chunks: usize,
    /// Their payload.
    pub(super) data_bytes: usize,
    /// RE-CONFIG chunks.
    pub(super) reconfigs: usize,
    /// The cumulative TSN of the last SACK.
    pub(super) acknowledged: Option<u32>,
}

/// Why a packet does not reach the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not well formed: as if it had been lost.
    Malformed,
    /// Well formed, and nothing that an honest peer sends.
    Hostile(&'static str),
}

/// Looks at a packet from the peer.
pub(super) fn inbound(packet: &[u8]) -> Result<Inbound, Refusal> {
    let mut seen = Inbound::default();
    let mut count = 0_usize;
    for chunk in chunks(packet) {
        let chunk = chunk.ok_or(Refusal::Malformed)?;
        count += 1;
        match chunk.kind {
            DATA => {
                let data = Data::read(&chunk).ok_or(Refusal::Malformed)?;
                if data.stream >= STREAMS_MAX {
                    return Err(Refusal::Hostile("a stream beyond the negotiated number"));
                }
                seen.data_chunks += 1;
                seen.data_bytes += data.bytes;
            }
            INIT => seen.init_tag = Some(word(chunk.value, 0).ok_or(Refusal::Malformed)?),
            SACK => seen.acknowledged = Some(sack(chunk.value)?),
            RECONFIG => seen.reconfigs += 1,
            // The engine steps through every TSN that is skipped: one packet could cost two thousand million steps.
            FORWARD_TSN => return Err(Refusal::Hostile("FORWARD TSN on reliable channels")),
            _ => {}
        }
    }
    // RFC 9260 §3: INIT is never bundled.
    if count == 0 || (seen.init_tag.is_some() && count != 1) { Err(Refusal::Malformed) } else { Ok(seen) }
}

/// The cumulative TSN of a SACK whose gap blocks are in order and apart, as RFC 9260 §3.3.4 wants: only then is
/// the engine's walk over them bounded by what is in flight.
fn sack(value: &[u8]) -> Result<u32, Refusal> {
    let cumulative = word(value, 0).ok_or(Refusal::Malformed)?;
    let blocks = usize::from(half(value, 8).ok_or(Refusal::Malformed)?);
    let mut last = 0;
    for block in 0..blocks {
        let (start, end) =
            half(value, 12 + 4 * block).zip(half(value, 14 + 4 * block)).ok_or(Refusal::Malformed)?;
        if start <= last || end < start {
            return Err(Refusal::Malformed);
        }
        last = end;
    }
    Ok(cumulative)
}

/// A chunk of a packet that the engine sends, as far as it matters to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outbound {
    /// DATA: its TSN and payload.
    Data { tsn: u32, bytes: usize },
    /// SACK: the receive window it announces.
    Window(u32),
}

/// Looks at a packet of our own engine.
pub(super) fn outbound(packet: &[u8]) -> impl Iterator<Item = Outbound> {
    chunks(packet).map_while(|chunk| chunk).filter_map(|chunk| match chunk.kind {
        DATA => Data::read(&chunk).map(|data| Outbound::Data { tsn: data.tsn, bytes: data.bytes }),
        SACK => word(chunk.value, 4).map(Outbound::Window),
        _ => None,
    })
}

/// Whether `a` comes after `b` in serial number arithmetic (RFC 1982).
pub(super) fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

struct Chunk<'a> {
    kind: u8,
    value: &'a [u8],
}

struct Data {
    tsn: u32,
    stream: u16,
    bytes: usize,
}

impl Data {
    fn read(chunk: &Chunk<'_>) -> Option<Self> {
        let bytes = chunk.value.len().checked_sub(12).filter(|&bytes| bytes > 0)?;
        Some(Self { tsn: word(chunk.value, 0)?, stream: half(chunk.value, 4)?, bytes })
    }
}

/// The chunks of a packet; ends with a none where they do not fit.
fn chunks(packet: &[u8]) -> impl Iterator<Item = Option<Chunk<'_>>> {
    let mut rest = packet.get(COMMON_HEADER_BYTES..);
    std::iter::from_fn(move || {
        let bytes = match rest.take() {
            Some([]) => return None,
            Some(bytes) => bytes,
            // A first call with nothing means a packet that is too short; a later one that we have ended.
            None if packet.len() < COMMON_HEADER_BYTES => {
                rest = Some(&[]);
                return Some(None);
            }
            None => return None,
        };
        let chunk = usize::from(half(bytes, 2).unwrap_or(0))
            .checked_sub(CHUNK_HEADER_BYTES)
            .and_then(|length| bytes.get(CHUNK_HEADER_BYTES..CHUNK_HEADER_BYTES + length))
            .zip(bytes.first())
            .map(|(value, &kind)| Chunk { kind, value });
        if let Some(chunk) = &chunk {
            let whole = (CHUNK_HEADER_BYTES + chunk.value.len()).next_multiple_of(4);
            // RFC 9260 §3.2: the last chunk's padding may be missing.
            rest = Some(bytes.get(whole..).unwrap_or_default());
        }
        Some(chunk)
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(chunks: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut packet = vec![0; COMMON_HEADER_BYTES];
        for (kind, value) in chunks {
            let length = u16::try_from(value.len() + CHUNK_HEADER_BYTES).unwrap();
            packet.extend([*kind, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend(value);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    fn data(tsn: u32, stream: u16, bytes: usize) -> (u8, Vec<u8>) {
        let head = [&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &[0; 6]].concat();
        (DATA, [head, vec![7; bytes]].concat())
    }

    fn sack_chunk(cumulative: u32, blocks: &[(u16, u16)]) -> (u8, Vec<u8>) {
        let mut value = [cumulative.to_be_bytes(), 1_000_u32.to_be_bytes()].concat();
        value.extend(u16::try_from(blocks.len()).unwrap().to_be_bytes());
        value.extend([0, 0]);
        for (start, end) in blocks {
            value.extend(start.to_be_bytes());
            value.extend(end.to_be_bytes());
        }
        (SACK, value)
    }

    #[test]
    fn data_and_acknowledgements_are_counted() {
        let packet = packet(&[sack_chunk(9, &[(2, 3), (5, 5)]), data(4, 1, 100), data(5, 0, 3)]);
        let seen = inbound(&packet).unwrap();
        assert_eq!((seen.data_chunks, seen.data_bytes, seen.acknowledged), (2, 103, Some(9)));
        let sent: Vec<_> = outbound(&packet).collect();
        let expected = [
            Outbound::Window(1_000),
            Outbound::Data { tsn: 4, bytes: 100 },
            Outbound::Data { tsn: 5, bytes: 3 },
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn what_would_cost_without_bound_is_refused() {
        let hostile = |chunk| matches!(inbound(&packet(&[chunk])), Err(Refusal::Hostile(_)));
        assert!(hostile((FORWARD_TSN, vec![0; 4])));
        assert!(hostile(data(1, STREAMS_MAX, 1)));
        for blocks in [&[(2, 1)][..], &[(1, 9), (1, 9)], &[(1, 5), (4, 6)], &[(0, 1)]] {
            assert_eq!(inbound(&packet(&[sack_chunk(1, blocks)])), Err(Refusal::Malformed), "{blocks:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_malformed() {
        let good = packet(&[data(1, 0, 8)]);
        assert!(inbound(&good).is_ok());
        for bytes in [&good[..0], &good[..11], &good[..12], &good[..14], &good[..good.len() - 1]] {
            assert_eq!(inbound(bytes), Err(Refusal::Malformed), "{} bytes", bytes.len());
        }
        assert_eq!(inbound(&packet(&[data(1, 0, 0)])), Err(Refusal::Malformed));
        assert_eq!(inbound(&packet(&[(INIT, vec![0; 16]), data(1, 0, 1)])), Err(Refusal::Malformed));
    }

    #[test]
    fn serial_numbers_wrap() {
        assert!(is_after(0, u32::MAX));
        assert!(!is_after(u32::MAX, 0));
        assert!(!is_after(5, 5));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_screen(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = inbound(&packet);
            outbound(&packet).count();
        }

        #[test]
        fn no_chunks_panic_the_screen(
            chunks in proptest::collection::vec(
                (
                    prop_oneof![Just(DATA), Just(INIT), Just(SACK), Just(RECONFIG), any::<u8>()],
                    proptest::collection::vec(any::<u8>(), 0..40),
                ),
                0..6,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let packet = packet(&chunks);
            for bytes in [&packet[..], &packet[..cut.index(packet.len())]] {
                let _ = inbound(bytes);
                outbound(bytes).count();
            }
        }
    }
}
