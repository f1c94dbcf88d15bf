//! The story of one connection, told from the publisher's side.

use std::time::Duration;

use crate::client::{self, AAC_SETUP, AUDIO, AVC_SETUP, VIDEO};
use bytes::Bytes;
use millstream_model::Instant;
use millstream_rtmp::{
    Config, Connection, Input, Limits, Output, Reason, Setup, Track,
    amf0::{self, Value},
    chunk::Reader,
};

const START: Instant = Instant::from_millis(1000);

fn connection() -> Connection {
    Connection::new(Config::default(), 1, START)
}

fn drain(connection: &mut Connection) -> Vec<Output> {
    std::iter::from_fn(|| connection.poll()).collect()
}

fn feed(connection: &mut Connection, bytes: &[u8]) -> Vec<Output> {
    connection.handle(Input::Received(Bytes::copy_from_slice(bytes)), START);
    drain(connection)
}

/// What the connection said, as commands: the first value and, of a status, its code and description.
fn said(outputs: &[Output]) -> Vec<(String, String, String)> {
    let sent: Vec<u8> = outputs
        .iter()
        .filter_map(|output| if let Output::Send(bytes) = output { Some(bytes.to_vec()) } else { None })
        .flatten()
        .collect();
    // S0, S1 and S2 stand first when the handshake is among it.
    let start = if sent.first() == Some(&3) && sent.len() > 3073 { 3073 } else { 0 };
    let mut input = Bytes::from(sent).slice(start..);
    let mut reader = Reader::new(Limits::ADMITTED);
    if start == 0 {
        // Told at the start, behind the handshake.
        reader.set_chunk_bytes(60_000).unwrap();
    }
    let mut said = Vec::new();
    while let Some(message) = reader.step(&mut input).unwrap() {
        if message.kind == client::SET_CHUNK_SIZE {
            reader.set_chunk_bytes(u32::from_be_bytes(*message.body.first_chunk().unwrap())).unwrap();
        }
        if message.kind == 20 {
            let values = amf0::read_all(&message.body).unwrap();
            let of = |name| values[3..].iter().find_map(|v| v.get(name)?.as_str()).unwrap_or_default();
            said.push((
                values[0].as_str().unwrap().to_owned(),
                of("code").to_owned(),
                of("description").to_owned(),
            ));
        }
    }
    said
}

fn reason(outputs: &[Output]) -> &Reason {
    match outputs.last() {
        Some(Output::Close { reason }) => reason,
        other => panic!("not closed: {other:?}"),
    }
}

fn publishing() -> Connection {
    let mut connection = connection();
    feed(&mut connection, &client::publish("live", "good-key-0123456789"));
    connection.handle(Input::Admitted, START);
    drain(&mut connection);
    connection
}

#[test]
fn a_publisher_is_answered_asked_about_and_heard() {
    let mut connection = connection();
    let outputs = feed(&mut connection, &client::publish("live", "good-key-0123456789?x=1"));
    let codes: Vec<_> = said(&outputs).into_iter().map(|(name, code, _)| (name, code)).collect();
    assert_eq!(codes[0], ("_result".into(), "NetConnection.Connect.Success".into()));
    assert_eq!(codes.len(), 4, "releaseStream, FCPublish and createStream are answered: {codes:?}");
    assert!(matches!(outputs.last(), Some(Output::Publish { key }) if key.expose() == "good-key-0123456789"));
    assert_eq!(connection.deadline(), None, "whoever checks the key takes its own time");

    connection.handle(Input::Admitted, START);
    assert_eq!(said(&drain(&mut connection))[0].1, "NetStream.Publish.Start");

    let mut media = Vec::new();
    client::message(VIDEO, 6, 0, AVC_SETUP, &mut media);
    client::message(AUDIO, 4, 0, AAC_SETUP, &mut media);
    client::message(VIDEO, 6, 40, &client::picture(true, 5000), &mut media);
    client::message(AUDIO, 4, 43, &[0xaf, 1, 0x21, 0x22], &mut media);
    let outputs = feed(&mut connection, &media);
    assert!(matches!(&outputs[0], Output::Config(Setup::Avc(record)) if record[..] == AVC_SETUP[5..]));
    assert!(matches!(&outputs[1], Output::Config(Setup::Aac(config)) if config[..] == AAC_SETUP[2..]));
    assert!(matches!(&outputs[2], Output::Frame(f) if f.track == Track::Video && f.dts_ms == 40
        && f.keyframe && f.data.len() == 5004));
    assert!(matches!(&outputs[3], Output::Frame(f) if f.track == Track::Audio && f.dts_ms == 43
        && f.data[..] == [0x21, 0x22]));

    let mut end = Vec::new();
    client::command(&[client::text("deleteStream"), Value::Number(6.0), Value::Null], &mut end);
    let outputs = feed(&mut connection, &end);
    assert_eq!(said(&outputs)[0].1, "NetStream.Unpublish.Success");
    assert_eq!(reason(&outputs), &Reason::Unpublished);
    assert_eq!(feed(&mut connection, &media), [], "nothing follows the end");
}

#[test]
fn a_show_goes_on_past_24_and_past_32_bits_of_milliseconds() {
    // 2^24 ms are 4 h 40 min, from where headers carry four more bytes; 2^32 are 49.7 days, where the clock starts anew.
    for bits in [24, 32] {
        let mut connection = publishing();
        let mut media = Vec::new();
        client::message(VIDEO, 6, 0, AVC_SETUP, &mut media);
        client::message(AUDIO, 4, 0, AAC_SETUP, &mut media);
        let first = (1_i64 << bits) - 400;
        let sent: Vec<i64> = (0..20).map(|n| first + n * 40).collect();
        for (n, dts_ms) in sent.iter().enumerate() {
            let timestamp = u32::try_from(dts_ms % (1 << 32)).unwrap();
            // Frames of several chunks, so that what follows a header repeats its time.
            client::message(VIDEO, 6, timestamp, &client::picture(n == 0, 500), &mut media);
            // Sound that is a little behind crosses later than the pictures.
            let behind = timestamp.wrapping_sub(21);
            client::message(AUDIO, 4, behind, &[0xaf, 1, 0x21, 0x22], &mut media);
        }
        let outputs = feed(&mut connection, &media);
        let times = |track| -> Vec<i64> {
            let time = |output: &Output| match output {
                Output::Frame(frame) if frame.track == track => Some(frame.dts_ms),
                _ => None,
            };
            outputs.iter().filter_map(time).collect()
        };
        assert_eq!(times(Track::Video), sent, "{bits}");
        assert_eq!(times(Track::Audio), sent.iter().map(|ms| ms - 21).collect::<Vec<_>>(), "{bits}");
    }
}

#[test]
fn the_same_bytes_one_by_one_tell_the_same_story() {
    let mut bytes = client::publish("live", "good-key-0123456789");
    let mut media = Vec::new();
    client::message(VIDEO, 6, 0, AVC_SETUP, &mut media);
    client::message(VIDEO, 6, 0x0100_0000, &client::picture(false, 700), &mut media);
    let (mut whole, mut single) = (connection(), connection());
    let mut expected = feed(&mut whole, &bytes);
    whole.handle(Input::Admitted, START);
    expected.extend(drain(&mut whole));
    expected.extend(feed(&mut whole, &media));

    let mut seen = Vec::new();
    let asked = bytes.len();
    bytes.extend(media);
    for (at, byte) in bytes.iter().enumerate() {
        if at == asked {
            single.handle(Input::Admitted, START);
        }
        seen.extend(feed(&mut single, &[*byte]));
    }
    let events = |outputs: Vec<Output>| -> Vec<Output> {
        outputs.into_iter().filter(|output| !matches!(output, Output::Send(_))).collect()
    };
    assert_eq!(events(seen), events(expected));
}

#[test]
fn media_that_comes_with_the_publish_request_waits_for_the_answer() {
    let mut bytes = client::publish("live", "good-key-0123456789");
    client::message(VIDEO, 6, 0, AVC_SETUP, &mut bytes);
    let mut connection = connection();
    assert!(matches!(feed(&mut connection, &bytes).last(), Some(Output::Publish { .. })));
    connection.handle(Input::Admitted, START);
    assert!(matches!(drain(&mut connection).last(), Some(Output::Config(_))));
}

#[test]
fn a_refused_key_is_told_so_by_bad_name_and_its_reason() {
    let mut connection = connection();
    feed(&mut connection, &client::publish("live", "wrong"));
    connection.handle(Input::Refused("this stream key is not known".into()), START);
    let outputs = drain(&mut connection);
    let (name, code, description) = said(&outputs).remove(0);
    assert_eq!((name.as_str(), code.as_str()), ("onStatus", "NetStream.Publish.BadName"));
    assert_eq!(description, "this stream key is not known");
    assert_eq!(reason(&outputs), &Reason::Refused("this stream key is not known".into()));
}

#[test]
fn another_application_is_refused_without_repeating_it() {
    let mut connection = connection();
    let outputs = feed(&mut connection, &client::publish("my-secret-key", "x"));
    let (name, code, description) = said(&outputs).remove(0);
    assert_eq!((name.as_str(), code.as_str()), ("_error", "NetConnection.Connect.InvalidApp"));
    assert!(description.contains("rtmp://host/live/"), "{description}");
    assert!(!format!("{outputs:?} {}", reason(&outputs)).contains("my-secret-key"));
    for app in ["live/", "live?a=b", "/live"] {
        let outputs = feed(&mut self::connection(), &client::publish(app, "k"));
        assert!(matches!(outputs.last(), Some(Output::Publish { .. })), "{app}");
    }
}

#[test]
fn players_and_commands_out_of_order_are_turned_away() {
    let mut bytes = client::handshake();
    let app = Value::Object(vec![("app".into(), client::text("live"))]);
    client::command(&[client::text("connect"), Value::Number(1.0), app], &mut bytes);
    client::command(&[client::text("play"), Value::Number(2.0), Value::Null, client::text("k")], &mut bytes);
    assert_eq!(reason(&feed(&mut connection(), &bytes)), &Reason::Play);

    let mut early = client::handshake();
    client::command(&[client::text("createStream"), Value::Number(1.0)], &mut early);
    assert_eq!(reason(&feed(&mut connection(), &early)), &Reason::Order("a command before connect"));

    let nobody = feed(&mut connection(), &client::publish("live", ""));
    assert!(matches!(reason(&nobody), Reason::Key(_)));
    assert_eq!(said(&nobody).last().unwrap().1, "NetStream.Publish.BadName");
}

#[test]
fn a_codec_that_is_not_taken_ends_the_publish_by_name() {
    let mut media = Vec::new();
    client::message(VIDEO, 6, 0, b"\x90vp09\x01", &mut media);
    let outputs = feed(&mut publishing(), &media);
    assert_eq!(said(&outputs)[0].2, "video is VP9 (vp09); send H.264, HEVC or AV1");
    assert!(matches!(reason(&outputs), Reason::Tag(_)));
}

#[test]
fn pings_are_answered_and_bytes_acknowledged_by_the_peers_window() {
    let mut connection = publishing();
    let mut bytes = Vec::new();
    client::message(4, 2, 0, &[0, 6, 1, 2, 3, 4], &mut bytes);
    let pong = feed(&mut connection, &bytes);
    assert!(matches!(&pong[..], [Output::Send(sent)] if sent.ends_with(&[0, 7, 1, 2, 3, 4])));

    bytes.clear();
    client::message(5, 2, 0, &1000_u32.to_be_bytes(), &mut bytes);
    feed(&mut connection, &bytes);
    bytes.clear();
    client::message(AUDIO, 4, 0, &[0; 1000], &mut bytes);
    let acknowledged = feed(&mut connection, &bytes);
    assert!(matches!(&acknowledged[..], [Output::Send(sent), ..] if sent[7] == 3));
}

#[test]
fn a_handshake_that_drips_is_cut_on_time_and_a_silent_publisher_too() {
    let config = Config::default();
    let mut slow = connection();
    let end = START + config.handshake_timeout;
    assert_eq!(slow.deadline(), Some(end));
    slow.handle(Input::Received(Bytes::from_static(&[3])), end - Duration::from_millis(1));
    assert_eq!(drain(&mut slow), []);
    slow.handle(Input::Received(Bytes::from_static(&[0])), end);
    assert_eq!(reason(&drain(&mut slow)), &Reason::Slow(config.handshake_timeout));

    let mut idle = publishing();
    let later = START + Duration::from_secs(5);
    idle.handle(Input::Received(Bytes::from_static(&[4])), later);
    assert_eq!(idle.deadline(), Some(later + config.idle_timeout));
    idle.handle(Input::Tick, START + config.idle_timeout);
    assert_eq!(drain(&mut idle), []);
    idle.handle(Input::Tick, later + config.idle_timeout);
    assert_eq!(reason(&drain(&mut idle)), &Reason::Idle(config.idle_timeout));
}
