//! A look at SCTP packets from outside (RFC 9260 §3): what flow control and round trips need to know. Pure.

const COMMON_HEADER_BYTES: usize = 12;
const CHUNK_HEADER_BYTES: usize = 4;

const DATA: u8 = 0;
const INIT: u8 = 1;
const SACK: u8 = 3;

/// What a packet from the peer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Inbound {
    /// The tag of an INIT.
    pub(super) init_tag: Option<u32>,
    /// The cumulative TSN of the last SACK.
    pub(super) acknowledged: Option<u32>,
}

/// Looks at a packet from the peer; none when it is not well formed.
pub(super) fn inbound(packet: &[u8]) -> Option<Inbound> {
    let mut seen = Inbound::default();
    for chunk in chunks(packet) {
        let chunk = chunk?;
        match chunk.kind {
            INIT => seen.init_tag = Some(word(chunk.value, 0)?),
            SACK => seen.acknowledged = Some(word(chunk.value, 0)?),
            _ => {}
        }
    }
    Some(seen)
}

/// The DATA in a packet of our own engine: TSN and bytes of payload.
pub(super) fn outbound(packet: &[u8]) -> impl Iterator<Item = (u32, usize)> {
    chunks(packet)
        .map_while(|chunk| chunk)
        .filter(|chunk| chunk.kind == DATA)
        .filter_map(|chunk| Some((word(chunk.value, 0)?, chunk.value.len().checked_sub(12)?)))
}

/// Whether `a` comes after `b` in serial number arithmetic (RFC 1982).
pub(super) fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

struct Chunk<'a> {
    kind: u8,
    value: &'a [u8],
}

/// The chunks of a packet; ends with a none where they do not fit.
fn chunks(packet: &[u8]) -> impl Iterator<Item = Option<Chunk<'_>>> {
    let mut rest = packet.get(COMMON_HEADER_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let kind = *rest.first()?;
        let chunk = usize::from(half(rest, 2).unwrap_or(0))
            .checked_sub(CHUNK_HEADER_BYTES)
            .and_then(|length| rest.get(CHUNK_HEADER_BYTES..CHUNK_HEADER_BYTES + length))
            .map(|value| Chunk { kind, value });
        rest = chunk.as_ref().map_or(&[], |chunk| {
            let whole = (CHUNK_HEADER_BYTES + chunk.value.len()).next_multiple_of(4);
            // RFC 9260 §3.2: the last chunk's padding may be missing.
            rest.get(whole..).unwrap_or_default()
        });
        Some(chunk)
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
