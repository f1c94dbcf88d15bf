//! No bytes panic a connection or make it hold more than its bound.

use crate::client::{self, AAC_SETUP, AUDIO, AVC_SETUP, SET_CHUNK_SIZE, VIDEO};
use bytes::Bytes;
use millstream_model::Instant;
use millstream_rtmp::{Config, Connection, Input, Output, Reason, chunk};
use proptest::prelude::*;

/// Bytes the drivers of these tests hand in at once.
const RECEIVED_MAX: usize = 16 * 1024;

/// Drives a connection as a program would, checks the bound after every step, and says how it ended.
fn drive(bytes: &[u8], cut: usize, admit: bool) -> (Option<Reason>, usize) {
    let config = Config::default();
    let unadmitted_max = config.unadmitted_bytes_max(RECEIVED_MAX);
    let admitted_max = config.admitted_bytes_max(RECEIVED_MAX);
    let mut connection = Connection::new(config, 0, Instant(0));
    let (mut bound, mut most) = (unadmitted_max, 0);
    for part in bytes.chunks(cut.clamp(1, RECEIVED_MAX)) {
        connection.handle(Input::Received(Bytes::copy_from_slice(part)), Instant(0));
        loop {
            let held = connection.held_bytes();
            assert!(held <= bound, "{held} bytes held, {bound} allowed");
            most = most.max(held);
            match connection.poll() {
                None => break,
                Some(Output::Close { reason }) => return (Some(reason), most),
                Some(Output::Publish { .. }) if admit => {
                    bound = admitted_max;
                    connection.handle(Input::Admitted, Instant(0));
                }
                Some(Output::Publish { .. }) => connection.handle(Input::Refused("no".into()), Instant(0)),
                Some(_) => {}
            }
        }
    }
    (None, most)
}

/// A whole publish with sound, pictures and metadata.
fn session() -> Vec<u8> {
    let mut bytes = client::publish("live", "good-key-0123456789");
    let mut metadata = Vec::new();
    for value in [
        client::text("@setDataFrame"),
        client::text("onMetaData"),
        millstream_rtmp::amf0::Value::Object(vec![("encoder".into(), client::text("proptest"))]),
    ] {
        millstream_rtmp::amf0::write(&value, &mut metadata);
    }
    client::message(18, 4, 0, &metadata, &mut bytes);
    client::message(VIDEO, 6, 0, AVC_SETUP, &mut bytes);
    client::message(AUDIO, 4, 0, AAC_SETUP, &mut bytes);
    for at in 0..20 {
        client::message(VIDEO, 6, at * 40, &client::picture(at == 0, 300), &mut bytes);
        client::message(AUDIO, 4, at * 40, &[0xaf, 1, 1, 2, 3], &mut bytes);
    }
    client::message(
        22,
        4,
        900,
        &[[8, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0].as_slice(), &[0xaf, 1, 9]].concat(),
        &mut bytes,
    );
    bytes
}

/// Begins messages of `length` bytes on chunk streams 3 and up, `count` of them, `sent` bytes of each.
fn unfinished(count: u32, length: u32, sent: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 3..3 + count {
        match id {
            0..=63 => bytes.push(u8::try_from(id).unwrap()),
            _ => bytes.extend([0, u8::try_from(id - 64).unwrap()]),
        }
        bytes.extend([0, 0, 0]);
        bytes.extend(&length.to_be_bytes()[1..]);
        bytes.extend([VIDEO, 1, 0, 0, 0]);
        bytes.extend(vec![0x55; sent]);
    }
    bytes
}

#[test]
fn two_hundred_and_fifty_unfinished_messages_before_the_key_stay_under_the_bound() {
    let bytes = [client::handshake(), unfinished(250, 16 * 1024, 128)].concat();
    let (reason, most) = drive(&bytes, RECEIVED_MAX, true);
    assert_eq!(reason, Some(Reason::Chunk(chunk::Error::ChunkStreams(16))));
    assert!(most < 100 * 1024, "{most}");
    let bytes = [client::handshake(), unfinished(1, 0xff_ffff, 128)].concat();
    assert_eq!(drive(&bytes, RECEIVED_MAX, true).0, Some(Reason::Chunk(chunk::Error::Long(0xff_ffff))));
}

#[test]
fn two_hundred_and_fifty_unfinished_messages_after_the_key_stay_under_the_bound() {
    // Chunks of a mebibyte make each of them worth it.
    let mut bytes = client::publish("live", "good-key-0123456789");
    client::message(SET_CHUNK_SIZE, 2, 0, &0x10_0000_u32.to_be_bytes(), &mut bytes);
    let few = [bytes.clone(), unfinished(60, 8 * 1024 * 1024, 0x10_0000)].concat();
    let (reason, most) = drive(&few, RECEIVED_MAX, true);
    assert_eq!(reason, Some(Reason::Chunk(chunk::Error::Unfinished(12 * 1024 * 1024))));
    assert!(most > 11 * 1024 * 1024, "the bound is there to be used: {most}");

    let mut bytes = client::publish("live", "good-key-0123456789");
    bytes.extend(unfinished(250, 8 * 1024 * 1024, 128));
    let (reason, most) = drive(&bytes, RECEIVED_MAX, true);
    assert_eq!(reason, Some(Reason::Chunk(chunk::Error::ChunkStreams(64))));
    assert!(most < 200 * 1024, "{most}");
}

#[test]
fn millions_of_tiny_messages_pile_nothing_up() {
    // After one header every further byte is a whole message (type 3, no payload), or an answer that is asked for.
    let mut bytes = client::publish("live", "good-key-0123456789");
    let held = drive(&bytes, RECEIVED_MAX, true).1;
    bytes.extend([4, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0]);
    bytes.extend(vec![0xc4; 1 << 20]);
    client::message(4, 2, 0, &[0, 6, 0, 0, 0, 1], &mut bytes);
    for _ in 0..100_000 {
        bytes.extend([0xc2, 0, 6, 0, 0, 0, 1]);
    }
    let (reason, most) = drive(&bytes, RECEIVED_MAX, true);
    assert_eq!(reason, None);
    assert!(most <= held + RECEIVED_MAX, "{most}");
}

#[test]
fn a_peer_that_talks_on_while_its_key_is_checked_is_cut_off() {
    let config = Config::default();
    let bound = config.unadmitted_bytes_max(RECEIVED_MAX);
    let mut connection = Connection::new(config, 0, Instant(0));
    let mut bytes = client::publish("live", "good-key-0123456789");
    bytes.extend(unfinished(1, 8 * 1024 * 1024, 128));
    connection.handle(Input::Received(bytes.into()), Instant(0));
    while connection.poll().is_some() {}
    let end = (0..1000).find_map(|_| {
        connection.handle(Input::Received(Bytes::from_static(&[0; 1024])), Instant(0));
        assert!(connection.held_bytes() <= bound + 1024);
        std::iter::from_fn(|| connection.poll()).find(|output| matches!(output, Output::Close { .. }))
    });
    assert!(end.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_bytes_never_panic_or_pass_the_bound(
        bytes in proptest::collection::vec(any::<u8>(), 0..4096),
        stage in 0..3,
        cut in 1..5000_usize,
    ) {
        let before = match stage {
            0 => Vec::new(),
            1 => client::handshake(),
            _ => client::publish("live", "good-key-0123456789"),
        };
        drive(&[before, bytes].concat(), cut, true);
    }

    #[test]
    fn a_mutated_session_never_panics_or_passes_the_bound(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
        drop in any::<proptest::sample::Index>(),
        dropped in 0..200_usize,
        cut in 1..5000_usize,
    ) {
        // The handshake is skipped by both sides of a mutation: its content proves nothing.
        let mut bytes = session();
        let start = client::handshake().len();
        for (at, value) in flips {
            let at = start + at.index(bytes.len() - start);
            bytes[at] = value;
        }
        let at = start + drop.index(bytes.len() - start);
        bytes.drain(at..(at + dropped).min(bytes.len()));
        drive(&bytes, cut, true);
    }

    #[test]
    fn random_messages_never_panic_or_pass_the_bound(
        messages in proptest::collection::vec((kind(), 2..64_u8, any::<u32>(), body()), 0..50),
        cut in 1..5000_usize,
    ) {
        let mut bytes = client::publish("live", "good-key-0123456789");
        client::message(VIDEO, 6, 0, AVC_SETUP, &mut bytes);
        client::message(AUDIO, 4, 0, AAC_SETUP, &mut bytes);
        for (kind, id, timestamp, body) in messages {
            client::message(kind, id, timestamp, &body, &mut bytes);
        }
        drive(&bytes, cut, true);
    }

    #[test]
    fn amf_that_was_written_reads_back(values in proptest::collection::vec(value(), 0..8)) {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| millstream_rtmp::amf0::write(value, &mut bytes));
        prop_assert_eq!(millstream_rtmp::amf0::read_all(&bytes), Ok(values));
    }
}

/// A message type; mostly those that are read.
fn kind() -> impl Strategy<Value = u8> {
    prop_oneof![3 => proptest::sample::select(vec![8_u8, 9, 15, 17, 18, 20, 22]), 1 => 0..24_u8]
}

/// A message's body: often the beginning of something real, cut and followed by anything.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let sub =
        [&[VIDEO, 0, 0, 13, 0, 0, 1, 0, 0, 0, 0], client::picture(true, 4).as_slice(), &[0; 4]].concat();
    let beginnings = vec![
        Vec::new(),
        AVC_SETUP.to_vec(),
        AAC_SETUP.to_vec(),
        client::picture(true, 4),
        b"\x97\x02\x00\x00\x00\x01avc1\x00\x00\x00".to_vec(),
        b"\x90mp4a\x12\x10".to_vec(),
        b"\x96\x13avc1\x01\x00\x00\x01\x09\x00\x00\x00\x02\x00\x00".to_vec(),
        b"\x90hvc1\x01".to_vec(),
        b"\x91Opus\xfc\xff\xfe".to_vec(),
        b"\x02\x00\x0aonMetaData\x08\x00\x00\x00\x01\x00\x05width\x00".to_vec(),
        sub.repeat(3),
    ];
    let cut = (proptest::sample::select(beginnings), any::<proptest::sample::Index>());
    (cut, proptest::collection::vec(any::<u8>(), 0..60)).prop_map(|((beginning, end), rest)| {
        let end = end.index(beginning.len() + 1);
        if end < beginning.len() { beginning[..end].to_vec() } else { [beginning, rest].concat() }
    })
}

fn value() -> impl Strategy<Value = millstream_rtmp::amf0::Value> {
    use millstream_rtmp::amf0::Value;
    let leaf = prop_oneof![
        (-1e300..1e300).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,20}".prop_map(Value::String),
        Just(Value::Null),
        Just(Value::Undefined),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(("[a-z]{1,8}", inner.clone()), 0..4).prop_map(Value::Object),
            proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}
