//! Datagrams on an edge's one port, before anybody has said who they are.

use millstream_datachannel::{
    demux::{DATAGRAM_BYTES_MAX, Protocol, protocol},
    stun::{self, Check, Class, Message, Role},
};

use crate::script::Script;

// A private room that reads what nobody has vouched for.
#[allow(dead_code, reason = "the link uses the rest")]
#[path = "../../crates/datachannel/src/link/records.rs"]
mod records;

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// A datagram as it stands; then a check and its answer made of the same bytes.
pub(crate) fn stun(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        assert!(data.len() >= 20 && data.len().is_multiple_of(4));
        assert!(message.username.is_none_or(|name| name.len() <= 513));
        assert!(message.error_code.is_none_or(|code| code < 1_000));
        assert!(!message.is_authentic("a password that nobody has"), "nobody can have made it");
    }
    let mut script = Script::new(data);
    let transaction = script.take(12).first_chunk().copied().unwrap_or_default();
    let (their_ufrag, our_ufrag) = (letters(script.bytes()), letters(script.bytes()));
    let check = Check {
        transaction,
        their_ufrag: &their_ufrag,
        our_ufrag: &our_ufrag,
        priority: script.word(),
        tie_breaker: script.long(),
        use_candidate: script.flag(),
    };
    let mut request = stun::request(&check, PASSWORD);
    let read = Message::parse(&request).unwrap();
    assert_eq!((read.class, read.transaction), (Class::Request, transaction));
    assert_eq!(read.username, Some(format!("{their_ufrag}:{our_ufrag}").as_str()));
    assert_eq!(read.role, Some(Role::Controlling(check.tie_breaker)));
    assert_eq!(read.use_candidate, check.use_candidate);
    assert!(read.is_authentic(PASSWORD) && !read.is_authentic("another password"));
    let from = if script.flag() {
        std::net::SocketAddr::from((script.take(16).first_chunk().copied().unwrap_or([9; 16]), script.half()))
    } else {
        std::net::SocketAddr::from((script.take(4).first_chunk().copied().unwrap_or([9; 4]), script.half()))
    };
    let answer = stun::success(transaction, from, PASSWORD);
    let read = Message::parse(&answer).unwrap();
    let canonical = std::net::SocketAddr::new(from.ip().to_canonical(), from.port());
    assert_eq!((read.class, read.mapped), (Class::Success, Some(canonical)));
    assert!(read.is_authentic(PASSWORD));
    let refusal = stun::role_conflict(transaction, PASSWORD);
    assert_eq!(Message::parse(&refusal).unwrap().error_code, Some(487));
    // One bit, anywhere but in FINGERPRINT itself, which may be missing. In a length it can hide what follows, but
    // then MESSAGE-INTEGRITY is hidden too, or wrong.
    let at = script.index(request.len() - 8);
    request[at] ^= 1 << (script.byte() % 8);
    assert!(
        !Message::parse(&request).is_ok_and(|read| read.is_authentic(PASSWORD)),
        "a changed check is believed"
    );
}

fn letters(bytes: &[u8]) -> String {
    bytes.iter().take(200).map(|byte| char::from(b'a' + byte % 26)).collect()
}

pub(crate) fn datagram(data: &[u8]) {
    let of = protocol(data);
    assert!(of.is_none() || data.len() <= DATAGRAM_BYTES_MAX);
    if Message::parse(data).is_ok() && data.len() <= DATAGRAM_BYTES_MAX {
        assert_eq!(of, Some(Protocol::Stun));
    }
    if let Some(records) = records::scan(data) {
        assert!(records.handshake_bytes <= data.len());
        assert!(!(records.is_client_hello && records.is_cookie_request));
        assert!(data.len() > DATAGRAM_BYTES_MAX || of == Some(Protocol::Dtls));
    }
    apart(data);
}

/// The records of a datagram, which are opened one by one: those that fit, in order, and all of them when they were
/// let in.
fn apart(data: &[u8]) {
    let seen: Vec<records::Seen<'_>> = records::each(data).collect();
    for record in &seen {
        let header = if record.is_sealed() {
            assert!(record.kind & 0b1_0000 == 0, "nobody has a connection id");
            records::sealed_header_bytes(record.bytes).unwrap()
        } else {
            records::HEADER_BYTES
        };
        assert!(record.bytes.len() >= header && record.number < 1 << 48);
    }
    let whole: Vec<u8> = seen.iter().flat_map(|record| record.bytes).copied().collect();
    assert!(data.starts_with(&whole), "a record is left out, or comes twice");
    let mut opened = data.to_vec();
    let in_place: Vec<&mut [u8]> = records::each_mut(&mut opened).collect();
    assert!(in_place.iter().map(|record| &**record).eq(seen.iter().map(|record| record.bytes)));
    let hello = records::client_hello_bytes(data);
    assert!(hello.is_none_or(|bytes| bytes < 1 << 24));
    if let Some(records) = records::scan(data) {
        assert_eq!(whole, data, "what was let in holds nothing but records");
        let handshake = seen.iter().filter(|record| {
            record.kind == records::HANDSHAKE
                || record.is_sealed() && record.epoch == records::HANDSHAKE_EPOCH
        });
        assert_eq!(records.handshake_bytes, handshake.map(|record| record.bytes.len()).sum::<usize>());
        // One that says how long it will be says first what it is.
        assert!(hello.is_none() || records.is_client_hello);
        assert!(!records.is_cookie_request || records::is_first_answer(data));
    }
}
