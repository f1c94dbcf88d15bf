//! The `webrtc` crate, an implementation of the whole of WebRTC, connects to an edge like a page does: it makes an
//! offer and is given an answer that was written without asking the edge.
#![cfg(test)]

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use millstream_datachannel::{
    Address, Candidates, Certificate, Channel, CloseReason, Connection, Listener, Message, listen,
};
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use tokio::time::timeout;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription,
        SettingEngineBuilder,
    },
};

mod gate;
mod relay;

use gate::Gate;
use relay::{Relay, Weather};

const PATIENCE: Duration = Duration::from_secs(10);

struct Quiet;

impl PeerConnectionEventHandler for Quiet {}

fn listener() -> Listener {
    let bind = "127.0.0.1:0".parse().unwrap();
    Listener::bind(listen::Config::new(bind, Certificate::generate().unwrap()).unwrap()).unwrap()
}

async fn page() -> impl PeerConnection {
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        // It takes 64 KiB by default; a viewer must take a whole piece with its header.
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(65_600))
        .build();
    PeerConnectionBuilder::new()
        .with_handler(Arc::new(Quiet))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .with_setting_engine(settings)
        .build()
        .await
        .unwrap()
}

/// The two channels that both sides have agreed on beforehand: control and pieces.
async fn negotiate(peer: &impl PeerConnection) -> [Arc<dyn DataChannel>; 2] {
    let negotiated =
        |id, ordered| Some(RTCDataChannelInit { negotiated: Some(id), ordered, ..Default::default() });
    [
        peer.create_data_channel("control", negotiated(0, true)).await.unwrap(),
        peer.create_data_channel("pieces", negotiated(1, false)).await.unwrap(),
    ]
}

async fn connect(peer: &impl PeerConnection, address: &Address, listener: &mut Listener) -> Connection {
    let offer = peer.create_offer(None).await.unwrap();
    peer.set_local_description(offer).await.unwrap();
    let answer = RTCSessionDescription::answer(answer(address)).unwrap();
    peer.set_remote_description(answer).await.unwrap();
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webrtc_crate_connects_and_exchanges_messages() {
    let mut listener = listener();
    let peer = page().await;
    let [control, pieces] = negotiate(&peer).await;
    let address = listener.address().clone();
    let edge = connect(&peer, &address, &mut listener).await;
    let offered = peer.local_description().await.unwrap().sdp;
    assert!(offered.to_uppercase().contains(&sdp(&edge.remote_fingerprint().0)), "{offered}");

    for (channel, theirs) in [(Channel::Control, &control), (Channel::Pieces, &pieces)] {
        opened(theirs).await;
        for length in [1, 1_200, 65_536, 65_600] {
            let sent = Bytes::from(vec![u8::try_from(length % 251).unwrap(); length]);
            edge.send(channel, sent.clone()).await.unwrap();
            assert_eq!(received(theirs).await, sent);
            theirs.send(BytesMut::from(&sent[..])).await.unwrap();
            let message = timeout(PATIENCE, edge.recv()).await.unwrap().unwrap();
            assert_eq!(message, Message { channel, bytes: sent });
        }
    }

    peer.close().await.unwrap();
    assert_eq!(timeout(PATIENCE, edge.closed()).await.unwrap(), CloseReason::Peer);
}

/// An ICE agent of other hands answers the edge's checks, and finds it by them where nobody told it that it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_webrtc_crate_is_let_in_by_an_edge_behind_nat() {
    for maps_per_destination in [false, true] {
        let mut listener = listener();
        let mut gate = Gate::start(listener.local_addr(), maps_per_destination).await;
        let peer = page().await;
        let [control, _pieces] = negotiate(&peer).await;
        let offer = peer.create_offer(None).await.unwrap();
        peer.set_local_description(offer).await.unwrap();
        let address = Address { socket: gate.front, ..listener.address().clone() };
        let answer = RTCSessionDescription::answer(answer(&address).replace("a=ice-lite\r\n", "")).unwrap();
        peer.set_remote_description(answer).await.unwrap();

        let mut told = whereabouts(&peer).await;
        let nobody = timeout(Duration::from_secs(1), listener.accept()).await;
        assert!(nobody.is_err(), "nobody has opened the gate");
        for candidate in &mut told.candidates {
            *candidate = gate.towards(*candidate).await;
        }
        let _reaching = listener.traversal().reach("session", told).unwrap();
        let edge = timeout(PATIENCE, listener.accept()).await.expect("it is let in").unwrap();
        opened(&control).await;
        edge.send(Channel::Control, Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(received(&control).await, "hello");
        peer.close().await.unwrap();
    }
}

/// What a page signals, read from its own description.
async fn whereabouts(peer: &impl PeerConnection) -> Candidates {
    for _ in 0..1_000 {
        let sdp = peer.local_description().await.unwrap().sdp;
        let value = |name: &str| {
            let line = sdp.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let candidates = sdp.lines().filter(|line| line.starts_with("a=candidate:")).filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            format!("{}:{}", words.get(4)?, words.get(5)?).parse().ok()
        });
        let mut candidates: Vec<std::net::SocketAddr> = candidates.collect();
        candidates.sort_unstable();
        candidates.dedup();
        if !candidates.is_empty() {
            return Candidates { ufrag: value("a=ice-ufrag:"), password: value("a=ice-pwd:"), candidates };
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // waits because nobody is told of a candidate
    }
    panic!("it has no candidates");
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_cross_both_ways() {
    let mut listener = listener();
    let address = listener.address().clone();
    exchange(&mut listener, &address, 32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_cross_a_path_that_loses_repeats_and_reorders() {
    let mut listener = listener();
    let relay = Relay::start(listener.local_addr()).await;
    let address = Address { socket: relay.front, ..listener.address().clone() };
    relay.weather.send_replace(Weather::Unruly(150));
    let edge = exchange(&mut listener, &address, 8).await;
    assert!(edge.stats().retransmits > 0, "nothing was lost");
}

/// `count` pieces on each channel, both ways at once.
async fn exchange(listener: &mut Listener, address: &Address, count: u8) -> Connection {
    let peer = page().await;
    let channels = negotiate(&peer).await;
    let edge = connect(&peer, address, listener).await;
    let mut senders = Vec::new();
    for (channel, theirs) in [Channel::Control, Channel::Pieces].into_iter().zip(&channels) {
        opened(theirs).await;
        let (edge, theirs) = (edge.clone(), theirs.clone());
        senders.push(tokio::spawn(async move {
            for number in 0..count {
                edge.send(channel, message(number)).await.unwrap();
                theirs.send(BytesMut::from(&message(number)[..])).await.unwrap();
            }
        }));
    }
    let [control, pieces] = &channels;
    let ours = async {
        let mut numbers = [Vec::new(), Vec::new()];
        for _ in 0..2 * count {
            let message = timeout(PATIENCE, edge.recv()).await.expect("everything comes").unwrap();
            numbers[usize::from(message.channel == Channel::Pieces)].push(number_of(&message.bytes));
        }
        numbers
    };
    let theirs = async |channel| {
        let mut numbers = Vec::new();
        while numbers.len() < usize::from(count) {
            numbers.push(number_of(&received(channel).await));
        }
        numbers
    };
    let (ours, [theirs_control, theirs_pieces]) = tokio::join!(ours, async {
        let (control, pieces) = tokio::join!(theirs(control), theirs(pieces));
        [control, pieces]
    });
    for [control, mut pieces] in [ours, [theirs_control, theirs_pieces]] {
        pieces.sort_unstable();
        assert!(control.into_iter().eq(0..count), "in order");
        assert!(pieces.into_iter().eq(0..count), "each once");
    }
    for sender in senders {
        timeout(PATIENCE, sender).await.unwrap().unwrap();
    }
    peer.close().await.unwrap();
    assert_eq!(timeout(PATIENCE, edge.closed()).await.unwrap(), CloseReason::Peer);
    edge
}

/// RFC 8832: whoever is the DTLS client opens even streams. The first is our control channel.
#[tokio::test(flavor = "multi_thread")]
async fn channels_that_the_page_opens_by_itself_are_answered() {
    let mut listener = listener();
    let peer = page().await;
    let control = peer.create_data_channel("control", None).await.unwrap();
    let own = peer.create_data_channel("its own", None).await.unwrap();
    let address = listener.address().clone();
    let edge = connect(&peer, &address, &mut listener).await;
    opened(&control).await;
    opened(&own).await;
    own.send(BytesMut::from(&message(1)[..])).await.unwrap();
    for number in 0..16 {
        control.send(BytesMut::from(&message(number)[..])).await.unwrap();
        let heard = timeout(PATIENCE, edge.recv()).await.unwrap().unwrap();
        assert_eq!((heard.channel, number_of(&heard.bytes)), (Channel::Control, number));
        edge.send(Channel::Control, heard.bytes).await.unwrap();
        assert_eq!(number_of(&received(&control).await), number);
    }
    peer.close().await.unwrap();
    assert_eq!(timeout(PATIENCE, edge.closed()).await.unwrap(), CloseReason::Peer);
}

/// The `number`th piece: all its bytes say which one it is.
fn message(number: u8) -> Bytes {
    (0..65_536_u32).map(|at| u8::try_from(at % 251).unwrap() ^ number).collect::<Vec<_>>().into()
}

/// Whole, and which one.
fn number_of(bytes: &[u8]) -> u8 {
    let number = bytes[0];
    assert!(*bytes == message(number)[..], "piece {number} is not what was sent");
    number
}

async fn opened(channel: &Arc<dyn DataChannel>) {
    loop {
        match timeout(PATIENCE, channel.poll()).await.expect("the channel opens") {
            Some(DataChannelEvent::OnOpen) => return,
            Some(_) => {}
            None => panic!("the channel closed"),
        }
    }
}

async fn received(channel: &Arc<dyn DataChannel>) -> Bytes {
    loop {
        match timeout(PATIENCE, channel.poll()).await.expect("a message comes") {
            Some(DataChannelEvent::OnMessage(message)) => return message.data.freeze(),
            Some(_) => {}
            None => panic!("the channel closed"),
        }
    }
}

/// What `docs/protocol/transport.md` tells a page to write.
fn answer(address: &Address) -> String {
    [
        "v=0".to_owned(),
        "o=- 1 1 IN IP4 0.0.0.0".to_owned(),
        "s=-".to_owned(),
        "t=0 0".to_owned(),
        "a=ice-lite".to_owned(),
        "a=group:BUNDLE 0".to_owned(),
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel".to_owned(),
        "c=IN IP4 0.0.0.0".to_owned(),
        "a=mid:0".to_owned(),
        format!("a=ice-ufrag:{}", address.ufrag),
        format!("a=ice-pwd:{}", address.password),
        format!("a=fingerprint:sha-256 {}", sdp(address.fingerprint.as_bytes())),
        "a=setup:passive".to_owned(),
        "a=sctp-port:5000".to_owned(),
        "a=max-message-size:65600".to_owned(),
        format!("a=candidate:1 1 udp 2113937151 {} {} typ host", address.socket.ip(), address.socket.port()),
        "a=end-of-candidates".to_owned(),
        String::new(),
    ]
    .join("\r\n")
}

/// A fingerprint as it stands in an SDP.
fn sdp(fingerprint: &[u8; 32]) -> String {
    let mut text = String::new();
    for byte in fingerprint {
        write!(text, "{byte:02X}:").unwrap();
    }
    text.trim_end_matches(':').to_owned()
}
