//! The `webrtc` crate, an implementation of the whole of WebRTC, connects to an edge like a page does: it makes an
//! offer and is given an answer that was written without asking the edge.
#![cfg(test)]

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use millstream_datachannel::{Address, Certificate, Channel, CloseReason, Listener, Message, listen};
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use tokio::time::timeout;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription,
        SettingEngineBuilder,
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Quiet;

impl PeerConnectionEventHandler for Quiet {}

#[tokio::test(flavor = "multi_thread")]
async fn the_webrtc_crate_connects_and_exchanges_messages() {
    let config =
        listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap();
    let mut listener = Listener::bind(config).unwrap();

    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        // It takes 64 KiB by default; a viewer must take a whole piece with its header.
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(65_600))
        .build();
    let peer = PeerConnectionBuilder::new()
        .with_handler(Arc::new(Quiet))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .with_setting_engine(settings)
        .build()
        .await
        .unwrap();
    let negotiated =
        |id, ordered| Some(RTCDataChannelInit { negotiated: Some(id), ordered, ..Default::default() });
    let control = peer.create_data_channel("control", negotiated(0, true)).await.unwrap();
    let pieces = peer.create_data_channel("pieces", negotiated(1, false)).await.unwrap();
    let offer = peer.create_offer(None).await.unwrap();
    peer.set_local_description(offer).await.unwrap();
    let answer = answer(listener.address());
    peer.set_remote_description(RTCSessionDescription::answer(answer).unwrap()).await.unwrap();

    let edge = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
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
