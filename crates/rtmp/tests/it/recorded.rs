//! What real encoders sent, byte by byte, played back: here OBS Studio 29.0.2 with its simple output, from `connect` to
//! its first picture and two sounds. It says more than it needs to, keeps chunk streams to two and its keyframes far
//! apart; what ffmpeg and GStreamer send, the packager's tests hear live.

use bytes::Bytes;
use millstream_model::Instant;
use millstream_rtmp::{Config, Connection, Input, Output, Setup, Track};

use crate::client;

const OBS: &[u8] = include_bytes!("recorded/obs-29.0.2.rtmp");

const START: Instant = Instant::from_millis(1000);

/// Bytes of the recording up to and with the request to publish.
const REQUEST_BYTES: usize = 3_518 - 3_073;

/// Plays it back in pieces of `piece` bytes; admits it when it asks.
fn play(piece: usize) -> Vec<Output> {
    let mut connection = Connection::new(Config::default(), 1, START);
    let mut outputs = Vec::new();
    let recorded = [client::handshake().as_slice(), OBS].concat();
    for bytes in recorded.chunks(piece) {
        connection.handle(Input::Received(Bytes::copy_from_slice(bytes)), START);
        while let Some(output) = connection.poll() {
            let asks =
                matches!(&output, Output::Publish { key } if key.expose() == "key-of-a-test-in-27-letters");
            outputs.push(output);
            if asks {
                connection.handle(Input::Admitted, START);
            }
        }
    }
    outputs.retain(|output| !matches!(output, Output::Send(_)));
    outputs
}

#[test]
fn obs_is_understood_from_its_first_word_to_its_first_picture() {
    let outputs = play(1_460);
    assert!(matches!(outputs[0], Output::Publish { .. }), "{outputs:?}");
    let Output::Metadata(metadata) = &outputs[1] else { panic!("{outputs:?}") };
    assert!(metadata.encoder.as_deref().unwrap().contains("libobs version 29.0.2"), "{metadata:?}");
    assert_eq!((metadata.width, metadata.height), (Some(640.0), Some(360.0)));
    assert_eq!((metadata.video_kbps, metadata.audio_kbps), (Some(800.0), Some(128.0)));
    assert!(
        matches!(&outputs[2], Output::Config(Setup::Aac(config)) if config[..2] == [0x11, 0x90]),
        "{outputs:?}"
    );
    assert!(
        matches!(&outputs[3], Output::Config(Setup::Avc(record)) if record[..4] == [1, 0x42, 0xc0, 0x1e])
    );
    let frames: Vec<_> = outputs[4..]
        .iter()
        .map(|output| match output {
            Output::Frame(frame) => (frame.track, frame.dts_ms, frame.keyframe, frame.data.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (Track::Video, 0, true, 12_030 - 5),
        (Track::Audio, 0, true, 339 - 2),
        (Track::Audio, 21, true, 301 - 2),
    ];
    assert_eq!(frames, expected);
}

#[test]
fn obs_is_understood_however_the_network_cuts_it() {
    let whole = play(1 << 20);
    for piece in [1, 7, 128, REQUEST_BYTES, 4_096] {
        assert_eq!(play(piece), whole, "in pieces of {piece} bytes");
    }
}
