//! A thousand peers that mean no good, while somebody else publishes.

use std::{net::SocketAddr, time::Duration};

use millstream_packager::ingest::Config;
use millstream_segmenter::TrackKind;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::world::{
    config, media, next_publish, next_sample, push_for_ever, push_once, server, until, url, whole, within,
};

const INPUTS: u64 = 1000;

/// At once; fewer than may wait from one address.
const AT_ONCE: usize = 12;

/// SplitMix64: repeatable garbage.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// What ffmpeg really sends, taken down between it and a server.
async fn capture() -> Vec<u8> {
    let file = media(2, 4).await;
    let mut server = server(config()).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let encoder_url = url(&server, "fuzz")
        .replace(&server.local_addr().to_string(), &proxy.local_addr().unwrap().to_string());
    let encoder = push_once(&file, &encoder_url);
    let (near, _) = within(proxy.accept()).await.unwrap();
    let (mut from_encoder, mut to_encoder) = near.into_split();
    let (mut from_server, mut to_server) =
        TcpStream::connect(server.local_addr()).await.unwrap().into_split();
    let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_encoder).await });
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(len @ 1..) = from_encoder.read(&mut buffer).await {
            taken.extend_from_slice(&buffer[..len]);
            if to_server.write_all(&buffer[..len]).await.is_err() {
                break;
            }
        }
        taken
    });
    let mut publish = next_publish(&mut server).await;
    whole(&mut publish.events).await;
    within(encoder.wait_with_output()).await.unwrap();
    let taken = within(taking).await.unwrap();
    answers.abort();
    assert!(taken.len() > 100_000, "{}", taken.len());
    taken
}

/// Garbage number `seed`.
fn garbage(seed: u64, capture: &[u8]) -> Vec<u8> {
    let chance = &mut Chance(seed);
    let handshake = &capture[..3073];
    match seed % 5 {
        0 => {
            let len = chance.below(5000);
            chance.bytes(len)
        }
        1 => handshake[..chance.below(3073)].to_vec(),
        2 => {
            let len = chance.below(5000);
            [handshake, &chance.bytes(len)].concat()
        }
        3 => capture[..chance.below(capture.len())].to_vec(),
        _ => {
            let mut bytes = capture.to_vec();
            for _ in 0..=chance.below(20) {
                // Half of the blows land among the commands, where there is most to break.
                let reach = if chance.below(2) == 0 { 1500 } else { bytes.len() - 3073 };
                let at = 3073 + chance.below(reach);
                bytes[at] = chance.bytes(1)[0];
            }
            let cut = chance.below(bytes.len());
            let end = (cut + chance.below(300)).min(bytes.len());
            bytes.drain(cut..end);
            bytes
        }
    }
}

async fn attack(address: SocketAddr, bytes: Vec<u8>) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = socket.split();
    let mut sink = tokio::io::sink();
    let talk = async {
        let sent = async {
            let _ = write.write_all(&bytes).await;
            let _ = write.shutdown().await;
        };
        let _ = tokio::join!(sent, tokio::io::copy(&mut read, &mut sink));
    };
    // Every attack must come to its end by the server's doing.
    within(talk).await;
}

#[tokio::test]
async fn a_thousand_garbage_inputs_harm_nobody_elses_stream() {
    let capture = capture().await;
    let file = media(0, 60).await;
    let mut server = server(Config { handshake_timeout_ms: 2_000, ..config() }).await;
    let address = server.local_addr();
    let encoder = push_for_ever(&file, &url(&server, "victim"));
    let mut victim = next_publish(&mut server).await;
    let mut last = next_sample(&mut victim.events, TrackKind::Video).await.dts_ms;

    let attacks = tokio::spawn(async move {
        let mut running = JoinSet::new();
        for seed in 0..INPUTS {
            while running.len() >= AT_ONCE {
                running.join_next().await;
            }
            running.spawn(attack(address, garbage(seed, &capture)));
        }
        running.join_all().await.len()
    });
    // Mutated captures hold a good key now and then: their streams are taken and thrown away.
    let mut others = JoinSet::new();
    let mut admitted = 0;
    while !attacks.is_finished() {
        tokio::select! {
            sample = next_sample(&mut victim.events, TrackKind::Video) => {
                assert!((30..=37).contains(&(sample.dts_ms - last)), "{last} {}", sample.dts_ms);
                last = sample.dts_ms;
            }
            publish = server.publish() => {
                admitted += 1;
                let mut publish = publish.unwrap();
                assert_ne!(publish.stream.as_str(), "victim");
                others.spawn(async move { whole(&mut publish.events).await.1 });
            }
        }
    }
    within(attacks).await.unwrap();
    assert!(admitted > 50, "only {admitted} attacks got past the key: they must reach the media too");
    for _ in 0..30 {
        let sample = next_sample(&mut victim.events, TrackKind::Video).await;
        assert!((30..=37).contains(&(sample.dts_ms - last)), "{last} {}", sample.dts_ms);
        last = sample.dts_ms;
    }
    until(|| server.counts().connections == 1).await;
    assert_eq!(server.counts().turned_away, 0, "each attack was heard");
    drop(encoder);
    within(async { while others.join_next().await.is_some() {} }).await;
    tokio::time::timeout(Duration::from_secs(5), whole(&mut victim.events)).await.unwrap();
}
