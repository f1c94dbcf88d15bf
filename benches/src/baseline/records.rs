//! A look at DTLS records from outside (RFC 6347 §4.1): enough to know a ClientHello, and which
//! handshake messages the engine must not see twice. Pure.

const HEADER_BYTES: usize = 13;
const MESSAGE_HEADER_BYTES: usize = 12;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// What one datagram holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// All records are plaintext handshake.
    pub(super) is_all_in_clear: bool,
    /// The highest sequence number of a plaintext handshake message.
    pub(super) newest_message: Option<u16>,
    /// The first record is (a part of) a plaintext ClientHello.
    pub(super) is_client_hello: bool,
    /// The first record is a plaintext HelloVerifyRequest.
    pub(super) is_cookie_request: bool,
}

/// Walks the records of `datagram`; none when they do not fill it exactly or one is not of DTLS.
pub(super) fn scan(datagram: &[u8]) -> Option<Records> {
    let mut records = Records { is_all_in_clear: true, ..Records::default() };
    let mut rest = datagram;
    let mut first = true;
    while !rest.is_empty() {
        let (header, body) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let [kind, major, _, e0, e1, _, _, _, _, _, _, l0, l1] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if major != 0xFE || length == 0 || !(ALERT - 1..=APPLICATION_DATA).contains(&kind) {
            return None;
        }
        let (body, after) = body.split_at_checked(length)?;
        let in_clear = kind == HANDSHAKE && [e0, e1] == [0, 0];
        records.is_all_in_clear &= in_clear;
        if in_clear {
            records.newest_message = records.newest_message.max(newest_message(body));
        }
        if first {
            records.is_client_hello = in_clear && body.first() == Some(&CLIENT_HELLO);
            records.is_cookie_request = in_clear && body.first() == Some(&HELLO_VERIFY_REQUEST);
            first = false;
        }
        rest = after;
    }
    (!first).then_some(records)
}

/// The highest sequence number of the messages, or parts of messages, in a plaintext handshake record.
fn newest_message(mut body: &[u8]) -> Option<u16> {
    let mut newest = None;
    while let Some((header, rest)) = body.split_first_chunk::<MESSAGE_HEADER_BYTES>() {
        let [_, _, _, _, s0, s1, _, _, _, l0, l1, l2] = *header;
        newest = newest.max(Some(u16::from_be_bytes([s0, s1])));
        let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(usize::MAX);
        body = rest.get(length..).unwrap_or_default();
    }
    newest
}
